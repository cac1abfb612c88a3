/*
 * calls.c - which functions of the library a program has called. The library, compiled with -finstrument-functions,
 * says so in a file named by $CELLAR_CALLS: byte n is 1 where the function at n bytes from the start of the
 * library was entered. The file is mapped and shared, so that children count, also those that are killed.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CALLS_BYTES = 1 << 22 };

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
static unsigned char *calls;

void __cyg_profile_func_enter(void *function, void *from) __attribute__((no_instrument_function));
void __cyg_profile_func_exit(void *function, void *from) __attribute__((no_instrument_function));

/* By system calls, as some programs have functions of their own in place of the C library's. */
__attribute__((constructor, no_instrument_function)) static void begin(void)
{
    const char *path = getenv("CELLAR_CALLS");
    long descriptor = path == NULL ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    long memory;

    if (descriptor < 0)
        return;
    memory = syscall(SYS_mmap, NULL, CALLS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (memory > 0)
        calls = (unsigned char *)memory;
}

void __cyg_profile_func_enter(void *function, void *from)
{
    uintptr_t at = (uintptr_t)function - (uintptr_t)__ehdr_start;

    (void)from;
    if (calls != NULL && at < CALLS_BYTES)
        calls[at] = 1;
}

void __cyg_profile_func_exit(void *function, void *from)
{
    (void)function;
    (void)from;
}
