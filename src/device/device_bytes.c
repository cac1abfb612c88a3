/*
 * device_bytes.c - a device in bytes over one in blocks.
 *
 * A write is widened to whole blocks: of its first and its last block, what lies outside is read first and written back
 * as it is. Two writes of different bytes may meet in a block; so a write holds its blocks until it is done, and one
 * that needs any of them waits. Writes that share no block go on together. A file in blocks may end within one; here
 * its end is where it really is.
 */
#include "device/device.h"
#include "device/file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARTS_MAX = 64,            /* of one write, beside what it is widened by */
    BOUNCE_BYTES = 256 * 1024, /* of one read that is widened */
};

/* The blocks that a write under way holds: [from, to), in bytes. On the stack of its thread. */
struct hold {
    uint64_t from, to;
    struct hold *next;
};

struct bytes {
    struct cellar_device *inner;
    bool keep_inner;
    bool is_file; /* that may end within a block */
    uint32_t block_bytes;
    pthread_mutex_t lock; /* over holds */
    pthread_cond_t let_go;
    struct hold *holds;
    struct cellar_device_ops ops; /* what inner can */
};

static uint64_t round_down(const struct bytes *bytes, uint64_t offset)
{
    return offset & ~(uint64_t)(bytes->block_bytes - 1);
}

static uint64_t round_up(const struct bytes *bytes, uint64_t offset)
{
    return round_down(bytes, offset + bytes->block_bytes - 1);
}

/* Memory at a multiple of the block, which no device asks more than. */
static unsigned char *blocks_new(const struct bytes *bytes, size_t length_bytes)
{
    size_t align = bytes->block_bytes < sizeof(void *) ? sizeof(void *) : bytes->block_bytes;
    void *memory;

    return posix_memalign(&memory, align, length_bytes) == 0 ? memory : NULL;
}

static int bytes_size(void *state, uint64_t *ret_size_bytes)
{
    const struct bytes *bytes = state;

    return bytes->is_file ? cellar_file_length(bytes->inner, ret_size_bytes)
                          : cellar_device_size(bytes->inner, ret_size_bytes);
}

/* ---- reading ---- */

/* Reads [offset, offset + length_bytes), which does not begin or end between blocks, or as much as a bounce takes. */
static ssize_t read_widened(struct bytes *bytes, unsigned char *to, uint64_t length_bytes, uint64_t offset)
{
    uint64_t from = round_down(bytes, offset), end = round_up(bytes, offset + length_bytes);
    unsigned char *bounce;
    int error;

    if (end - from > BOUNCE_BYTES && end - from > bytes->block_bytes)
        end = from + (BOUNCE_BYTES > bytes->block_bytes ? BOUNCE_BYTES : bytes->block_bytes);
    if (length_bytes > end - offset)
        length_bytes = end - offset;
    bounce = blocks_new(bytes, (size_t)(end - from));
    if (bounce == NULL)
        return -ENOMEM;
    error = cellar_device_read(bytes->inner, bounce, (size_t)(end - from), from);
    if (error == 0)
        memcpy(to, bounce + (offset - from), (size_t)length_bytes);
    free(bounce);
    return error != 0 ? error : (ssize_t)length_bytes;
}

/* Reads all of it. CELLAR_EBOUNDS: it reaches past the end. */
static int read_all(struct bytes *bytes, unsigned char *to, uint64_t length_bytes, uint64_t offset)
{
    while (length_bytes > 0) {
        uint64_t whole_bytes = round_down(bytes, length_bytes);
        ssize_t got;

        if (offset == round_down(bytes, offset) && whole_bytes > 0) {
            int error = cellar_device_read(bytes->inner, to, (size_t)whole_bytes, offset);

            got = error != 0 ? error : (ssize_t)whole_bytes;
        } else {
            got = read_widened(bytes, to, length_bytes, offset);
        }
        if (got < 0)
            return (int)got;
        to += got;
        offset += (uint64_t)got;
        length_bytes -= (uint64_t)got;
    }
    return 0;
}

