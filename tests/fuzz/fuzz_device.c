/* fuzz_device.c - the device in memory whose answers the input chooses. */
#include "fuzz_device.h"
#include "fuzz_room.h"

#include <errno.h>
#include <string.h>

enum { INTERRUPTS_MAX = 3 };

static const int errors[] = {-EIO, -ENOMEM, -EAGAIN, CELLAR_EUNKNOWN, -ENOSPC, -ESTALE};

static bool is_interrupt(unsigned answer)
{
    return answer >= 220 && answer < 240;
}

/* What the next call shall get; 0: what is right. With the lock held. */
static unsigned next_answer(struct fuzz_device *fuzz)
{
    unsigned answer;

    if (fuzz->honest || fuzz->answers.length_bytes == 0)
        return 0;
    answer = fuzz->answers.bytes[fuzz->next_answer];
    fuzz->next_answer = (fuzz->next_answer + 1) % fuzz->answers.length_bytes;
    /* Not for ever: nobody gives up after EINTR. */
    fuzz->interrupts = is_interrupt(answer) ? fuzz->interrupts + 1 : 0;
    if (fuzz->interrupts > INTERRUPTS_MAX)
        answer = 0;
    fuzz->wrong += answer != 0;
    return answer;
}

static int error_of(unsigned answer)
{
    return errors[answer % FUZZ_COUNT(errors)];
}

bool fuzz_device_may_say(int error)
{
    for (size_t i = 0; i < FUZZ_COUNT(errors); i++) {
        if (error == errors[i])
            return true;
    }
    return false;
}

static uint32_t block_bytes_of(const struct fuzz_device *fuzz)
{
    return fuzz->block_bytes > 0 ? fuzz->block_bytes : 1;
}

/* A part of a transfer, at least a block of it. */
static size_t cut_short(const struct fuzz_device *fuzz, size_t length_bytes, unsigned answer)
{
    size_t block = block_bytes_of(fuzz), blocks = length_bytes / block;

    return blocks <= 1 ? length_bytes : (1 + answer % (blocks - 1)) * block;
}

static uint32_t device_block_bytes(void *state)
{
    return block_bytes_of(state);
}

static int device_size(void *state, uint64_t *ret_size_bytes)
{
    struct fuzz_device *fuzz = state;
    unsigned answer;
    int error = 0;

    pthread_mutex_lock(&fuzz->lock);
    *ret_size_bytes = fuzz->size_bytes;
    answer = fuzz->cut ? next_answer(fuzz) : 0;
    if (answer >= 224)
        error = error_of(answer);
    else if (answer >= 200)
        *ret_size_bytes = fuzz->size_bytes * (answer - 200) / 24 / block_bytes_of(fuzz) * block_bytes_of(fuzz);
    else if (answer >= 176)
        *ret_size_bytes = fuzz->size_bytes + (uint64_t)(answer - 175) * block_bytes_of(fuzz);
    pthread_mutex_unlock(&fuzz->lock);
    return error;
}

static ssize_t device_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct fuzz_device *fuzz = state;
    ssize_t result = 0;
    unsigned answer;

    pthread_mutex_lock(&fuzz->lock);
    answer = next_answer(fuzz);
    if (offset < fuzz->size_bytes) {
        if (length_bytes > fuzz->size_bytes - offset)
            length_bytes = (size_t)(fuzz->size_bytes - offset);
        if (answer >= 128 && answer < 192)
            length_bytes = cut_short(fuzz, length_bytes, answer);
        result = (ssize_t)length_bytes;
    }
    if (answer >= 240)
        result = error_of(answer);
    else if (is_interrupt(answer))
        result = -EINTR;
    else if (answer >= 210 && fuzz->cut)
        result = 0;
    if (result > 0)
        memcpy(buffer, fuzz->bytes + offset, (size_t)result);
    pthread_mutex_unlock(&fuzz->lock);
    return result;
}

static int device_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    struct fuzz_device *fuzz = state;
    unsigned answer;
    int error = 0;

    pthread_mutex_lock(&fuzz->lock);
    answer = next_answer(fuzz);
    FUZZ_NEEDS(length_bytes > 0);
    if (answer >= 240)
        error = error_of(answer);
    else if (offset > fuzz->size_bytes || length_bytes > fuzz->size_bytes - offset)
        error = -EIO; /* the size was asked before, and was not the right one */
    if (error == 0) {
        fuzz->lent++;
        *ret_bytes = fuzz->bytes + offset;
    }
    pthread_mutex_unlock(&fuzz->lock);
    return error;
}

static void device_release(void *state, const void *bytes, size_t length_bytes)
{
    struct fuzz_device *fuzz = state;

    pthread_mutex_lock(&fuzz->lock);
    FUZZ_NEEDS(fuzz->lent > 0 && length_bytes > 0 && (const unsigned char *)bytes >= fuzz->bytes);
    fuzz->lent--;
    pthread_mutex_unlock(&fuzz->lock);
}

/* The first length_bytes of the parts go to offset. */
static void store(struct fuzz_device *fuzz, const struct iovec *parts, size_t length_bytes, uint64_t offset)
{
    for (int i = 0; length_bytes > 0; i++) {
        size_t length = parts[i].iov_len < length_bytes ? parts[i].iov_len : length_bytes;

        memcpy(fuzz->bytes + offset, parts[i].iov_base, length);
        offset += length;
        length_bytes -= length;
    }
}

