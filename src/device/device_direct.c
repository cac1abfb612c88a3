/*
 * device_direct.c - a file or block device past the kernel's page cache (O_DIRECT), in whole blocks.
 *
 * A file may end within a block: its length is what grow and trim have made it, to the byte, so that a store on it is a
 * whole number of cells at every moment. To the users of the device zeros follow up to the end of that block. What they
 * write there goes through the page cache, which can write a part of a block, and only up to the end of the file:
 *   - O_DIRECT alone would write the whole block, and the file would be longer from then on. After a crash, a store of
 *     300 bytes would have 512, no whole number of cells, and be refused by everybody. Cutting it again after each such
 *     write leaves the same file to a crash in between.
 *   - Bytes past the end that are not zero have no other place: then the file does become longer, to the whole block.
 * Such a write waits for the disk. Else the block would be the one place whose bytes a failed sync leaves in the page
 * cache and not on the disk, and nobody is told so who opens the file after a death at that moment (see SYNCING): the
 * next sync would take it for durable. It is written seldom, as files grow before they are full.
 * Writes past and through the page cache keep away from each other (tail_lock): the kernel keeps both coherent, but
 * calls it an error of the file if a page that was just written past is dirty again by then.
 */
#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK_BYTES_MAX = 64 * 1024,
    BOUNCE_BYTES = 256 * 1024,      /* of one transfer of bytes that are not aligned in memory */
    READ_BYTES_MAX = 1 << 30,       /* Linux ends a read just below 2 GiB, perhaps within a block */
    BLOCK_BYTES_DEFAULT = 4 * 1024, /* where nothing says what it must be: enough for every usual disk */
};

/* ---- what is asked for ---- */

static bool is_block_size(uint32_t bytes)
{
    return bytes > 0 && bytes <= BLOCK_BYTES_MAX && (bytes & (bytes - 1)) == 0;
}

/* The kernel's own word. CELLAR_NONE: it says nothing. */
static int ask_kernel(struct cellar_file *file)
{
#ifdef STATX_DIOALIGN
    struct statx status;
    uint32_t align;

    if (statx(file->direct_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0 ||
        (status.stx_mask & STATX_DIOALIGN) == 0)
        return CELLAR_NONE;
    align = status.stx_dio_mem_align;
    if (!is_block_size(align) || !is_block_size(status.stx_dio_offset_align))
        return -EINVAL;
    file->align_bytes = align;
    file->block_bytes = status.stx_dio_offset_align > align ? status.stx_dio_offset_align : align;
    return 0;
#else
    (void)file;
    return CELLAR_NONE;
#endif
}

/* 0: a read of the file's first bytes goes through. -EINVAL: not with blocks and addresses of this size. */
static int try_block(const struct cellar_file *file, unsigned char *memory, uint32_t bytes)
{
    ssize_t got;

    do
        got = pread(file->direct_fd, memory, bytes, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : 0;
}

/* The smallest block that a read of the file's first bytes goes through with. An empty file takes any: says nothing. */
static int try_blocks(struct cellar_file *file)
{
    static const uint32_t sizes[] = {512, BLOCK_BYTES_DEFAULT};
    uint64_t length_bytes;
    unsigned char *memory;
    int error = cellar_file_size(file, &length_bytes);

    file->block_bytes = file->align_bytes = BLOCK_BYTES_DEFAULT;
    if (error != 0 || length_bytes == 0)
        return error;
    memory = aligned_alloc(BLOCK_BYTES_DEFAULT, 2 * BLOCK_BYTES_DEFAULT);
    if (memory == NULL)
        return -ENOMEM;
    error = -EINVAL;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && error == -EINVAL; i++) {
        /* At an address that is a multiple of the size and of no larger one. */
        error = try_block(file, memory + sizes[i] % BLOCK_BYTES_DEFAULT, sizes[i]);
        if (error == 0)
            file->block_bytes = file->align_bytes = sizes[i];
    }
    free(memory);
    return error;
}

int cellar_direct_probe(struct cellar_file *file)
{
    int sector_bytes, result = ask_kernel(file);

    if (result != CELLAR_NONE)
        return result;
    if (file->kind != CELLAR_FILE_BLOCK_DIRECT)
        return try_blocks(file);
    if (ioctl(file->direct_fd, BLKSSZGET, &sector_bytes) != 0)
        return -errno;
    if (sector_bytes <= 0 || !is_block_size((uint32_t)sector_bytes))
        return -EINVAL;
    file->block_bytes = file->align_bytes = (uint32_t)sector_bytes;
    return 0;
}

uint32_t cellar_direct_block_bytes(void *state)
{
    return ((const struct cellar_file *)state)->block_bytes;
}

static uint64_t round_down(const struct cellar_file *file, uint64_t bytes)
{
    return bytes & ~(uint64_t)(file->block_bytes - 1);
}

static uint64_t round_up(const struct cellar_file *file, uint64_t bytes)
{
    return round_down(file, bytes + file->block_bytes - 1);
}

/* The bytes that are really there. */
static int length_of(struct cellar_file *file, uint64_t *ret_length_bytes)
{
    if (file->kind == CELLAR_FILE_DIRECT)
        return cellar_file_size(file, ret_length_bytes);
    *ret_length_bytes = file->fixed_bytes;
    return 0;
}

/* Memory for a transfer of length_bytes, or as much of it as a bounce takes. NULL: no memory. */
static unsigned char *bounce_of(const struct cellar_file *file, uint64_t length_bytes, size_t *ret_bytes)
{
    *ret_bytes = length_bytes < BOUNCE_BYTES ? (size_t)length_bytes : BOUNCE_BYTES;
    return aligned_alloc(file->block_bytes, *ret_bytes); /* both are whole blocks */
}

static bool is_aligned(const struct cellar_file *file, const void *memory)
{
    return ((uintptr_t)memory & (file->align_bytes - 1)) == 0;
}

/* ---- reading ---- */

/* One pread to memory that is aligned, widened by zeros to whole blocks where it has met the end of the file. */
static ssize_t read_blocks(struct cellar_file *file, unsigned char *memory, size_t length_bytes, uint64_t offset)
{
    uint64_t got, file_bytes;
    ssize_t result;
    int error;

    if (length_bytes > READ_BYTES_MAX)
        length_bytes = READ_BYTES_MAX;
    result = pread(file->direct_fd, memory, length_bytes, (off_t)offset);
    if (result < 0)
        return -errno;
    got = (uint64_t)result;
    if (got == round_down(file, got))
        return result;
    error = length_of(file, &file_bytes);
    if (error != 0)
        return error;
    if (offset + got < file_bytes) { /* not the end, or not any more: the whole blocks of it */
        got = round_down(file, got);
        return got > 0 ? (ssize_t)got : -EINTR;
    }
    memset(memory + got, 0, (size_t)(round_up(file, got) - got));
    return (ssize_t)round_up(file, got);
}

ssize_t cellar_direct_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct cellar_file *file = state;
    size_t done = 0, bounce_bytes;
    unsigned char *bounce;
    ssize_t got = 0;

    if (is_aligned(file, buffer))
        return read_blocks(file, buffer, length_bytes, offset);
    bounce = bounce_of(file, length_bytes, &bounce_bytes);
    if (bounce == NULL)
        return -ENOMEM;
    while (done < length_bytes) {
        got = read_blocks(file, bounce, length_bytes - done < bounce_bytes ? length_bytes - done : bounce_bytes,
                          offset + done);
        if (got <= 0)
            break;
        memcpy((unsigned char *)buffer + done, bounce, (size_t)got);
        done += (size_t)got;
    }
    free(bounce);
    return done > 0 ? (ssize_t)done : got;
}