static ssize_t bytes_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct bytes *bytes = state;
    uint64_t size_bytes;
    int error = bytes->is_file ? CELLAR_EBOUNDS : read_all(bytes, buffer, length_bytes, offset);

    if (error != CELLAR_EBOUNDS)
        return error != 0 ? error : (ssize_t)length_bytes;
    error = bytes_size(state, &size_bytes);
    if (error != 0)
        return error;
    if (offset >= size_bytes)
        return 0;
    if (length_bytes > size_bytes - offset)
        length_bytes = (size_t)(size_bytes - offset);
    error = read_all(bytes, buffer, length_bytes, offset);
    return error != 0 ? error : (ssize_t)length_bytes;
}

/* ---- writing ---- */

static bool is_held(const struct bytes *bytes, const struct hold *wanted)
{
    for (const struct hold *hold = bytes->holds; hold != NULL; hold = hold->next) {
        if (hold->from < wanted->to && wanted->from < hold->to)
            return true;
    }
    return false;
}

static void take_hold(struct bytes *bytes, struct hold *hold)
{
    pthread_mutex_lock(&bytes->lock);
    while (is_held(bytes, hold))
        pthread_cond_wait(&bytes->let_go, &bytes->lock);
    hold->next = bytes->holds;
    bytes->holds = hold;
    pthread_mutex_unlock(&bytes->lock);
}

static void let_go(struct bytes *bytes, const struct hold *hold)
{
    struct hold **at = &bytes->holds;

    pthread_mutex_lock(&bytes->lock);
    while (*at != hold)
        at = &(*at)->next;
    *at = hold->next;
    pthread_cond_broadcast(&bytes->let_go);
    pthread_mutex_unlock(&bytes->lock);
}

static int send(struct bytes *bytes, const struct iovec *parts, int part_count, uint64_t offset, bool durable)
{
    return durable ? cellar_device_write_durable(bytes->inner, parts, part_count, offset)
                   : cellar_device_write(bytes->inner, parts, part_count, offset);
}

/* Writes [offset, end), widened to the blocks that are held. */
static int send_widened(struct bytes *bytes, const struct hold *hold, const struct iovec *parts, int part_count,
                        uint64_t offset, uint64_t end, bool durable)
{
    uint32_t block_bytes = bytes->block_bytes;
    unsigned char *first, *last;
    struct iovec all[PARTS_MAX + 2];
    int count = 0, error = 0;

    first = last = blocks_new(bytes, 2 * (size_t)block_bytes);
    if (first == NULL)
        return -ENOMEM;
    if (hold->to - hold->from > block_bytes)
        last = first + block_bytes;
    if (offset > hold->from || last == first)
        error = cellar_device_read(bytes->inner, first, block_bytes, hold->from);
    if (error == 0 && end < hold->to && last != first)
        error = cellar_device_read(bytes->inner, last, block_bytes, hold->to - block_bytes);
    if (error == 0) {
        if (offset > hold->from)
            all[count++] = (struct iovec){.iov_base = first, .iov_len = (size_t)(offset - hold->from)};
        memcpy(all + count, parts, (size_t)part_count * sizeof *parts);
        count += part_count;
        if (end < hold->to)
            all[count++] = (struct iovec){.iov_base = last + (block_bytes - (hold->to - end)),
                                          .iov_len = (size_t)(hold->to - end)};
        error = send(bytes, all, count, hold->from, durable);
    }
    free(first);
    return error;
}

static ssize_t write_parts(struct bytes *bytes, const struct iovec *parts, int part_count, uint64_t offset,
                           bool durable)
{
    struct hold hold = {.from = round_down(bytes, offset)};
    uint64_t end = offset;
    int error;

    if (part_count > PARTS_MAX)
        part_count = PARTS_MAX; /* the others come with the next call */
    for (int i = 0; i < part_count; i++)
        end += parts[i].iov_len;
    hold.to = round_up(bytes, end);
    take_hold(bytes, &hold);
    if (hold.from == offset && hold.to == end)
        error = send(bytes, parts, part_count, offset, durable);
    else
        error = send_widened(bytes, &hold, parts, part_count, offset, end, durable);
    let_go(bytes, &hold);
    return error != 0 ? error : (ssize_t)(end - offset);
}