static ssize_t device_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct fuzz_device *fuzz = state;
    size_t length_bytes = 0;
    ssize_t result;
    unsigned answer;

    (void)token;
    for (int i = 0; i < part_count; i++)
        length_bytes += parts[i].iov_len;
    pthread_mutex_lock(&fuzz->lock);
    answer = next_answer(fuzz);
    if (offset > fuzz->size_bytes || length_bytes > fuzz->size_bytes - offset) {
        pthread_mutex_unlock(&fuzz->lock);
        return -EIO; /* as in device_load */
    }
    FUZZ_NEEDS(length_bytes > 0 && offset % block_bytes_of(fuzz) == 0 && length_bytes % block_bytes_of(fuzz) == 0);
    result = (ssize_t)length_bytes;
    if (answer >= 240)
        result = error_of(answer);
    else if (is_interrupt(answer))
        result = -EINTR;
    else if (answer >= 128)
        result = (ssize_t)cut_short(fuzz, length_bytes, answer);
    if (result > 0 || answer >= 248) { /* some failures come after a part of it was written */
        store(fuzz, parts, result > 0 ? (size_t)result : cut_short(fuzz, length_bytes, answer), offset);
        fuzz->writes++;
    }
    pthread_mutex_unlock(&fuzz->lock);
    return result;
}

static int device_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct fuzz_device *fuzz = state;
    unsigned answer;

    (void)token;
    (void)offset;
    (void)length_bytes;
    pthread_mutex_lock(&fuzz->lock);
    answer = next_answer(fuzz);
    pthread_mutex_unlock(&fuzz->lock);
    return answer >= 240 ? error_of(answer) : 0;
}

static void resize(struct fuzz_device *fuzz, uint64_t size_bytes)
{
    fuzz_room_show(fuzz->bytes, (size_t)size_bytes);
    if (size_bytes > fuzz->size_bytes)
        memset(fuzz->bytes + fuzz->size_bytes, 0, (size_t)(size_bytes - fuzz->size_bytes));
    fuzz->size_bytes = size_bytes;
}

void fuzz_device_resize(struct fuzz_device *fuzz, uint64_t size_bytes)
{
    pthread_mutex_lock(&fuzz->lock);
    resize(fuzz, size_bytes);
    pthread_mutex_unlock(&fuzz->lock);
}

static int device_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct fuzz_device *fuzz = state;
    uint32_t block = block_bytes_of(fuzz);
    int error = 0;

    (void)token;
    (void)allocate_from;
    pthread_mutex_lock(&fuzz->lock);
    if (size_bytes > fuzz->capacity_bytes)
        error = -ENOSPC;
    else if (next_answer(fuzz) >= 240)
        error = -ENOSPC;
    else if (size_bytes > fuzz->size_bytes)
        resize(fuzz, (size_bytes + block - 1) / block * block);
    pthread_mutex_unlock(&fuzz->lock);
    return error;
}

static int device_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    struct fuzz_device *fuzz = state;

    (void)token;
    fuzz_device_resize(fuzz, size_bytes);
    return 0;
}

static int device_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct fuzz_device *fuzz = state;

    if (lock == CELLAR_LOCK_WRITER && fuzz->locked)
        return CELLAR_EBUSY;
    fuzz->locked = fuzz->locked || lock == CELLAR_LOCK_WRITER;
    *ret_token = 1;
    return 0;
}

static int device_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct fuzz_device *fuzz = state;

    (void)token;
    if (lock == CELLAR_LOCK_WRITER)
        fuzz->locked = false;
    return 0;
}

static int device_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                         uint64_t *ret_capacity_bytes)
{
    struct fuzz_device *fuzz = state;

    (void)writable;
    if (capacity_bytes < fuzz->size_bytes)
        return CELLAR_EWINDOW;
    *ret_base = fuzz->bytes;
    *ret_capacity_bytes = fuzz->capacity_bytes;
    return 0;
}

static int device_incarnation(void *state, uint64_t *ret_incarnation)
{
    const struct fuzz_device *fuzz = state;

    *ret_incarnation = fuzz->incarnation;
    return 0;
}

static int device_close(void *state)
{
    struct fuzz_device *fuzz = state;

    FUZZ_NEEDS(fuzz->lent == 0);
    fuzz_room_give(fuzz->bytes);
    pthread_mutex_destroy(&fuzz->lock);
    return 0;
}

struct cellar_device *fuzz_device_open(struct fuzz_device *fuzz)
{
    struct cellar_device *device = NULL;

    FUZZ_NEEDS(fuzz->size_bytes <= fuzz->capacity_bytes);
    FUZZ_NEEDS(pthread_mutex_init(&fuzz->lock, NULL) == 0);
    fuzz->bytes = fuzz_room_take(fuzz->capacity_bytes);
    fuzz_room_show(fuzz->bytes, (size_t)fuzz->size_bytes);
    memset(fuzz->bytes, 0, (size_t)fuzz->size_bytes);
    fuzz->ops = (struct cellar_device_ops){
        .name = "fuzz",
        .block_bytes = device_block_bytes,
        .size = device_size,
        .read = device_read,
        .load = fuzz->lends ? device_load : NULL,
        .release = fuzz->lends ? device_release : NULL,
        .write = fuzz->read_only ? NULL : device_write,
        .sync = device_sync,
        .grow = fuzz->fixed || fuzz->read_only ? NULL : device_grow,
        .trim = fuzz->fixed || fuzz->read_only ? NULL : device_trim,
        .lock = device_lock,
        .unlock = device_unlock,
        .window = fuzz->has_window ? device_window : NULL,
        .incarnation = device_incarnation,
        .close = device_close,
    };
    FUZZ_NEEDS(cellar_device_open(&fuzz->ops, fuzz, &device) == 0);
    return device;
}
