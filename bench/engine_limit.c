/*
 * engine_limit.c - what the machine can do at best: the same bytes moved without a store.
 *
 * A plain array in a mapped file for reads, plain memcpy and plain pwrite for writes, one pwrite + fdatasync for a
 * durable commit. The file is as long as the store of the same work would be and has the same 256 bytes of header in
 * front. Where two ways compete (memcpy into a mapping, pwrite in batches), both are rows, and ratios are taken to the
 * faster.
 */
#include "engine.h"

#include <blake2.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SETUP_MAPPED = 0,
    SETUP_PWRITE = 1,   /* bytes go by pwrite, in batches of BATCH_BYTES */
    SETUP_WRITTEN = 2,  /* the file's blocks have been written, not only allocated */
    SETUP_PEER = 4,     /* map the file of the same cells that another engine has made */
    SETUP_CHECKED = 8,  /* compare each index with the number of cells */
    SETUP_HASHED = 16,  /* hash what is published, twice, and store no cell */
    SETUP_BARRIER = 32, /* opening ends with a pwrite and an fdatasync */
    SETUP_WORD = 64,    /* what is published is one word */
    SETUP_RANDOM = 128, /* the mapping is advised to be read at random */
    DIGEST_BYTES = 12,
    HEADER_BYTES = 256,
    CHUNK_BYTES = 65535, /* of a value of Cellar's at most, before a footer */
    FOOTER_BYTES = 6,
    COMMIT_HEADER_BYTES = 128, /* the slots that a commit or flush writes */
    BATCH_BYTES = 256 * 1024,
    BLOCK_BYTES = 4096,
};

static const struct bench_variant limit_variants[] = {
    {BENCH_READ_RANDOM, SETUP_MAPPED, "plain array, mapped file"},
    {BENCH_READ_RANDOM, SETUP_PEER, "plain array, cellar's file mapped"},
    {BENCH_READ_RANDOM, SETUP_CHECKED, "plain array, mapped file, index checked"},
    {BENCH_READ_RANDOM, SETUP_PEER | SETUP_CHECKED, "plain array, cellar's file mapped, index checked"},
    {BENCH_READ_RANDOM_COLD, SETUP_RANDOM, "plain array, mapped file, MADV_RANDOM"},
    {BENCH_READ_RANDOM_COLD, SETUP_PEER | SETUP_RANDOM, "plain array, cellar's file mapped, MADV_RANDOM"},
    {BENCH_READ_SEQUENTIAL, SETUP_MAPPED, "plain array, mapped file"},
    {BENCH_READ_SEQUENTIAL, SETUP_PEER, "plain array, cellar's file mapped"},
    {BENCH_GROWTH, SETUP_MAPPED, "memcpy into an allocated mapping; plain array"},
    {BENCH_READ_SHARED, SETUP_MAPPED, "plain array, mapped file"},
    {BENCH_APPEND, SETUP_MAPPED, "memcpy into an allocated mapping"},
    {BENCH_APPEND, SETUP_PWRITE, "pwrite of 256 KiB batches, allocated file"},
    {BENCH_COMMIT, SETUP_MAPPED, "memcpy of the cell and 128 header bytes"},
    {BENCH_COMMIT, SETUP_HASHED, "two BLAKE2b (libb2) and 128 header bytes"},
    {BENCH_COMMIT_WORD, SETUP_WORD, "memcpy of the cell and one atomic store"},
    {BENCH_COMMIT_DURABLE, SETUP_PWRITE | SETUP_WRITTEN, "pwrite of 192 bytes + fdatasync, blocks written before"},
    {BENCH_VALUE_WRITE, SETUP_MAPPED, "memcpy into an allocated mapping"},
    {BENCH_VALUE_WRITE, SETUP_PWRITE, "pwrite of 256 KiB batches or more, allocated file"},
    {BENCH_VALUE_COPY, SETUP_PEER, "memcpy, cellar's file mapped"},
    {BENCH_VALUE_COPY, SETUP_MAPPED, "memcpy from a mapped file"},
    {BENCH_VALUE_PIECES, SETUP_MAPPED, "the value's address, known beforehand"},
    {BENCH_OPEN_READ, SETUP_MAPPED, "open, fstat, mmap"},
    {BENCH_OPEN_WRITE, SETUP_MAPPED, "open, fstat, mmap"},
    {BENCH_OPEN_READ_LARGE, SETUP_MAPPED, "open, fstat, mmap"},
    {BENCH_OPEN_WRITE_LARGE, SETUP_MAPPED, "open, fstat, mmap"},
    {BENCH_OPEN_CRASHED, SETUP_WRITTEN | SETUP_BARRIER, "open, fstat, mmap, pwrite of 128 bytes + fdatasync"},
    {BENCH_REFRESH_NONE, SETUP_MAPPED, "one atomic load of the mapping"},
    {BENCH_REFRESH_NEW, SETUP_MAPPED, "one atomic load of the mapping"},
    {BENCH_REFRESH_NEW, SETUP_HASHED, "one BLAKE2b (libb2) of what the mapping says"},
};

