/* machine.h - what the figures were measured on, for people and for --json. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

struct bench_machine {
    char processor[128];
    unsigned cores; /* online */
    uint64_t memory_bytes;
    char kernel[200];              /* name, release and architecture */
    char file_system[64];          /* its type, "ext4" */
    char file_system_options[256]; /* as mounted */
    const char *compiler;
    const char *build; /* the build type of the bench and the library, "Release" */
    char date[32];     /* UTC, ISO 8601 */
};

/* Describes the machine and the file system that directory is on. What can't be found out is "unknown" or 0. */
void bench_machine_describe(const char *directory, struct bench_machine *ret_machine);

#endif
