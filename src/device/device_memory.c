/* device_memory.c - bytes in this process's memory, at one address for their whole life. */
#include <cellar/device.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

struct memory {
    unsigned char *bytes;
    uint64_t capacity_bytes, reserved_bytes;
    atomic_uint_fast64_t size_bytes;
    atomic_bool writer_locked;
    uint64_t incarnation; /* its bytes live as long as it does; 0: no random number was to be had */
};

static uint64_t size_now(const struct memory *memory)
{
    return atomic_load_explicit(&memory->size_bytes, memory_order_acquire);
}

static int memory_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = size_now(state);
    return 0;
}

/*
 * Copies out of, and into, memory that other threads may store into, and load from, at the same time, as the contract
 * allows. Such bytes come as any mixture of before and after, but it must not be a data race: atomics, in whole words
 * where the shared memory has them aligned. Acquire and release: who has read a slot in this way reads cells after it
 * that were written before it, perhaps where they lie.
 */
static void copy_out(unsigned char *to, const unsigned char *shared, size_t length_bytes)
{
    while (length_bytes > 0) {
        size_t step =
            (uintptr_t)shared % sizeof(uint64_t) == 0 && length_bytes >= sizeof(uint64_t) ? sizeof(uint64_t) : 1;

        if (step == sizeof(uint64_t)) {
            uint64_t word = atomic_load_explicit((const _Atomic uint64_t *)(const void *)shared, memory_order_acquire);

            memcpy(to, &word, sizeof word);
        } else {
            *to = atomic_load_explicit((const atomic_uchar *)shared, memory_order_acquire);
        }
        to += step;
        shared += step;
        length_bytes -= step;
    }
}

static void copy_in(unsigned char *shared, const unsigned char *from, size_t length_bytes)
{
    while (length_bytes > 0) {
        size_t step =
            (uintptr_t)shared % sizeof(uint64_t) == 0 && length_bytes >= sizeof(uint64_t) ? sizeof(uint64_t) : 1;

        if (step == sizeof(uint64_t)) {
            uint64_t word;

            memcpy(&word, from, sizeof word);
            atomic_store_explicit((_Atomic uint64_t *)(void *)shared, word, memory_order_release);
        } else {
            atomic_store_explicit((atomic_uchar *)shared, *from, memory_order_release);
        }
        shared += step;
        from += step;
        length_bytes -= step;
    }
}

static ssize_t memory_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct memory *memory = state;
    uint64_t size_bytes = size_now(memory);

    if (offset >= size_bytes)
        return 0;
    if (length_bytes > size_bytes - offset)
        length_bytes = (size_t)(size_bytes - offset);
    copy_out(buffer, memory->bytes + offset, length_bytes);
    return (ssize_t)length_bytes;
}

static int memory_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    const struct memory *memory = state;

    (void)length_bytes;
    *ret_bytes = memory->bytes + offset;
    return 0;
}

static void memory_release(void *state, const void *bytes, size_t length_bytes)
{
    (void)state;
    (void)bytes;
    (void)length_bytes;
}

static ssize_t memory_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    const struct memory *memory = state;
    ssize_t done = 0;

    (void)token;
    for (int i = 0; i < part_count; i++) {
        copy_in(memory->bytes + offset + done, parts[i].iov_base, parts[i].iov_len);
        done += (ssize_t)parts[i].iov_len;
    }
    return done;
}

static int memory_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct memory *memory = state;

    (void)token;
    (void)allocate_from;
    if (size_bytes > memory->capacity_bytes)
        return -ENOSPC;
    if (size_bytes > size_now(memory))
        atomic_store_explicit(&memory->size_bytes, size_bytes, memory_order_release);
    return 0;
}

static int memory_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    struct memory *memory = state;
    uint64_t old_size = size_now(memory);

    (void)token;
    atomic_store_explicit(&memory->size_bytes, size_bytes, memory_order_release);
    memset(memory->bytes + size_bytes, 0, (size_t)(old_size - size_bytes)); /* growing again gives zeros */
    return 0;
}

static int memory_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct memory *memory = state;

    *ret_token = 1;
    if (lock != CELLAR_LOCK_WRITER)
        return 0;
    return atomic_exchange(&memory->writer_locked, true) ? CELLAR_EBUSY : 0;
}

static int memory_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct memory *memory = state;

    (void)token;
    if (lock == CELLAR_LOCK_WRITER)
        atomic_store(&memory->writer_locked, false);
    return 0;
}

static int memory_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                         uint64_t *ret_capacity_bytes)
{
    const struct memory *memory = state;

    (void)writable;
    if (capacity_bytes < size_now(memory))
        return CELLAR_EWINDOW;
    *ret_base = memory->bytes;
    *ret_capacity_bytes = memory->capacity_bytes;
    return 0;
}

static int memory_incarnation(void *state, uint64_t *ret_incarnation)
{
    *ret_incarnation = ((const struct memory *)state)->incarnation;
    return 0;
}

static int memory_close(void *state)
{
    struct memory *memory = state;

    munmap(memory->bytes, (size_t)memory->reserved_bytes);
    free(memory);
    return 0;
}

static const struct cellar_device_ops memory_ops = {
    .name = "memory",
    .size = memory_size,
    .read = memory_read,
    .load = memory_load,
    .release = memory_release,
    .write = memory_write,
    .grow = memory_grow,
    .trim = memory_trim,
    .lock = memory_lock,
    .unlock = memory_unlock,
    .window = memory_window,
    .incarnation = memory_incarnation,
    .close = memory_close,
};

int cellar_device_open_memory(const void *bytes, uint64_t size_bytes, uint64_t capacity_bytes,
                              struct cellar_device **ret_device)
{
    struct memory *memory;
    uint64_t reserved_bytes = capacity_bytes > 0 ? capacity_bytes : 1;

    if (size_bytes > capacity_bytes || capacity_bytes > SIZE_MAX / 2)
        return -EINVAL;
    memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return -ENOMEM;
    memory->bytes =
        mmap(NULL, (size_t)reserved_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory->bytes == MAP_FAILED) {
        free(memory);
        return -ENOMEM;
    }
    memory->capacity_bytes = capacity_bytes;
    memory->reserved_bytes = reserved_bytes;
    if (bytes != NULL && size_bytes > 0)
        memcpy(memory->bytes, bytes, (size_t)size_bytes);
    atomic_init(&memory->size_bytes, size_bytes);
    if (getrandom(&memory->incarnation, sizeof memory->incarnation, GRND_NONBLOCK) != sizeof memory->incarnation)
        memory->incarnation = 0;
    return cellar_device_open(&memory_ops, memory, ret_device);
}