struct store {
    int fd;
    unsigned setup;
    unsigned char *base; /* the mapped file */
    uint64_t size_bytes;
    uint64_t commits;
    uint64_t tail;        /* where the next byte goes, from the start of the file */
    unsigned char *batch; /* bytes that wait for a pwrite; they belong at tail - batch_bytes */
    size_t batch_bytes;
    unsigned char slots[COMMIT_HEADER_BYTES];
    uint64_t *followed; /* of each reader: what it saw last */
    unsigned follower_count;
};

static const char *limit_explain(int error)
{
    return strerror(-error);
}

static int limit_close(void *state)
{
    struct store *store = state;

    if (store == NULL)
        return 0;
    if (store->base != NULL)
        munmap(store->base, store->size_bytes);
    if (store->fd >= 0)
        close(store->fd);
    free(store->batch);
    free(store->followed);
    free(store);
    return 0;
}

/* Opens and maps a file whole; ret_store->size_bytes is its size. */
static int open_file(const char *path, int flags, struct store *store)
{
    struct stat status;
    void *base;

    store->fd = open(path, flags | O_CLOEXEC, 0644);
    if (store->fd < 0 || fstat(store->fd, &status) < 0)
        return -errno;
    store->size_bytes = (uint64_t)status.st_size;
    if (store->size_bytes == 0)
        return 0;
    base = mmap(NULL, store->size_bytes, (flags & O_ACCMODE) == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                store->fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    store->base = base;
    return 0;
}

static int open_path(const char *directory, const struct bench_spec *spec, int flags, unsigned setup, void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/array", directory);
    int status;

    if (store == NULL || length <= 0 || (size_t)length >= sizeof path) {
        free(store);
        return store == NULL ? -ENOMEM : -ENAMETOOLONG;
    }
    store->fd = -1;
    store->setup = setup;
    store->tail = HEADER_BYTES;
    status = open_file(setup & SETUP_PEER ? spec->peer_cells : path, flags, store);
    if (status < 0) {
        limit_close(store);
        return status;
    }
    *ret_store = store;
    return 0;
}

static int limit_open_read(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    void *opened;
    const struct store *store;
    int status = open_path(directory, spec, O_RDONLY, setup, &opened);

    if (status != 0)
        return status;
    store = opened;
    if ((setup & SETUP_RANDOM) && madvise(store->base, store->size_bytes, MADV_RANDOM) < 0)
        status = -errno;
    if (status == 0)
        *ret_store = opened;
    else
        limit_close(opened);
    return status;
}

/* One barrier: the header is written as it is, and made durable. */
static int write_header(const struct store *store)
{
    if (pwrite(store->fd, store->slots, sizeof store->slots, 32) != (ssize_t)sizeof store->slots)
        return errno != 0 ? -errno : -EIO;
    return fdatasync(store->fd) < 0 ? -errno : 0;
}

static int limit_open_write(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    void *opened;
    int status = open_path(directory, spec, O_RDWR, setup, &opened);

    if (status == 0 && (setup & SETUP_BARRIER))
        status = write_header(opened);
    if (status == 0)
        *ret_store = opened;
    return status;
}

/* Writes every block of a file that is already allocated, and makes it durable. */
static int write_blocks(const struct store *store, uint64_t size_bytes)
{
    unsigned char block[BLOCK_BYTES];

    memset(block, 0x55, sizeof block);
    for (uint64_t offset = 0; offset < size_bytes; offset += sizeof block)
        if (pwrite(store->fd, block, sizeof block, (off_t)offset) != (ssize_t)sizeof block)
            return errno != 0 ? -errno : -EIO;
    return fsync(store->fd) < 0 ? -errno : 0;
}

static int allocate_file(const char *path, uint64_t size_bytes, unsigned setup)
{
    struct store store = {.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
    int status;

    if (store.fd < 0)
        return -errno;
    status = -posix_fallocate(store.fd, 0, (off_t)size_bytes);
    if (status == 0 && (setup & SETUP_WRITTEN))
        status = write_blocks(&store, size_bytes);
    close(store.fd);
    return status;
}

static int limit_create(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    uint64_t size_bytes = (spec->expected_bytes + HEADER_BYTES + BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
    char path[4096];
    struct store *store;
    void *opened;
    int status;
    int length = snprintf(path, sizeof path, "%s/array", directory);

    if (length <= 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    if (setup & SETUP_PEER)
        return spec->peer_cells != NULL ? open_path(directory, spec, O_RDONLY, setup, ret_store) : BENCH_SKIP;
    status = allocate_file(path, size_bytes, setup);
    if (status == 0)
        status = open_path(directory, spec, O_RDWR, setup, &opened);
    if (status != 0)
        return status;
    store = opened;
    if (setup & SETUP_PWRITE) {
        store->batch = malloc(BATCH_BYTES);
        if (store->batch == NULL) {
            limit_close(store);
            return -ENOMEM;
        }
        memset(store->batch, 0, BATCH_BYTES);
    }
    *ret_store = store;
    return 0;
}

static int write_whole(struct store *store, const unsigned char *bytes, size_t length_bytes, uint64_t offset)
{
    while (length_bytes > 0) {
        ssize_t written = pwrite(store->fd, bytes, length_bytes, (off_t)offset);

        if (written < 0)
            return -errno;
        bytes += written;
        offset += (uint64_t)written;
        length_bytes -= (size_t)written;
    }
    return 0;
}

static int write_batch(struct store *store)
{
    size_t length_bytes = store->batch_bytes;

    store->batch_bytes = 0;
    return write_whole(store, store->batch, length_bytes, store->tail - length_bytes);
}

static int limit_append(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                        uint64_t commit_every)
{
    struct store *store = state;

    (void)commit_every;
    if (store->setup & SETUP_PEER)
        return 0; /* they are there */
    if (store->tail + count * BENCH_CELL_BYTES > store->size_bytes)
        return -ENOSPC;
    if ((store->setup & SETUP_PWRITE) == 0) {
        unsigned char *tail = store->base + store->tail;

        for (uint64_t cell = first_cell; cell < first_cell + count; cell++, tail += BENCH_CELL_BYTES)
            memcpy(tail, bench_cell_at(source, cell), BENCH_CELL_BYTES);
        store->tail += count * BENCH_CELL_BYTES;
        return 0;
    }
    for (uint64_t cell = first_cell; cell < first_cell + count; cell++) {
        memcpy(store->batch + store->batch_bytes, bench_cell_at(source, cell), BENCH_CELL_BYTES);
        store->batch_bytes += BENCH_CELL_BYTES;
        store->tail += BENCH_CELL_BYTES;
        if (store->batch_bytes == BATCH_BYTES) {
            int status = write_batch(store);

            if (status < 0)
                return status;
        }
    }
    return write_batch(store);
}

/* Wraps around at the end of the file: its pages are there, which is the point of a limit. */
static void advance(struct store *store, uint64_t length_bytes)
{
    store->tail += length_bytes;
    if (store->tail + BLOCK_BYTES > store->size_bytes)
        store->tail = HEADER_BYTES;
}

/* The word that readers follow: the first of the slots. */
static _Atomic uint64_t *published(const struct store *store)
{
    return (_Atomic uint64_t *)(void *)(store->base + 32);
}

/* What two slots need, and no cell. */
static int commit_hashed(struct store *store, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t state = ++store->commits;

        blake2b(store->slots, &state, NULL, DIGEST_BYTES, sizeof state, 0);
        blake2b(store->slots + COMMIT_HEADER_BYTES / 2, &state, NULL, DIGEST_BYTES, sizeof state, 0);
        memcpy(store->base + 32, store->slots, sizeof store->slots);
        __asm__ volatile("" : : "r"(store->base) : "memory"); /* each commit is visible on its own */
    }
    return 0;
}

/* A cell, and the word that readers follow. */
static int commit_word(struct store *store, const struct bench_cells *source, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        memcpy(store->base + store->tail, bench_cell_at(source, i), BENCH_CELL_BYTES);
        atomic_store_explicit(published(store), ++store->commits, memory_order_release);
        advance(store, BENCH_CELL_BYTES);
    }
    return 0;
}

static int limit_commit(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;

    if (store->setup & SETUP_HASHED)
        return commit_hashed(store, count);
    if (store->setup & SETUP_WORD)
        return commit_word(store, source, count);
    for (uint64_t i = 0; i < count; i++) {
        memcpy(store->base + store->tail, bench_cell_at(source, i), BENCH_CELL_BYTES);
        store->commits++;
        memcpy(store->slots, &store->commits, sizeof store->commits);
        memcpy(store->base + 32, store->slots, sizeof store->slots);
        __asm__ volatile("" : : "r"(store->base) : "memory"); /* each commit is visible on its own */
        advance(store, BENCH_CELL_BYTES);
    }
    return 0;
}

static int limit_commit_durable(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;
    unsigned char bytes[BENCH_CELL_BYTES + COMMIT_HEADER_BYTES] = {0};

    for (uint64_t i = 0; i < count; i++) {
        int status;

        memcpy(bytes, bench_cell_at(source, i), BENCH_CELL_BYTES);
        memcpy(bytes + BENCH_CELL_BYTES, &store->tail, sizeof store->tail);
        status = write_whole(store, bytes, sizeof bytes, store->tail);
        if (status == 0 && fdatasync(store->fd) < 0)
            status = -errno;
        if (status < 0)
            return status;
        advance(store, BENCH_CELL_BYTES);
    }
    return 0;
}

static int limit_create_sparse(const char *directory, const struct bench_spec *spec, uint64_t cell_count)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/array", directory);
    int status;
    int fd;

    if (length <= 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    status = ftruncate(fd, (off_t)((spec->first_index + cell_count) * BENCH_CELL_BYTES)) < 0 ? -errno : 0;
    close(fd);
    return status;
}

static int limit_follow(void *state, const char *directory, const struct bench_spec *spec, unsigned reader_count)
{
    struct store *store = state;

    (void)directory;
    (void)spec;
    store->followed = calloc(reader_count, sizeof store->followed[0]);
    store->follower_count = reader_count;
    return store->followed == NULL ? -ENOMEM : 0;
}

static int limit_refresh(void *state, uint64_t times, uint64_t *ret_news)
{
    const struct store *store = state;
    const bool hashed = (store->setup & SETUP_HASHED) != 0;
    uint64_t news = 0;

    for (uint64_t i = 0; i < times; i++)
        for (unsigned reader = 0; reader < store->follower_count; reader++) {
            uint64_t now = atomic_load_explicit(published(store), memory_order_acquire);
            unsigned char digest[DIGEST_BYTES];

            if (hashed) {
                blake2b(digest, &now, NULL, sizeof digest, sizeof now, 0);
                __asm__ volatile("" : : "r"(digest) : "memory");
            }
            news += now != store->followed[reader];
            store->followed[reader] = now;
        }
    *ret_news = news;
    return 0;
}

static int read_random_checked(const struct store *store, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    const unsigned char *base = store->base;
    const uint64_t cells = store->size_bytes / BENCH_CELL_BYTES;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        if (indices[i] >= cells)
            return -ERANGE;
        sum += bench_load_first(base + (uint64_t)indices[i] * BENCH_CELL_BYTES);
    }
    *ret_sum = sum;
    return 0;
}

static int limit_read_random(void *state, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    const struct store *store = state;
    const unsigned char *base = store->base;
    uint64_t sum = 0;

    if (store->setup & SETUP_CHECKED)
        return read_random_checked(store, indices, count, ret_sum);
    for (uint64_t i = 0; i < count; i++)
        sum += bench_load_first(base + (uint64_t)indices[i] * BENCH_CELL_BYTES);
    *ret_sum = sum;
    return 0;
}

static int limit_read_sequential(void *state, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    const unsigned char *cell = ((struct store *)state)->base + (uint64_t)first_index * BENCH_CELL_BYTES;
    const unsigned char *end = cell + count * BENCH_CELL_BYTES;
    uint64_t sum = 0;

    for (; cell < end; cell += BENCH_CELL_BYTES)
        sum += bench_load_first(cell);
    *ret_sum = sum;
    return 0;
}

/* One value by pwrite: gathered into a batch if it is smaller than one. */
static int write_value(struct store *store, const unsigned char *bytes, size_t size_bytes)
{
    int status = 0;

    if (store->batch_bytes + size_bytes > BATCH_BYTES)
        status = write_batch(store);
    if (status == 0 && size_bytes >= BATCH_BYTES) {
        status = write_whole(store, bytes, size_bytes, store->tail);
    } else if (status == 0) {
        memcpy(store->batch + store->batch_bytes, bytes, size_bytes);
        store->batch_bytes += size_bytes;
    }
    store->tail += size_bytes;
    return status;
}

/* What a chunk of so many bytes takes: whole cells. */
static uint64_t chunk_room(uint64_t size_bytes)
{
    return (size_bytes + FOOTER_BYTES + BENCH_CELL_BYTES - 1) / BENCH_CELL_BYTES * BENCH_CELL_BYTES;
}

/* Where Cellar has put a number of equal values: each in chunks, full but for the last one. Returns where they end. */
static uint64_t find_values(uint64_t size_bytes, uint64_t count, uint64_t *ret_names)
{
    uint64_t value_bytes = size_bytes / CHUNK_BYTES * chunk_room(CHUNK_BYTES);

    if (size_bytes % CHUNK_BYTES > 0)
        value_bytes += chunk_room(size_bytes % CHUNK_BYTES);
    for (uint64_t i = 0; i < count; i++)
        ret_names[i] = HEADER_BYTES + i * value_bytes;
    return HEADER_BYTES + count * value_bytes;
}

static int limit_value_write(void *state, const unsigned char *bytes, size_t size_bytes, uint64_t count,
                             uint64_t *ret_names)
{
    struct store *store = state;
    int status = 0;

    if (store->setup & SETUP_PEER) /* what lies elsewhere than thought isn't in the file, or not what is copied */
        return find_values(size_bytes, count, ret_names) <= store->size_bytes ? 0 : -EBADMSG;
    if (store->tail + count * size_bytes > store->size_bytes)
        return -ENOSPC;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        ret_names[i] = store->tail;
        if (store->setup & SETUP_PWRITE) {
            status = write_value(store, bytes, size_bytes);
        } else {
            memcpy(store->base + store->tail, bytes, size_bytes);
            store->tail += size_bytes;
        }
    }
    return status == 0 && (store->setup & SETUP_PWRITE) ? write_batch(store) : status;
}

