#include "store_fixture.h"

#ifdef CELLAR_TESTS_NBD
#include "nbd_fixture.h"
#endif

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP_BYTES = 64 * 1024, MEMORY_BYTES = 64 << 20 };

struct store_way store_ways[STORE_WAY_COUNT] = {
    [STORE_MAPPED] = {.name = "mapped", .device = CELLAR_DEVICE_MAPPED, .window = true},
    [STORE_PAGES] = {.name = "pages", .device = CELLAR_DEVICE_PAGES},
    [STORE_DIRECT] = {.name = "direct", .device = CELLAR_DEVICE_DIRECT},
    [STORE_MEMORY_MAPPED] = {.name = "memory", .device = CELLAR_DEVICE_MAPPED, .memory = true, .window = true},
    [STORE_MEMORY_PAGES] = {.name = "memory-pages", .device = CELLAR_DEVICE_PAGES, .memory = true},
    [STORE_BLOCK] = {.name = "block", .device = CELLAR_DEVICE_PAGES, .memory = true, .fixed = true},
    [STORE_NBD] = {.name = "nbd", .device = CELLAR_DEVICE_PAGES, .memory = true, .fixed = true, .asked = true},
};

/* ---- which ways run ---- */

static bool ways_ran[STORE_WAY_COUNT];
static pid_t program; /* children of the tests say nothing */

static void report_ways(void)
{
    if (getpid() != program)
        return;
    printf("ways that ran:");
    for (int way = 0; way < STORE_WAY_COUNT; way++) {
        if (ways_ran[way])
            printf(" %s", store_ways[way].name);
    }
    printf("\n");
}

static bool is_wanted(const struct store_way *way)
{
    const char *at = getenv("CELLAR_TEST_WAYS");
    size_t name_bytes = strlen(way->name);

    if (at == NULL)
        return !way->asked;
    for (;;) {
        size_t length_bytes = strcspn(at, ",");

        if (length_bytes == name_bytes && strncmp(at, way->name, name_bytes) == 0)
            return true;
        if (at[length_bytes] == '\0')
            return false;
        at += length_bytes + 1;
    }
}

#ifdef CELLAR_TESTS_NBD

static bool has_nbd(void)
{
    return nbd_is_here();
}

static void open_nbd(struct store_fixture *f)
{
    f->server = nbd_fixture_open(STORE_FIXED_BYTES, &f->memory);
}

static void close_nbd(struct store_fixture *f)
{
    if (f->server != NULL)
        nbd_fixture_close(f->server);
    f->server = NULL;
}

#else

static bool has_nbd(void)
{
    return false;
}

static void open_nbd(struct store_fixture *f)
{
    (void)f;
}

static void close_nbd(struct store_fixture *f)
{
    (void)f;
}

#endif

void store_run(void **state)
{
    struct store_fixture *f = *state;

    if (!is_wanted(f->way))
        skip();
    if (f->way->device == CELLAR_DEVICE_DIRECT && !support_has_direct(f->folder))
        support_skip("no O_DIRECT on the file system of %s", f->folder);
    if (f->way == &store_ways[STORE_NBD] && !has_nbd())
        support_skip("no libnbd, or no nbdkit");
    ways_ran[f->way - store_ways] = true;
    f->test(state);
}

bool store_takes_slice(const struct store_fixture *f)
{
    return f->way->device == CELLAR_DEVICE_DIRECT && getenv("CELLAR_TEST_WAYS") == NULL;
}

int store_setup(void **state)
{
    const struct store_case *of = *state;
    struct store_fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    if (program == 0) {
        program = getpid();
        assert_int_equal(atexit(report_ways), 0);
    }
    f->test = of->test;
    f->way = of->way;
    f->folder = support_folder_make();
    f->path = support_path(f->folder, "store");
    f->key = store_key(1);
    *state = f;
    return 0;
}

int store_teardown(void **state)
{
    struct store_fixture *f = *state;

    if (f->device != f->memory)
        cellar_device_close(f->device);
    cellar_device_close(f->memory);
    close_nbd(f);
    support_folder_remove(f->folder);
    free(f);
    return 0;
}

/* ---- making ---- */

struct cellar_config store_config(uint32_t bytes_per_cell, uint32_t max_index)
{
    struct cellar_config config = {.bytes_per_cell = bytes_per_cell, .max_index = max_index, .version = 7};

