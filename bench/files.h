/* files.h - the directory of a run, the numbers of its data, and how it ends early. */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include <stddef.h>
#include <stdint.h>

/* Makes a fresh directory in parent; NULL or empty: the current directory. 0 or a negative errno. */
int bench_directory_make(const char *parent, char *directory, size_t capacity_bytes);

/* Removes a directory and what is in it. 0 or a negative errno. */
int bench_remove_tree(const char *path);

/* What the files in a directory take: blocks of the disk, and their lengths, in bytes. 0 or a negative errno. */
int bench_tree_bytes(const char *path, uint64_t *ret_disk_bytes, uint64_t *ret_length_bytes);

/* Writes a file, or the files of a directory, back and has the kernel forget their pages; those that somebody has
 * mapped stay. *ret_resident: the part of them (0..1) that is still in memory. 0 or a negative errno. One thread. */
int bench_drop_cached(const char *path, double *ret_resident);

/* Has the file system of a directory write back what was written so far, so that it doesn't while the clock runs. */
void bench_settle(const char *directory);

/* SIGINT, SIGTERM and SIGHUP end the run after what is being timed, so that the directory is removed. */
void bench_catch_signals(void);

/* A fast generator (splitmix64): the next number of the sequence that *state stands in. */
uint64_t bench_random(uint64_t *state);

/* What /proc/self/io says of this process, with all its threads, under that name: "read_bytes", ... */
int bench_io_count(const char *name, uint64_t *ret_count);

#endif
