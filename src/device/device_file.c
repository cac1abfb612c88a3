/* device_file.c - a file whose pages are lent by mapping. */
#include "device/file.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Address space is cheap: a small file may grow into this much without another mapping. */
static const uint64_t LOAN_BYTES_MIN = (uint64_t)1 << 30;

static uint64_t page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* From linux/magic.h, and from the sources of the file systems that are not in it. */
bool cellar_file_system_copies(int fd)
{
    static const unsigned long copying[] = {
        0x9123683eUL, /* btrfs */
        0x2fc12fc1UL, /* ZFS */
        0xca451a4eUL, /* bcachefs */
    };
    struct statfs status;

    if (fstatfs(fd, &status) != 0)
        return false;
    for (size_t i = 0; i < sizeof copying / sizeof copying[0]; i++) {
        if (((unsigned long)status.f_type & 0xffffffffUL) == copying[i])
            return true;
    }
    return false;
}

static bool in_window(const struct cellar_file *file, uint64_t offset, uint64_t length_bytes)
{
    return file->window != NULL && offset <= file->window_bytes && length_bytes <= file->window_bytes - offset;
}

/* The largest mapping from byte 0 that the system gives: capacity_bytes, or by halves less, but never less than the
 * file. */
static void *map_most(int fd, int protection, uint64_t size_bytes, uint64_t *capacity_bytes)
{
    uint64_t page = page_bytes();
    uint64_t least = round_up(size_bytes > 0 ? size_bytes : 1, page);
    uint64_t most = *capacity_bytes > SIZE_MAX / 2 ? SIZE_MAX / 2 : *capacity_bytes;
    struct rlimit limit;

    /* Where addresses are limited, others need some too. */
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && most > limit.rlim_cur / 2)
        most = limit.rlim_cur / 2;
    most = most < least ? least : round_up(most, page);
    for (;;) {
        void *base = mmap(NULL, (size_t)most, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);

        if (base != MAP_FAILED) {
            *capacity_bytes = most;
            return base;
        }
        if ((errno != ENOMEM && errno != EOVERFLOW && errno != EINVAL && errno != EFBIG) || most == least)
            return NULL;
        most = round_up(most / 2, page);
        if (most < least)
            most = least;
    }
}

/* A mapping for loads alone, with room for the file to grow; NULL: the system gives none. Threads may come at once. */
static unsigned char *loan_of(struct cellar_file *file)
{
    unsigned char *loan = atomic_load_explicit(&file->loan, memory_order_acquire);
    uint64_t size_bytes, capacity_bytes;

    if (loan != NULL)
        return loan;
    if (cellar_file_size(file, &size_bytes) != 0)
        return NULL;
    capacity_bytes = size_bytes < LOAN_BYTES_MIN / 2 ? LOAN_BYTES_MIN : 2 * size_bytes;
    pthread_mutex_lock(&file->loan_lock);
    loan = atomic_load_explicit(&file->loan, memory_order_relaxed);
    if (loan == NULL) {
        loan = map_most(file->fd, PROT_READ, size_bytes, &capacity_bytes);
        if (loan != NULL) {
            cellar_file_advise(file, loan, capacity_bytes);
            file->loan_bytes = capacity_bytes;
        }
        atomic_store_explicit(&file->loan, loan, memory_order_release);
    }
    pthread_mutex_unlock(&file->loan_lock);
    return loan;
}

static int map_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    struct cellar_file *file = state;
    uint64_t skip = offset % page_bytes();
    unsigned char *base;

    if (in_window(file, offset, length_bytes)) {
        *ret_bytes = (const unsigned char *)file->window + offset;
        return 0;
    }
    base = loan_of(file);
    if (base != NULL && offset <= file->loan_bytes && length_bytes <= file->loan_bytes - offset) {
        *ret_bytes = base + offset;
        return 0;
    }
    base = mmap(NULL, length_bytes + (size_t)skip, PROT_READ, MAP_SHARED, file->fd, (off_t)(offset - skip));
    if (base == MAP_FAILED)
        return -errno;
    *ret_bytes = base + skip;
    return 0;
}

static bool is_part(uintptr_t at, const void *base, uint64_t length_bytes)
{
    return base != NULL && at >= (uintptr_t)base && at - (uintptr_t)base < length_bytes;
}

static void map_release(void *state, const void *bytes, size_t length_bytes)
{
    struct cellar_file *file = state;
    uintptr_t at = (uintptr_t)bytes, skip = at % (uintptr_t)page_bytes();
    const void *loan = atomic_load_explicit(&file->loan, memory_order_acquire);

    if (is_part(at, file->window, file->window_bytes) || is_part(at, loan, file->loan_bytes))
        return;
    munmap((void *)(at - skip), length_bytes + skip);
}

static int map_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                      uint64_t *ret_capacity_bytes)
{
    struct cellar_file *file = state;
    uint64_t size_bytes;
    int error = cellar_file_size(state, &size_bytes);

    if (error != 0)
        return error;
    if (capacity_bytes < size_bytes)
        return CELLAR_EWINDOW;
    if (cellar_file_system_copies(file->fd))
        return CELLAR_NONE;
    file->window = map_most(file->fd, PROT_READ | (writable ? PROT_WRITE : 0), size_bytes, &capacity_bytes);
    if (file->window == NULL)
        return CELLAR_NONE;
    cellar_file_advise(file, file->window, capacity_bytes);
    file->window_bytes = capacity_bytes;
    *ret_base = file->window;
    *ret_capacity_bytes = capacity_bytes;
    return 0;
}

/* msync of a range of the window: data and the metadata that reading it needs, like fdatasync of that range. */
static int map_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    const struct cellar_file *file = state;
    uint64_t skip = offset % page_bytes();

    if (!in_window(file, offset, length_bytes))
        return cellar_file_fdatasync(state, token, offset, length_bytes);
    return msync((unsigned char *)file->window + (offset - skip), (size_t)(length_bytes + skip), MS_SYNC) == 0 ? 0
                                                                                                               : -errno;
}

const struct cellar_device_ops cellar_mapped_file_ops = {
    .name = "file",
    .size = cellar_file_size,
    .read = cellar_file_read,
    .load = map_load,
    .release = map_release,
    .write = cellar_file_write,
    .write_durable = cellar_file_write_durable,
    .sync = map_sync,
    .grow = cellar_file_grow,
    .trim = cellar_file_trim,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .window = map_window,
    .descriptor = cellar_file_descriptor,
    .incarnation = cellar_file_incarnation,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

const struct cellar_device_ops cellar_mapped_file_read_ops = {
    .name = "file",
    .size = cellar_file_size,
    .read = cellar_file_read,
    .load = map_load,
    .release = map_release,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .window = map_window,
    .descriptor = cellar_file_descriptor,
    .incarnation = cellar_file_incarnation,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

int cellar_device_open_file(const char *path, int flags, unsigned mode, struct cellar_device **ret_device)
{
    return cellar_file_open(path, flags & ~CELLAR_FILE_NO_LINK, mode, CELLAR_FILE_MAPPED, ret_device);
}