/* ---- writing ---- */

/* Where a walk through gathered parts stands. */
struct walk {
    const struct iovec *parts;
    size_t skip_bytes;
};

/* Copies the next length_bytes of the parts; there are so many. */
static void copy_next(struct walk *walk, unsigned char *to, size_t length_bytes)
{
    while (length_bytes > 0) {
        size_t left = walk->parts->iov_len - walk->skip_bytes;
        size_t step = left < length_bytes ? left : length_bytes;

        if (step > 0)
            memcpy(to, (const unsigned char *)walk->parts->iov_base + walk->skip_bytes, step);
        to += step;
        length_bytes -= step;
        walk->skip_bytes += step;
        if (walk->skip_bytes == walk->parts->iov_len) {
            walk->parts++;
            walk->skip_bytes = 0;
        }
    }
}

/* Whole blocks that end at or before the end of the file, by a copy. Returns how many bytes were written, or an error.
 * */
static ssize_t put_copies(struct cellar_file *file, const struct iovec *parts, uint64_t length_bytes, uint64_t offset,
                          bool durable)
{
    struct walk walk = {.parts = parts};
    size_t bounce_bytes, done = 0;
    unsigned char *bounce = bounce_of(file, length_bytes, &bounce_bytes);
    bool at_once = length_bytes <= bounce_bytes;
    ssize_t put = 0;

    if (bounce == NULL)
        return -ENOMEM;
    while (done < length_bytes) {
        struct iovec part = {.iov_base = bounce, .iov_len = bounce_bytes};

        if (length_bytes - done < bounce_bytes)
            part.iov_len = (size_t)(length_bytes - done);
        copy_next(&walk, bounce, part.iov_len);
        put = cellar_file_put(file->direct_fd, &part, 1, offset + done, durable && at_once);
        if (put < 0)
            break;
        done += (size_t)put;
        if ((size_t)put < part.iov_len)
            break;
    }
    free(bounce);
    if (durable && !at_once && done > 0 && fdatasync(file->fd) != 0)
        return -errno;
    return done > 0 ? (ssize_t)done : put;
}

static bool can_go_as_they_are(const struct cellar_file *file, const struct iovec *parts, int part_count)
{
    for (int i = 0; i < part_count; i++) {
        if (!is_aligned(file, parts[i].iov_base) || parts[i].iov_len != round_down(file, parts[i].iov_len))
            return false;
    }
    return true;
}

