/* kind_kernel.c - pread(2): from the kernel's page cache, or past it (O_DIRECT; whole pages, into aligned memory). */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct file {
    int fd;
    bool direct;
};

static int file_open(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count,
                     void **ret_reader)
{
    struct file *file = malloc(sizeof *file);
    int made = setup->cold ? pages_data_write(run, run->cold_path) : 0;

    (void)thread_count;
    if (file == NULL || made < 0) {
        free(file);
        return made < 0 ? made : -ENOMEM;
    }
    if (setup->cold)
        bench_settle(run->directory);
    file->direct = setup->device == PAGES_DIRECT;
    file->fd =
        open(setup->cold ? run->cold_path : run->data_path, O_RDONLY | O_CLOEXEC | (file->direct ? O_DIRECT : 0));
    if (file->fd < 0) {
        int error = errno == EINVAL && file->direct ? PAGES_SKIP : -errno;

        free(file);
        return error;
    }
    *ret_reader = file;
    return 0;
}

static void file_close(void *reader)
{
    struct file *file = reader;

    close(file->fd);
    free(file);
}

static int fetch(const struct file *file, void *buffer, size_t length, uint64_t address)
{
    ssize_t got = pread(file->fd, buffer, length, (off_t)address);

    return got == (ssize_t)length ? 0 : got < 0 ? -errno : -EIO;
}

/* The word alone. */
static int file_get(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    const struct file *file = reader;
    uint64_t sum = 0;
    int error = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count && error == 0; i++) {
        uint64_t word = 0;

        error = fetch(file, &word, sizeof word, batch->addresses[i]);
        sum += word;
    }
    *ret_sum = sum;
    return error;
}

/* The page, then its word. */
static int file_page(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    const struct file *file = reader;
    uint64_t sum = 0;
    int error = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count && error == 0; i++) {
        uint64_t offset = batch->addresses[i] % PAGES_BYTES;

        error = fetch(file, batch->buffer, PAGES_BYTES, batch->addresses[i] - offset);
        sum += pages_load_word(batch->buffer + offset);
    }
    *ret_sum = sum;
    return error;
}

/* Past the page cache there are only whole pages. */
static int file_word(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    const struct file *file = reader;

    return file->direct ? file_page(reader, thread, batch, ret_sum) : file_get(reader, thread, batch, ret_sum);
}

static int file_read(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    const struct file *file = reader;
    uint64_t sum = 0;
    int error = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count && error == 0; i++) {
        error = fetch(file, batch->buffer, batch->length, batch->addresses[i]);
        sum += pages_load_word(batch->buffer);
    }
    *ret_sum = sum;
    return error;
}

/* The kernel's page cache of the file lets go of what is neither mapped nor dirty. */
static int file_empty(void *reader)
{
    const struct file *file = reader;

    return -posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
}

const struct pages_kind kind_kernel = {
    .open = file_open,
    .close = file_close,
    .operate = {[PAGES_GET] = file_word, [PAGES_FIX] = file_page, [PAGES_READ] = file_read},
    .empty = file_empty,
};
