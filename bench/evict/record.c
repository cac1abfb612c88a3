/*
 * record.c - writes down which pages of a store its workloads use; the traces in this folder's traces/ are its output.
 *
 *     evict_record FOLDER      writes FOLDER/store-append.trace and so on; the same bytes each time
 *
 * What is recorded. A store with cells of 32 bytes lies in memory, so that every value can be found where it is
 * (cellar_snapshot_value_pieces). A read of a value is written down as the pages of 4096 bytes in which the library
 * reads then, in its order: for each chunk, from the last to the first, those of its footer, the last 6 bytes of its
 * last cell; then for each chunk, from the first to the last, those of its bytes. An append is written down as the
 * pages of the cells that it took, in order. The header of a store never comes into its cache, and is left out. A page
 * right after itself is one use.
 *
 * So a trace is what the cache of the pages path is asked for, before any cache has answered a part of it; and it is
 * the same for every size of a cache. Only the public interface is used.
 */
#include "trace.h"

#include <cellar/cellar.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXIT_USAGE = 1,
    EXIT_FAILED = 2,
    PAGE_BYTES = 4096,
    CELL_BYTES = 32,
    FOOTER_BYTES = 6,
    VALUE_BYTES_MAX = 8192,
    STORE_BYTES_MAX = 1 << 27,
    USES_MAX = 1 << 20,
    PIECES_MAX = 4,
};

struct recorder {
    struct cellar_device *device;
    struct cellar_writer *writer;
    uint64_t state; /* of the random numbers */
    bool is_on;     /* what is done is written down */
    uint64_t *pages;
    size_t count;
    unsigned char value[VALUE_BYTES_MAX]; /* of the next append */
};

static void touch(struct recorder *recorder, uint64_t address, uint64_t length)
{
    for (uint64_t page = address / PAGE_BYTES; page <= (address + length - 1) / PAGE_BYTES; page++) {
        if (!recorder->is_on || (recorder->count > 0 && recorder->pages[recorder->count - 1] == page))
            continue;
        if (recorder->count < USES_MAX)
            recorder->pages[recorder->count++] = page;
    }
}

/* Appends size_bytes of recorder->value. */
static int append(struct recorder *recorder, size_t size_bytes, uint32_t *ret_index)
{
    const uint64_t first = cellar_writer_next(recorder->writer);
    int status = cellar_writer_write_value(recorder->writer, recorder->value, size_bytes, ret_index);

    if (status == 0)
        touch(recorder, first * CELL_BYTES, (cellar_writer_next(recorder->writer) - first) * CELL_BYTES);
    return status;
}

/* Reads a value of at least 4 bytes; *ret_bytes are those of its first chunk. */
static int read_value(struct recorder *recorder, uint32_t index, const void **ret_bytes)
{
    const struct cellar_snapshot snapshot = cellar_writer_snapshot(recorder->writer);
    struct cellar_piece pieces[PIECES_MAX];
    size_t count;
    int status = cellar_snapshot_value_pieces(&snapshot, index, pieces, PIECES_MAX, &count);

    if (status != 0)
        return status;
    for (size_t i = count; i-- > 0;) {
        const uint64_t address = (uint64_t)((const unsigned char *)pieces[i].bytes - snapshot.window);
        const uint64_t cells = (pieces[i].length_bytes + FOOTER_BYTES + CELL_BYTES - 1) / CELL_BYTES;

        touch(recorder, address + cells * CELL_BYTES - FOOTER_BYTES, FOOTER_BYTES);
    }
    for (size_t i = 0; i < count; i++)
        touch(recorder, (uint64_t)((const unsigned char *)pieces[i].bytes - snapshot.window), pieces[i].length_bytes);
    *ret_bytes = pieces[0].bytes;
    return 0;
}

/* Few are large: each power of two from 16 to VALUE_BYTES_MAX is as likely as the next. */
static size_t draw_size(struct recorder *recorder)
{
    uint32_t limit = 16u << evict_random(&recorder->state, 10);

    return limit / 2 + evict_random(&recorder->state, limit / 2) + 1;
}

