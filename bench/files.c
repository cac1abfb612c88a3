#include "files.h"

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int bench_directory_make(const char *parent, char *directory, size_t capacity_bytes)
{
    int length;

    if (parent == NULL || parent[0] == '\0')
        parent = ".";
    length = snprintf(directory, capacity_bytes, "%s/cellar-bench-XXXXXX", parent);
    if (length < 0 || (size_t)length >= capacity_bytes)
        return -ENAMETOOLONG;
    return mkdtemp(directory) == NULL ? -errno : 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)status;
    (void)type;
    (void)position;
    return remove(path) < 0 ? -errno : 0;
}

int bench_remove_tree(const char *path)
{
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* nftw has no argument of its own. */
static struct {
    uint64_t disk_bytes, length_bytes;
    uint64_t pages, resident_pages;
} visited;

static int measure_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)path;
    (void)position;
    if (type == FTW_F) {
        visited.disk_bytes += (uint64_t)status->st_blocks * 512;
        visited.length_bytes += (uint64_t)status->st_size;
    }
    return 0;
}

int bench_tree_bytes(const char *path, uint64_t *ret_disk_bytes, uint64_t *ret_length_bytes)
{
    memset(&visited, 0, sizeof visited);
    if (nftw(path, measure_entry, 16, FTW_PHYS) != 0)
        return -errno;
    *ret_disk_bytes = visited.disk_bytes;
    *ret_length_bytes = visited.length_bytes;
    return 0;
}

/* Counts the pages of a file that are in memory. */
static int count_resident(int fd, size_t length_bytes)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (length_bytes + page_bytes - 1) / page_bytes;
    unsigned char *states = malloc(pages);
    void *mapped = mmap(NULL, length_bytes, PROT_READ, MAP_SHARED, fd, 0);
    int status = 0;

    if (states == NULL || mapped == MAP_FAILED)
        status = -ENOMEM;
    else if (mincore(mapped, length_bytes, states) < 0)
        status = -errno;
    for (size_t i = 0; i < pages && status == 0; i++)
        visited.resident_pages += states[i] & 1;
    visited.pages += pages;
    if (mapped != MAP_FAILED)
        munmap(mapped, length_bytes);
    free(states);
    return status;
}

static int drop_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
    int error = 0;
    int fd;

    (void)position;
    if (type != FTW_F || status->st_size == 0)
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fdatasync(fd) < 0)
        error = -errno;
    if (error == 0)
        error = -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (error == 0)
        error = count_resident(fd, (size_t)status->st_size);
    close(fd);
    return error;
}

int bench_drop_cached(const char *path, double *ret_resident)
{
    int status;

    memset(&visited, 0, sizeof visited);
    status = nftw(path, drop_entry, 16, FTW_PHYS);
    if (status != 0)
        return status == -1 ? -errno : status;
    *ret_resident = visited.pages != 0 ? (double)visited.resident_pages / (double)visited.pages : 0.0;
    return 0;
}

void bench_settle(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        syncfs(fd);
        close(fd);
    }
}

static void interrupt(int number)
{
    (void)number;
    bench_interrupted = 1;
}

void bench_catch_signals(void)
{
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESTART | (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

uint64_t bench_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

int bench_io_count(const char *name, uint64_t *ret_count)
{
    FILE *file = fopen("/proc/self/io", "re");
    size_t name_bytes = strlen(name);
    unsigned long long count;
    int status = -ENODATA;
    char line[128];

    if (file == NULL)
        return -errno;
    while (status != 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, name_bytes) == 0 && sscanf(line + name_bytes, ": %llu", &count) == 1) {
            *ret_count = count;
            status = 0;
        }
    }
    fclose(file);
    return status;
}