    memcpy(config.head, "CELLAR TEST STORE 01", CELLAR_HEAD_BYTES);
    return config;
}

struct cellar_key store_key(unsigned number)
{
    struct cellar_key key;

    support_bytes(0x6b65790000 + number, key.bytes, sizeof key.bytes);
    return key;
}

struct cellar_writer_options store_options(const struct store_fixture *f)
{
    return (struct cellar_writer_options){.key = &f->key, .resize_step_bytes = STEP_BYTES, .device = f->way->device};
}

struct cellar_reader_options store_reader_options(const struct store_fixture *f)
{
    return (struct cellar_reader_options){.device = f->way->device};
}

static void make_device(struct store_fixture *f)
{
    uint64_t size_bytes = f->way->fixed ? STORE_FIXED_BYTES : 0;

    if (f->device != NULL)
        return;
    if (f->way == &store_ways[STORE_NBD])
        open_nbd(f);
    else
        assert_done(cellar_device_open_memory(NULL, size_bytes, MEMORY_BYTES, &f->memory));
    f->device = f->memory;
    if (f->way != &store_ways[STORE_BLOCK])
        return;
    f->blocks = (struct fault_device){
        .inner = f->memory,
        .keep_inner = true,
        .without = FAULT_BIT(FAULT_GROW) | FAULT_BIT(FAULT_TRIM) | FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW),
        .block_bytes = 512,
    };
    assert_done(fault_device_open(&f->blocks, &f->device));
}

int store_create(struct store_fixture *f, const struct cellar_config *config,
                 const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    if (!f->way->memory)
        return cellar_writer_create(f->path, config, options, ret_writer);
    make_device(f);
    return cellar_writer_create_on(f->device, config, options, ret_writer);
}

int store_open(struct store_fixture *f, const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    return f->way->memory ? cellar_writer_open_on(f->device, options, ret_writer)
                          : cellar_writer_open(f->path, options, ret_writer);
}

int store_read(struct store_fixture *f, const struct cellar_reader_options *options, struct cellar_reader **ret_reader)
{
    return f->way->memory ? cellar_reader_open_on(f->device, options, ret_reader)
                          : cellar_reader_open(f->path, options, ret_reader);
}

struct cellar_writer *store_new(struct store_fixture *f, uint32_t bytes_per_cell, uint32_t max_index)
{
    struct cellar_config config = store_config(bytes_per_cell, max_index);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

struct cellar_writer *store_again(struct store_fixture *f)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    assert_done(store_open(f, &options, &writer));
    return writer;
}

struct cellar_reader *store_reader(struct store_fixture *f, const struct cellar_key *key)
{
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_reader *reader = NULL;

    options.key = key;
    assert_done(store_read(f, &options, &reader));
    return reader;
}

void store_close(struct cellar_writer *writer)
{
    assert_done(cellar_writer_close(writer));
}

void store_remove(struct store_fixture *f)
{
    if (f->way->memory) {
        if (f->device != f->memory)
            cellar_device_close(f->device);
        cellar_device_close(f->memory);
        close_nbd(f);
        f->device = f->memory = NULL;
    } else {
        assert_int_equal(unlink(f->path), 0);
    }
}

unsigned store_folder_entries(const struct store_fixture *f)
{
    DIR *folder = opendir(f->folder);
    const struct dirent *entry;
    unsigned count = 0;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(folder);
    return count;
}

/* ---- cells ---- */

void store_cell_bytes(uint32_t index, unsigned char *buffer, uint32_t bytes_per_cell)
{
    support_bytes(index, buffer, bytes_per_cell);
}

uint32_t store_append(struct cellar_writer *writer, uint32_t cell_count)
{
    struct cellar_info info;
    unsigned char *cells;
    uint32_t first = 0;

    cellar_writer_info(writer, &info);
    cells = malloc((size_t)cell_count * info.config.bytes_per_cell);
    assert_non_null(cells);
    for (uint32_t i = 0; i < cell_count; i++)
        store_cell_bytes(info.next_index + i, cells + (size_t)i * info.config.bytes_per_cell,
                         info.config.bytes_per_cell);
    assert_done(cellar_writer_append(writer, cells, cell_count, &first));
    assert_int_equal(first, info.next_index);
    free(cells);
    return first;
}