static int limit_value_copy(void *state, const uint64_t *names, uint64_t count, unsigned char *buffer,
                            size_t size_bytes, uint64_t *ret_sum)
{
    const struct store *store = state;
    const unsigned char *base = store->base;
    size_t piece_bytes = store->setup & SETUP_PEER ? CHUNK_BYTES : size_bytes;
    uint64_t room_bytes = chunk_room(piece_bytes);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        const unsigned char *from = base + names[i];
        size_t done = 0;

        for (; size_bytes - done > piece_bytes; done += piece_bytes, from += room_bytes)
            memcpy(buffer + done, from, piece_bytes);
        memcpy(buffer + done, from, size_bytes - done);
        __asm__ volatile("" : : "r"(buffer) : "memory"); /* the copy is wanted whole */
        sum += bench_load_first(buffer);
    }
    *ret_sum = sum;
    return 0;
}

static int limit_value_pieces(void *state, const uint64_t *names, uint64_t count, size_t size_bytes, uint64_t *ret_sum)
{
    const unsigned char *base = ((struct store *)state)->base;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        const unsigned char *value = base + names[i];

        __asm__ volatile("" : "+r"(value)); /* the address is wanted, each time */
        sum += value != NULL ? size_bytes : 0;
    }
    *ret_sum = sum;
    return 0;
}

const struct bench_engine bench_engine_limit = {
    .name = "limit",
    .variants = limit_variants,
    .variant_count = sizeof limit_variants / sizeof limit_variants[0],
    .explain = limit_explain,
    .create = limit_create,
    .open_read = limit_open_read,
    .open_write = limit_open_write,
    .close = limit_close,
    .append = limit_append,
    .commit = limit_commit,
    .commit_durable = limit_commit_durable,
    .create_sparse = limit_create_sparse,
    .follow = limit_follow,
    .refresh = limit_refresh,
    .read_random = limit_read_random,
    .read_sequential = limit_read_sequential,
    .value_write = limit_value_write,
    .value_copy = limit_value_copy,
    .value_pieces = limit_value_pieces,
};
