/* For libraries that are loaded before the C library and define `syscall`: the one behind them. */
#include <dlfcn.h>
#include <stdarg.h>

enum { SYSCALL_WORDS = 6 };

static long real_syscall(long number, va_list words) {
    static long (*real)(long, ...);
    long word[SYSCALL_WORDS];
    for (int at = 0; at < SYSCALL_WORDS; at++)
        word[at] = va_arg(words, long);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