/* 0 to limit - 1, a power of two; small numbers much more often than large ones. */
static uint32_t draw_small(struct recorder *recorder, uint32_t limit_log)
{
    return evict_random(&recorder->state, 1u << evict_random(&recorder->state, limit_log + 1));
}

static int append_many(struct recorder *recorder, uint32_t *indices, size_t count)
{
    int status = 0;

    for (size_t i = 0; i < count && status == 0; i++)
        status = append(recorder, draw_size(recorder), &indices[i]);
    return status;
}

static int record_append(struct recorder *recorder)
{
    enum { VALUES = 6000, KEYS = 64, LAST = 50, LINKS = 8 };
    uint32_t newest[KEYS] = {0}, last[LAST] = {0};
    const void *bytes;
    int status = 0;

    recorder->is_on = true;
    for (uint32_t i = 0; i < VALUES && status == 0; i++) {
        uint32_t *key = &newest[evict_random(&recorder->state, KEYS)];

        memcpy(recorder->value, key, sizeof *key); /* a value begins with the index of the one before, or 0 */
        status = append(recorder, draw_size(recorder), key);
        last[i % LAST] = *key;
        if (status == 0 && i % 4 == 3)
            status = read_value(recorder, last[evict_random(&recorder->state, i < LAST ? i : LAST)], &bytes);
        if (i % 10 == 9) {
            uint32_t index = newest[evict_random(&recorder->state, KEYS)];

            for (int link = 0; link < LINKS && index != 0 && status == 0; link++) {
                status = read_value(recorder, index, &bytes);
                if (status == 0)
                    memcpy(&index, bytes, sizeof index);
            }
        }
        if (status == 0 && i % 20 == 19)
            status = cellar_writer_commit(recorder->writer);
    }
    return status;
}

static int record_random(struct recorder *recorder)
{
    enum { VALUES = 6000, READS = 15000 };
    static uint32_t indices[VALUES];
    const void *bytes;
    int status = append_many(recorder, indices, VALUES);

    recorder->is_on = true;
    for (int i = 0; i < READS && status == 0; i++)
        status = read_value(recorder, indices[evict_random(&recorder->state, VALUES)], &bytes);
    return status;
}

static int record_recent(struct recorder *recorder)
{
    enum { BEFORE = 4096, BEFORE_LOG = 12, VALUES = 6000 };
    static uint32_t indices[VALUES];
    const void *bytes;
    int status = append_many(recorder, indices, BEFORE);

    recorder->is_on = true;
    for (size_t count = BEFORE; count < VALUES && status == 0; count++) {
        for (int i = 0; i < 9 && status == 0; i++)
            status = read_value(recorder, indices[count - 1 - draw_small(recorder, BEFORE_LOG)], &bytes);
        if (status == 0)
            status = append(recorder, draw_size(recorder), &indices[count]);
        if (status == 0 && count % 20 == 0)
            status = cellar_writer_commit(recorder->writer);
    }
    return status;
}

/* A tree: DEPTH levels of nodes of CHILDREN children over the leaves. nodes[level][i] and leaves[i]: their indices. */
enum { CHILDREN = 16, LEAVES = 4096, LEAVES_LOG = 12, DEPTH = 3, NODE_BYTES = CHILDREN * (4 + 32) };

struct tree {
    uint32_t leaves[LEAVES];
    uint32_t nodes[DEPTH][LEAVES / CHILDREN];
    uint32_t order[LEAVES]; /* the leaf that is used most, and so on */
};

/* A node is its children's indices and hashes; these may be anything here. */
static int append_node(struct recorder *recorder, struct tree *tree, int level, uint32_t at)
{
    const uint32_t *children = level == 0 ? tree->leaves : tree->nodes[level - 1];

    memcpy(recorder->value, &children[at * CHILDREN], CHILDREN * sizeof *children);
    return append(recorder, NODE_BYTES, &tree->nodes[level][at]);
}