bool store_cells_hold(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t cell_count)
{
    unsigned char expected[CELLAR_BYTES_PER_CELL_MAX], scratch[CELLAR_BYTES_PER_CELL_MAX];

    for (uint32_t i = 0; i < cell_count; i++) {
        const void *cell = NULL;

        store_cell_bytes(first_index + i, expected, snapshot->bytes_per_cell);
        if (cellar_snapshot_get(snapshot, first_index + i, scratch, &cell) != 0 ||
            memcmp(cell, expected, snapshot->bytes_per_cell) != 0)
            return false;
    }
    return true;
}

void store_assert_cells(const struct cellar_snapshot *snapshot)
{
    assert_true(store_cells_hold(snapshot, snapshot->start_index, snapshot->next_index - snapshot->start_index));
}

/* The pieces together are the bytes. */
static void assert_pieces(const struct cellar_snapshot *snapshot, uint32_t index, const unsigned char *bytes,
                          size_t length_bytes)
{
    size_t count = 0, again = 0, at = 0;
    struct cellar_piece *pieces;

    assert_done(cellar_snapshot_value_piece_count(snapshot, index, &count));
    assert_int_equal(count, length_bytes == 0 ? 1 : (length_bytes + 65534) / 65535);
    pieces = calloc(count, sizeof *pieces);
    assert_non_null(pieces);
    if (snapshot->window == NULL) {
        assert_result(cellar_snapshot_value_pieces(snapshot, index, pieces, count, &again), -ENOTSUP);
    } else {
        assert_done(cellar_snapshot_value_pieces(snapshot, index, pieces, count, &again));
        assert_int_equal(again, count);
        for (size_t i = 0; i < count; i++) {
            assert_true(pieces[i].length_bytes <= length_bytes - at);
            if (pieces[i].length_bytes > 0)
                assert_memory_equal(pieces[i].bytes, bytes + at, pieces[i].length_bytes);
            at += pieces[i].length_bytes;
        }
        assert_int_equal(at, length_bytes);
    }
    free(pieces);
}

void store_assert_value(const struct cellar_snapshot *snapshot, uint32_t index, const void *bytes, size_t length_bytes)
{
    struct cellar_diagnostic diagnostic;
    uint64_t size_bytes = UINT64_MAX;
    size_t got = SIZE_MAX;
    unsigned char *buffer = malloc(length_bytes + 1);
    void *copy = NULL;

    assert_non_null(buffer);
    assert_done(cellar_snapshot_value_size(snapshot, index, &size_bytes));
    assert_int_equal(size_bytes, length_bytes);
    assert_done(cellar_snapshot_check_value(snapshot, index, &diagnostic));
    buffer[length_bytes] = 0x5a;
    assert_done(cellar_snapshot_read_value(snapshot, index, buffer, length_bytes, &got));
    assert_int_equal(got, length_bytes);
    assert_int_equal(buffer[length_bytes], 0x5a);
    got = SIZE_MAX;
    assert_done(cellar_snapshot_copy_value(snapshot, index, &copy, &got));
    assert_non_null(copy);
    assert_int_equal(got, length_bytes);
    if (length_bytes > 0) {
        assert_memory_equal(buffer, bytes, length_bytes);
        assert_memory_equal(copy, bytes, length_bytes);
    }
    free(copy);
    free(buffer);
    assert_pieces(snapshot, index, bytes, length_bytes);
}

/* ---- the file ---- */

unsigned char *store_bytes(struct store_fixture *f, size_t *ret_length_bytes)
{
    unsigned char *bytes;
    uint64_t size_bytes;

    if (!f->way->memory)
        return support_file_read(f->path, ret_length_bytes);
    assert_done(cellar_device_size(f->memory, &size_bytes));
    bytes = malloc(size_bytes > 0 ? (size_t)size_bytes : 1);
    assert_non_null(bytes);
    assert_done(cellar_device_read(f->memory, bytes, (size_t)size_bytes, 0));
    *ret_length_bytes = (size_t)size_bytes;
    return bytes;
}

void store_patch(struct store_fixture *f, uint64_t offset, const void *bytes, size_t length_bytes)
{
    if (f->way->memory)
        assert_done(support_device_write(f->memory, bytes, length_bytes, offset));
    else
        support_file_patch(f->path, offset, bytes, length_bytes);
}