static ssize_t bytes_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)token;
    return write_parts(state, parts, part_count, offset, false);
}

static ssize_t bytes_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                   uint64_t offset)
{
    (void)token;
    return write_parts(state, parts, part_count, offset, true);
}

/* ---- what is inner's ---- */

static int bytes_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    (void)token;
    return cellar_device_sync(((const struct bytes *)state)->inner, offset, length_bytes);
}

static int bytes_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    (void)token;
    return cellar_device_grow(((const struct bytes *)state)->inner, allocate_from, size_bytes);
}

static int bytes_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    (void)token;
    return cellar_device_trim(((const struct bytes *)state)->inner, size_bytes);
}

static int bytes_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    int error = cellar_device_lock(((const struct bytes *)state)->inner, lock);

    if (error == 0)
        *ret_token = 1;
    return error;
}

static int bytes_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    (void)token;
    return cellar_device_unlock(((const struct bytes *)state)->inner, lock);
}

static void bytes_forget(void *state)
{
    cellar_device_forget(((const struct bytes *)state)->inner);
}

static int bytes_incarnation(void *state, uint64_t *ret_incarnation)
{
    return cellar_device_incarnation(((const struct bytes *)state)->inner, ret_incarnation);
}

static int bytes_close(void *state)
{
    struct bytes *bytes = state;
    int error = bytes->keep_inner ? 0 : cellar_device_close(bytes->inner);

    pthread_cond_destroy(&bytes->let_go);
    pthread_mutex_destroy(&bytes->lock);
    free(bytes);
    return error;
}

const struct cellar_device *cellar_device_inner(const struct cellar_device *device)
{
    const struct bytes *bytes = cellar_device_state(device, bytes_close);

    return bytes != NULL ? bytes->inner : device;
}

static struct bytes *new_bytes(struct cellar_device *inner, bool keep_inner)
{
    struct bytes *bytes = calloc(1, sizeof *bytes);
    bool writable = cellar_device_writable(inner);
    uint64_t length_bytes;

    if (bytes == NULL)
        return NULL;
    if (pthread_mutex_init(&bytes->lock, NULL) != 0) {
        free(bytes);
        return NULL;
    }
    if (pthread_cond_init(&bytes->let_go, NULL) != 0) {
        pthread_mutex_destroy(&bytes->lock);
        free(bytes);
        return NULL;
    }
    bytes->inner = inner;
    bytes->keep_inner = keep_inner;
    bytes->is_file = cellar_file_length(inner, &length_bytes) != CELLAR_NONE;
    bytes->block_bytes = cellar_device_block_bytes(inner);
    bytes->ops = (struct cellar_device_ops){
        .name = cellar_device_name(inner),
        .size = bytes_size,
        .read = bytes_read,
        .write = writable ? bytes_write : NULL,
        .write_durable = writable ? bytes_write_durable : NULL,
        .sync = bytes_sync,
        .grow = writable && !cellar_device_is_fixed(inner) ? bytes_grow : NULL,
        .trim = writable ? bytes_trim : NULL,
        .lock = bytes_lock,
        .unlock = bytes_unlock,
        .incarnation = bytes_incarnation,
        .forget = bytes_forget,
        .close = bytes_close,
    };
    return bytes;
}

int cellar_device_open_bytes_over(struct cellar_device *inner, struct cellar_device **ret_device)
{
    struct bytes *bytes = new_bytes(inner, true);

    return bytes == NULL ? -ENOMEM : cellar_device_open(&bytes->ops, bytes, ret_device);
}

int cellar_device_open_bytes(struct cellar_device *inner, struct cellar_device **ret_device)
{
    struct bytes *bytes = new_bytes(inner, false);

    if (bytes == NULL) {
        cellar_device_close(inner);
        return -ENOMEM;
    }
    return cellar_device_open(&bytes->ops, bytes, ret_device);
}