static int grow_tree(struct recorder *recorder, struct tree *tree)
{
    int status = append_many(recorder, tree->leaves, LEAVES);

    for (uint32_t level = 0, count = LEAVES / CHILDREN; level < DEPTH; level++, count /= CHILDREN)
        for (uint32_t at = 0; at < count && status == 0; at++)
            status = append_node(recorder, tree, (int)level, at);
    for (uint32_t i = 0; i < LEAVES; i++) {
        uint32_t other = evict_random(&recorder->state, i + 1);

        tree->order[i] = tree->order[other];
        tree->order[other] = i;
    }
    return status;
}

/* From the root to a leaf, by what the nodes hold. */
static int look_up(struct recorder *recorder, const struct tree *tree, uint32_t leaf)
{
    uint32_t index = tree->nodes[DEPTH - 1][0];
    const void *bytes;
    int status = read_value(recorder, index, &bytes);

    for (int level = DEPTH - 1; level >= 0 && status == 0; level--) {
        const uint32_t child = leaf >> 4 * level & (CHILDREN - 1);

        memcpy(&index, (const unsigned char *)bytes + child * sizeof index, sizeof index);
        status = read_value(recorder, index, &bytes);
    }
    if (status == 0 && index != tree->leaves[leaf])
        status = CELLAR_ECORRUPT;
    return status;
}

static int update(struct recorder *recorder, struct tree *tree, uint32_t leaf)
{
    int status = look_up(recorder, tree, leaf);

    if (status == 0)
        status = append(recorder, draw_size(recorder), &tree->leaves[leaf]);
    for (int level = 0; level < DEPTH && status == 0; level++) {
        leaf /= CHILDREN;
        status = append_node(recorder, tree, level, leaf);
    }
    if (status == 0)
        status = cellar_writer_set_root(recorder->writer, tree->nodes[DEPTH - 1][0]);
    return status == 0 ? cellar_writer_commit(recorder->writer) : status;
}

static int record_tree(struct recorder *recorder)
{
    enum { OPERATIONS = 5000 };
    static struct tree tree;
    int status = grow_tree(recorder, &tree);

    recorder->is_on = true;
    for (int i = 0; i < OPERATIONS && status == 0; i++) {
        const uint32_t leaf = tree.order[draw_small(recorder, LEAVES_LOG)];

        status = i % 5 == 4 ? update(recorder, &tree, leaf) : look_up(recorder, &tree, leaf);
    }
    return status;
}

static const struct workload {
    const char *name;
    int (*record)(struct recorder *recorder);
} workloads[] = {
    {"store-append", record_append},
    {"store-random", record_random},
    {"store-recent", record_recent},
    {"store-tree", record_tree},
};

static int record(const struct workload *workload, const char *folder)
{
    const struct cellar_config config = {
        .head = "cellar evict record", .bytes_per_cell = CELL_BYTES, .max_index = STORE_BYTES_MAX / CELL_BYTES};
    struct recorder recorder = {.state = 1};
    int status = cellar_device_open_memory(NULL, 0, STORE_BYTES_MAX, &recorder.device);

    if (status == 0)
        status = cellar_writer_create_on(recorder.device, &config, NULL, &recorder.writer);
    recorder.pages = malloc(USES_MAX * sizeof *recorder.pages);
    if (status == 0 && recorder.pages == NULL)
        status = -ENOMEM;
    if (status == 0)
        status = workload->record(&recorder);
    if (status == 0)
        status = evict_trace_write(folder, workload->name, PAGE_BYTES, recorder.pages, recorder.count);
    cellar_writer_abandon(recorder.writer);
    cellar_device_close(recorder.device);
    free(recorder.pages);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "Usage: evict_record FOLDER\n");
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        int status = record(&workloads[i], argv[1]);

        if (status != 0) {
            fprintf(stderr, "evict_record: %s: %s\n", workloads[i].name, cellar_strerror(status));
            return EXIT_FAILED;
        }
    }
    return 0;
}