struct store_image store_image_take(struct store_fixture *f)
{
    struct store_image image;

    image.bytes = store_bytes(f, &image.length_bytes);
    return image;
}

void store_image_compare(struct store_fixture *f, struct store_image image)
{
    struct store_image now = store_image_take(f);

    assert_int_equal(now.length_bytes, image.length_bytes);
    assert_memory_equal(now.bytes, image.bytes, image.length_bytes);
    free(now.bytes);
    free(image.bytes);
}

struct cellar_slot store_slot(struct store_fixture *f, enum cellar_slot_name name)
{
    size_t length_bytes;
    unsigned char *bytes = store_bytes(f, &length_bytes);
    struct cellar_slot slot;

    assert_true(length_bytes >= CELLAR_HEADER_BYTES);
    slot = cellar_slot_decode(bytes + cellar_slot_offset(name));
    free(bytes);
    return slot;
}

void store_put_slot(struct store_fixture *f, enum cellar_slot_name name, uint32_t next_index, uint32_t root_index,
                    const struct cellar_key *key)
{
    struct cellar_state state = {.next_index = next_index, .root_index = root_index};
    unsigned char bytes[CELLAR_SLOT_BYTES];

    cellar_slot_encode(&state, key, bytes);
    store_patch(f, cellar_slot_offset(name), bytes, sizeof bytes);
}

void store_break_slot(struct store_fixture *f, enum cellar_slot_name name)
{
    size_t length_bytes;
    unsigned char *bytes = store_bytes(f, &length_bytes);
    uint64_t offset = cellar_slot_offset(name) + CELLAR_SLOT_AT_ROOT + 2;
    unsigned char spoiled = (unsigned char)(bytes[offset] ^ 0x10);

    free(bytes);
    store_patch(f, offset, &spoiled, 1);
}

static uint64_t mark_of(struct store_fixture *f)
{
    size_t length_bytes;
    unsigned char *bytes = store_bytes(f, &length_bytes);
    uint64_t mark = cellar_extension_decode(bytes).boot_mark;

    free(bytes);
    return mark;
}

bool store_has_mark(struct store_fixture *f)
{
    return mark_of(f) != 0;
}

void store_lose_power(struct store_fixture *f)
{
    unsigned char bytes[8];
    uint64_t mark = mark_of(f);

    cellar_store_le64(bytes, mark != 0 ? mark ^ UINT64_C(1) << 63 : 0);
    store_patch(f, CELLAR_AT_BOOT_MARK, bytes, sizeof bytes);
}

void store_assert_marks(const unsigned char header[CELLAR_HEADER_BYTES])
{
    struct cellar_extension extension = cellar_extension_decode(header);
    struct cellar_slot slot = cellar_slot_decode(header + cellar_slot_offset(CELLAR_PROCESS_1));

    assert_int_equal(extension.flags, 0);
    assert_int_equal(extension.config_check, cellar_config_hash(header));
    assert_true(extension.binding == (extension.boot_mark != 0 ? slot.keyed : 0));
    assert_int_equal(extension.confirmed_next, extension.boot_mark != 0 ? slot.state.next_index : 0);
    for (size_t i = CELLAR_AT_WORD; i < CELLAR_HEADER_BYTES; i++) {
        bool used = (i >= CELLAR_AT_BOOT_MARK && i < CELLAR_AT_EPOCH) ||
                    (i >= CELLAR_AT_BINDING && i < CELLAR_AT_FLAGS) ||
                    (i >= CELLAR_AT_CONFIG_CHECK && i < CELLAR_AT_CHECKSUM_ID) ||
                    (i >= CELLAR_AT_CONFIRMED && i < CELLAR_AT_CONFIRMED + 4);

        assert_true(used || header[i] == 0);
    }
}

void store_assert_pair(struct store_fixture *f, enum cellar_slot_name first, uint32_t next_index, uint32_t root_index)
{
    for (int which = 0; which < 2; which++) {
        struct cellar_slot slot = store_slot(f, (enum cellar_slot_name)((int)first + which));

        assert_true(slot.valid);
        assert_int_equal(slot.state.next_index, next_index);
        assert_int_equal(slot.state.root_index, root_index);
    }
}
