/* fuzz_sums_stores.c - the stores of the fuzzer, made once by the library's own writer. */
#include "fuzz_sums.h"

#include <string.h>

enum { STEPS_MAX = 8, VALUE_BYTES_MAX = 70000 };

static struct fuzz_sums_store stores[FUZZ_SUMS_STORES];

/* The values that are written, a flush after each; 0 ends them. */
static const uint32_t small_steps[STEPS_MAX] = {20, 90, 150};
static const uint32_t first_steps[STEPS_MAX] = {300, 3000, 1, 1000};
static const uint32_t second_steps[STEPS_MAX] = {700, 2500, 4000};
static const uint32_t large_steps[STEPS_MAX] = {60000, 70000, 70000, 48000, 10000, 5};

struct cellar_writer_options fuzz_sums_options(void)
{
    static const struct cellar_key key = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9}};

    return (struct cellar_writer_options){.key = &key,
                                          .resize_step_bytes = 1,
                                          .cache_bytes = 1,
                                          .device = CELLAR_DEVICE_PAGES,
                                          .eager_writes = CELLAR_EAGER_NONE,
                                          .checksums = true};
}

static void write_steps(struct cellar_writer *writer, const uint32_t steps[STEPS_MAX])
{
    static unsigned char value[VALUE_BYTES_MAX];

    for (int i = 0; i < STEPS_MAX && steps[i] > 0; i++) {
        uint32_t index;

        fuzz_fill(value, steps[i], steps[i]);
        FUZZ_NEEDS(cellar_writer_write_value(writer, value, steps[i], &index) == 0);
        FUZZ_NEEDS(cellar_writer_set_root(writer, index) == 0);
        FUZZ_NEEDS(cellar_writer_flush(writer) == 0);
    }
    FUZZ_NEEDS(cellar_writer_close(writer) == 0);
}

static struct cellar_writer *create(void)
{
    const struct cellar_config config = {
        .head = "the fuzzer's sums", .bytes_per_cell = FUZZ_SUMS_BYTES_PER_CELL, .max_index = FUZZ_SUMS_MAX_INDEX};
    struct cellar_writer_options options = fuzz_sums_options();
    struct cellar_writer *writer;

    FUZZ_NEEDS(cellar_writer_create(FUZZ_STORE, &config, &options, &writer) == 0);
    return writer;
}

static void keep(struct fuzz_sums_store *store)
{
    store->store = fuzz_file_copy(FUZZ_STORE);
    store->sums = fuzz_file_copy(FUZZ_STORE_SUMS);
    FUZZ_NEEDS(store->store.length_bytes > CELLAR_HEADER_BYTES && store->sums.length_bytes > CELLAR_SUM_AT_SUMS);
}

static void make_all(void)
{
    struct cellar_writer_options options = fuzz_sums_options();
    struct cellar_writer *writer;

    write_steps(create(), small_steps);
    keep(&stores[0]);
    fuzz_files_clear();
    write_steps(create(), first_steps);
    keep(&stores[1]);
    FUZZ_NEEDS(cellar_writer_open(FUZZ_STORE, &options, &writer) == 0);
    write_steps(writer, second_steps);
    keep(&stores[2]);
    fuzz_files_clear();
    write_steps(create(), large_steps);
    keep(&stores[3]);
    fuzz_files_clear();
}

const struct fuzz_sums_store *fuzz_sums_store(uint32_t number)
{
    if (stores[0].store.bytes == NULL)
        make_all();
    /* Not often the large one: it takes ten times as long as the others. */
    return &stores[(number & 15) == 15 ? FUZZ_SUMS_STORES - 1 : number % (FUZZ_SUMS_STORES - 1)];
}