static bool is_zero(const unsigned char *bytes, size_t length_bytes)
{
    for (size_t i = 0; i < length_bytes; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

/* The block at offset, in which the file ends after inside_bytes; durable when it returns. -ENOTSUP, where that is
 * asked for: the system can't do it in one call. */
static ssize_t put_last(struct cellar_file *file, const struct iovec *parts, uint64_t offset, size_t inside_bytes,
                        bool durable)
{
    struct walk walk = {.parts = parts};
    unsigned char *block = aligned_alloc(file->block_bytes, file->block_bytes);
    struct iovec part = {.iov_base = block, .iov_len = inside_bytes};
    bool at_once = true;
    size_t done = 0;
    ssize_t put = 0;
    int error;

    if (block == NULL)
        return -ENOMEM;
    copy_next(&walk, block, file->block_bytes);
    if (!is_zero(block + inside_bytes, file->block_bytes - inside_bytes))
        part.iov_len = file->block_bytes;
    error = cellar_file_check_limit(file, offset + part.iov_len);
    pthread_rwlock_wrlock(&file->tail_lock);
    while (error == 0 && part.iov_len > 0) {
        put = cellar_file_put(file->fd, &part, 1, offset + done, at_once);
        if (put == -ENOTSUP && at_once && !durable)
            at_once = false;
        else if (put < 0 && put != -EINTR)
            error = (int)put;
        if (put > 0) {
            done += (size_t)put;
            part.iov_base = block + done;
            part.iov_len -= (size_t)put;
        }
    }
    if (error == 0 && !at_once && fdatasync(file->fd) != 0)
        error = -errno;
    pthread_rwlock_unlock(&file->tail_lock);
    free(block);
    return error != 0 ? error : (ssize_t)file->block_bytes;
}

static ssize_t put(struct cellar_file *file, const struct iovec *parts, int part_count, uint64_t offset, bool durable)
{
    uint64_t total_bytes = 0, file_bytes, whole_bytes;
    bool as_they_are = can_go_as_they_are(file, parts, part_count);
    ssize_t done;
    int error = length_of(file, &file_bytes);

    if (error != 0)
        return error;
    whole_bytes = round_down(file, file_bytes);
    if (offset == whole_bytes && whole_bytes < file_bytes)
        return put_last(file, parts, offset, (size_t)(file_bytes - whole_bytes), durable);
    for (int i = 0; i < part_count; i++)
        total_bytes += parts[i].iov_len;
    if (offset < whole_bytes && total_bytes > whole_bytes - offset) { /* the last block goes by itself */
        total_bytes = whole_bytes - offset;
        as_they_are = false;
    }
    error = cellar_file_check_limit(file, offset + total_bytes);
    if (error != 0)
        return error;
    pthread_rwlock_rdlock(&file->tail_lock);
    done = as_they_are ? cellar_file_put(file->direct_fd, parts, part_count, offset, durable)
                       : put_copies(file, parts, total_bytes, offset, durable);
    pthread_rwlock_unlock(&file->tail_lock);
    return done;
}

ssize_t cellar_direct_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)token;
    return put(state, parts, part_count, offset, false);
}

ssize_t cellar_direct_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                    uint64_t offset)
{
    (void)token;
    return put(state, parts, part_count, offset, true);
}

/* ---- the rest ---- */

static int direct_size(void *state, uint64_t *ret_size_bytes)
{
    const struct cellar_file *file = state;
    uint64_t length_bytes;
    int error = cellar_file_size(state, &length_bytes);

    if (error == 0)
        *ret_size_bytes = round_up(file, length_bytes);
    return error;
}

/* pwritev of the last block would make a file longer that ends within it. (preadv of it is short, which its user has to
 * be ready for.) */
int cellar_direct_descriptor(void *state, uint32_t *ret_align_bytes)
{
    struct cellar_file *file = state;
    uint64_t length_bytes;

    if ((file->flags & CELLAR_OPEN_WRITE) != 0 &&
        (length_of(file, &length_bytes) != 0 || length_bytes != round_down(file, length_bytes)))
        return -1;
    *ret_align_bytes = file->align_bytes;
    return file->direct_fd;
}

const struct cellar_device_ops cellar_direct_ops = {
    .name = "direct",
    .block_bytes = cellar_direct_block_bytes,
    .size = direct_size,
    .read = cellar_direct_read,
    .write = cellar_direct_write,
    .write_durable = cellar_direct_write_durable,
    .sync = cellar_file_fdatasync,
    .grow = cellar_file_grow,
    .trim = cellar_file_trim,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_direct_descriptor,
    .incarnation = cellar_file_incarnation,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

const struct cellar_device_ops cellar_direct_read_ops = {
    .name = "direct",
    .block_bytes = cellar_direct_block_bytes,
    .size = direct_size,
    .read = cellar_direct_read,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_direct_descriptor,
    .incarnation = cellar_file_incarnation,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};
