/* For libraries that are loaded before the C library: calls through `syscall` that they refuse. */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>

enum { SYSCALL_WORDS = 6 };

/* The library says: the errno that this call fails with; 0: it is carried out. */
static int refusal(long number);

long syscall(long number, ...) {
    static long (*real)(long, ...);
    long word[SYSCALL_WORDS];
    va_list words;
    int error = refusal(number);
    if (error) {
        errno = error;
        return -1;
    }
    va_start(words, number);
    for (int at = 0; at < SYSCALL_WORDS; at++)
        word[at] = va_arg(words, long);
    va_end(words);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
