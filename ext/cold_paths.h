/* Included before everything else, in what Cython and what mypyc translate: errors are rare.
 *
 * Both test the result of nearly every call and write down a traceback where it is an error. The
 * compiler cannot know which way is the usual one, and lays both out side by side. Of a function that
 * is cold it does: what leads to it goes to a part of the library that is hardly ever read, and the
 * usual way becomes dense. A process that lost the processor finds less of it gone from the caches.
 */
#ifndef PYRAFT_FAST_COLD_PATHS_H
#define PYRAFT_FAST_COLD_PATHS_H

#include <Python.h>

#define COLD __attribute__((cold, unused))

COLD static void __Pyx_AddTraceback(const char *, int, int, const char *);

COLD void CPy_AddTraceback(const char *, const char *, int, PyObject *);
COLD void CPy_TypeErrorTraceback(
    const char *, const char *, int, PyObject *, const char *, PyObject *);
COLD void CPy_TypeError(const char *, PyObject *);
COLD void CPy_AttributeError(
    const char *, const char *, const char *, const char *, int, PyObject *);
COLD void CPyError_OutOfMemory(void);

#endif
