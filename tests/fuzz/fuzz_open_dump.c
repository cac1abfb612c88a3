/*
 * fuzz_open_dump.c - celldump's own functions over bytes in memory: this program's celldump opens the device below
 * instead of a file, does not sleep, and prints to nowhere.
 */
#include "celldump.h"
#include "fuzz_device.h"
#include "fuzz_open.h"

#include <cellar/sums.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* By the linker in the place of the functions with these names. */
int __wrap_cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device);
int __wrap_cellar_sums_check(const char *path, const struct cellar_sums_options *options,
                             struct cellar_sums_report *ret_report);
int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_rest);
int __wrap_stat(const char *path, struct stat *ret_status);
int __real_stat(const char *path, struct stat *ret_status);

static const char no_path[] = "no file";

static struct fuzz_device file;
static const uint8_t *file_bytes;
static size_t file_length_bytes;

int __wrap_cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device)
{
    (void)path;
    (void)mode;
    FUZZ_NEEDS(flags == CELLAR_OPEN_READ);
    file =
        (struct fuzz_device){.capacity_bytes = file_length_bytes, .size_bytes = file_length_bytes, .read_only = true};
    *ret_device = fuzz_device_open(&file);
    memcpy(file.bytes, file_bytes, file_length_bytes);
    return 0;
}

/* A file in memory has nothing beside it. */
int __wrap_cellar_sums_check(const char *path, const struct cellar_sums_options *options,
                             struct cellar_sums_report *ret_report)
{
    (void)path;
    (void)options;
    *ret_report = (struct cellar_sums_report){.state = CELLAR_SUMS_NONE};
    return 0;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_rest)
{
    (void)time;
    (void)ret_rest;
    return 0;
}

int __wrap_stat(const char *path, struct stat *ret_status)
{
    if (path != no_path)
        return __real_stat(path, ret_status);
    errno = ENOENT;
    return -1;
}

static ssize_t write_nowhere(void *cookie, const char *bytes, size_t length_bytes)
{
    (void)cookie;
    (void)bytes;
    return (ssize_t)length_bytes;
}

static FILE *nowhere(void)
{
    static FILE *stream;

    if (stream == NULL)
        stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_nowhere});
    FUZZ_NEEDS(stream != NULL);
    return stream;
}

/* A cell to ask for: those that the header names as often as any others. */
static uint32_t choose_cell(const struct cellar_dump *dump, uint32_t choice)
{
    const struct cellar_state *disk = cellar_dump_state_of(dump, dump->disk);
    const struct cellar_state *process = cellar_dump_state_of(dump, dump->process);

    switch (choice % 8) {
    case 0:
        return disk != NULL ? disk->root_index : 0;
    case 1:
        return process != NULL ? process->root_index : 0;
    case 2:
        return disk != NULL ? disk->next_index - 1 : UINT32_MAX;
    case 3:
        return process != NULL ? process->next_index : UINT32_MAX;
    default:
        return choice / 8 % (uint32_t)(dump->cell_count + 2);
    }
}

static int run_another(struct cellar_dump *dump, uint32_t choice)
{
    struct cellar_dump_options options = {.index = choose_cell(dump, choice >> 8),
                                          .count = 1 + (choice >> 4) % 3,
                                          .raw = (choice & 16) != 0,
                                          .json = (choice & 48) == 32};

    switch (choice % 8) {
    case 0:
        return cellar_dump_info(dump, &options);
    case 1:
        return cellar_dump_header(dump, &options);
    case 2:
        return cellar_dump_cell(dump, &options);
    case 3:
    case 4:
    case 5:
        return cellar_dump_value(dump, &options);
    default:
        options.json = true;
        return cellar_dump_check(dump, &options);
    }
}

static int run(uint32_t choice, const struct cellar_key *key, bool other)
{
    static const struct cellar_dump_options plain = {.count = 1};
    struct cellar_dump dump;
    int exit_code = CELLAR_EXIT_SYSTEM;

    if (cellar_dump_open(&dump, no_path, key) == 0)
        exit_code = other ? run_another(&dump, choice) : cellar_dump_check(&dump, &plain);
    cellar_dump_close(&dump);
    return exit_code;
}

int fuzz_open_dump(const uint8_t *bytes, size_t length_bytes, uint32_t choice, const struct cellar_key *key)
{
    FILE *out = stdout, *err = stderr;
    int checked, other;

    file_bytes = bytes;
    file_length_bytes = length_bytes;
    stdout = stderr = nowhere();
    checked = run(choice, key, false);
    other = run(choice, key, true);
    stdout = out;
    stderr = err;
    FUZZ_NEEDS(checked == CELLAR_EXIT_DONE || checked == CELLAR_EXIT_RECOVERABLE || checked == CELLAR_EXIT_CORRUPT);
    FUZZ_NEEDS(other == CELLAR_EXIT_DONE || other == CELLAR_EXIT_RECOVERABLE || other == CELLAR_EXIT_CORRUPT ||
               other == CELLAR_EXIT_SYSTEM);
    return checked;
}
