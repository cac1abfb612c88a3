/*
 * path_window.c - says which data path a store with default options takes, for its writer and for a reader, and fails
 * unless it is the window wherever this machine can give one.
 *
 * Exit code: 0 the window path was taken; 77 it can't be taken here (why is printed); 1 it could and wasn't, or
 * something else went wrong.
 */
#include <cellar/cellar.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, BYTES_PER_CELL = 32 };

static const uint64_t whole_window_bytes = (uint64_t)BYTES_PER_CELL * CELLAR_MAX_INDEX_DEFAULT;

/* Asked of the system, not of the library: why the file at path can't be mapped as a whole; NULL where it can. */
static const char *reason_for_no_window(const char *path)
{
    static const long copying[] = {0x9123683E, 0x2FC12FC1, 0xCA451A4E}; /* btrfs, ZFS, bcachefs */
    struct statfs system;
    void *base;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstatfs(fd, &system) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    base = mmap(NULL, whole_window_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    close(fd);
    if (base == MAP_FAILED)
        return strerror(errno);
    munmap(base, whole_window_bytes);
    for (size_t i = 0; i < sizeof copying / sizeof copying[0]; i++)
        if ((long)system.f_type == copying[i])
            return "the file system copies on write";
    return NULL;
}

static const char *path_name(const struct cellar_info *info)
{
    return info->data_path == CELLAR_PATH_WINDOW ? "window path taken" : "pages path taken";
}

/* Makes a store with default options, with one cell in it, and opens it for read. 0 or the library's error. */
static int open_both(const char *path, struct cellar_info *ret_writer, struct cellar_info *ret_reader)
{
    struct cellar_config config = {.head = "CELLAR path test    ",
                                   .bytes_per_cell = BYTES_PER_CELL,
                                   .max_index = CELLAR_MAX_INDEX_DEFAULT,
                                   .version = 1};
    unsigned char cell[BYTES_PER_CELL] = {1};
    struct cellar_writer *writer;
    struct cellar_reader *reader;
    uint32_t index;
    int error = cellar_writer_create(path, &config, NULL, &writer);

    if (error != 0)
        return error;
    error = cellar_writer_append(writer, cell, 1, &index);
    if (error == 0)
        error = cellar_writer_flush(writer);
    if (error == 0)
        error = cellar_reader_open(path, NULL, &reader);
    if (error == 0) {
        cellar_writer_info(writer, ret_writer);
        cellar_reader_info(reader, ret_reader);
        cellar_reader_close(reader);
    }
    cellar_writer_abandon(writer);
    return error;
}

static int judge(const char *path)
{
    struct cellar_info writer = {0}, reader = {0};
    const char *reason;
    int error = open_both(path, &writer, &reader);

    if (error != 0) {
        fprintf(stderr, "path_window: %s: %s\n", path, cellar_strerror(error));
        return EXIT_FAILURE;
    }
    printf("writer: %s (device %s, %" PRIu64 " bytes reserved)\n", path_name(&writer), writer.device_name,
           writer.window_bytes);
    printf("reader: %s (device %s, %" PRIu64 " bytes reserved)\n", path_name(&reader), reader.device_name,
           reader.window_bytes);
    reason = reason_for_no_window(path);
    if (reason != NULL) {
        printf("no whole window can be had here: %s\n", reason);
        return EXIT_SKIPPED;
    }
    if (writer.window_bytes < whole_window_bytes || reader.window_bytes < whole_window_bytes)
        fprintf(stderr, "path_window: %" PRIu64 " bytes can be mapped here and were not\n", whole_window_bytes);
    else if (writer.data_path == CELLAR_PATH_WINDOW && reader.data_path == CELLAR_PATH_WINDOW)
        return EXIT_SUCCESS;
    return EXIT_FAILURE;
}

int main(void)
{
    char path[] = "path_window.XXXXXX/store";
    char *slash = strrchr(path, '/');
    int status;

    *slash = '\0';
    if (mkdtemp(path) == NULL) {
        perror(path);
        return EXIT_FAILURE;
    }
    *slash = '/';
    status = judge(path);
    unlink(path);
    *slash = '\0';
    rmdir(path);
    return status;
}
