/*
 * Stores on devices that are not as long as their store: of fixed size, in blocks; and on a file by O_DIRECT, whose
 * length must stay a whole number of cells. What all stores do is tested on them by the other programs
 * (store_fixture.h).
 */
#include "system_fault.h"

#include "device_fault.h"
#include "store_fixture.h"
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- devices of fixed size ---- */

struct stage {
    struct cellar_device *memory, *device;
    struct fault_device fault;
    uint64_t size_bytes;
};

/* size_bytes bytes of the value fill, that can't grow; in blocks where block_bytes is not 1. */
static void open_stage(struct stage *stage, uint64_t size_bytes, uint32_t block_bytes, unsigned without, int fill)
{
    unsigned char *bytes = malloc(size_bytes + 1);

    assert_non_null(bytes);
    memset(bytes, fill, size_bytes);
    *stage = (struct stage){
        .fault = {.keep_inner = true,
                  .block_bytes = block_bytes,
                  .without = without | FAULT_BIT(FAULT_GROW) | FAULT_BIT(FAULT_TRIM)},
        .size_bytes = size_bytes,
    };
    assert_done(cellar_device_open_memory(bytes, size_bytes, size_bytes, &stage->memory));
    stage->fault.inner = stage->memory;
    assert_done(fault_device_open(&stage->fault, &stage->device));
    free(bytes);
}

static void close_stage(struct stage *stage)
{
    assert_done(cellar_device_close(stage->device));
    assert_done(cellar_device_close(stage->memory));
}

/* The device holds only this value from offset on. */
static void assert_filled(struct stage *stage, uint64_t offset, int fill)
{
    unsigned char *bytes = malloc(stage->size_bytes);

    assert_non_null(bytes);
    assert_done(cellar_device_read(stage->memory, bytes, stage->size_bytes, 0));
    for (uint64_t i = offset; i < stage->size_bytes; i++)
        assert_int_equal(bytes[i], fill);
    free(bytes);
}

static const unsigned no_window = FAULT_BIT(FAULT_WINDOW) | FAULT_BIT(FAULT_LOAD);

/* A store is made where the first 4096 bytes are zero, and nowhere else; what lies behind them is nobody's. */
static void test_blank(void **state)
{
    static const uint64_t sizes[] = {512, 4096, 4608, 1 << 20};
    struct cellar_config config = store_config(100, 100000);
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;
    unsigned char byte = 1;
    struct stage stage;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++) {
        uint64_t last = (sizes[i] < 4096 ? sizes[i] : 4096) - 1;

        open_stage(&stage, sizes[i], 512, no_window, 0);
        assert_done(support_device_write(stage.memory, &byte, 1, last));
        assert_result(cellar_writer_create_on(stage.device, &config, NULL, &writer), -EEXIST);
        assert_filled(&stage, last + 1, 0);
        close_stage(&stage);
        open_stage(&stage, sizes[i], 512, no_window, 0);
        for (uint64_t at = 4096; at < sizes[i]; at++)
            assert_done(support_device_write(stage.memory, "\xee", 1, at));
        assert_done(cellar_writer_create_on(stage.device, &config, NULL, &writer));
        store_append(writer, 2);
        assert_done(cellar_writer_flush(writer));
        cellar_writer_abandon(writer);
        assert_result(cellar_writer_create_on(stage.device, &config, NULL, &writer), -EEXIST);
        assert_done(cellar_writer_open_on(stage.device, NULL, &writer));
        snapshot = cellar_writer_snapshot(writer);
        assert_int_equal(snapshot.next_index, 5);
        store_assert_cells(&snapshot);
        store_close(writer);
        close_stage(&stage);
    }
}

/* Up to the first cell a new store is zero, as docs/format.md says, whatever was there. */
static void test_first_cell(void **state)
{
    struct cellar_config config = store_config(CELLAR_BYTES_PER_CELL_MAX, 100);
    struct cellar_writer *writer = NULL;
    unsigned char *bytes = malloc(1 << 20);
    struct stage stage;

    (void)state;
    assert_non_null(bytes);
    open_stage(&stage, 1 << 20, 512, no_window, 0);
    memset(bytes, 0xee, 1 << 20);
    memset(bytes, 0, 4096);
    assert_done(support_device_write(stage.memory, bytes, 1 << 20, 0));
    assert_done(cellar_writer_create_on(stage.device, &config, NULL, &writer));
    store_close(writer);
    assert_done(cellar_device_read(stage.memory, bytes, 1 << 20, 0));
    store_assert_marks(bytes);
    for (size_t i = CELLAR_HEADER_BYTES; i < CELLAR_BYTES_PER_CELL_MAX; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(bytes[CELLAR_BYTES_PER_CELL_MAX], 0xee); /* and the rest is left alone */
    free(bytes);
    close_stage(&stage);
}

/* Formatting that fails leaves the device as empty as it was. */
static void test_failed_create(void **state)
{
    struct cellar_config config = store_config(100, 100000);
    struct cellar_writer_options options = {.initial_cells = 700};
    struct cellar_writer *writer = NULL;
    struct stage stage;

    (void)state;
    open_stage(&stage, 65536, 512, no_window, 0);
    assert_result(cellar_writer_create_on(stage.device, &config, &options, &writer), -ENOSPC);
    assert_filled(&stage, 0, 0);
    fault_fail(&stage.fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_writer_create_on(stage.device, &config, NULL, &writer), -EIO);
    assert_filled(&stage, 0, 0);
    fault_fail(&stage.fault, FAULT_READ, 1, 1, -EIO);
    assert_result(cellar_writer_create_on(stage.device, &config, NULL, &writer), -EIO);
    assert_done(cellar_writer_create_on(stage.device, &config, NULL, &writer));
    store_close(writer);
    close_stage(&stage);
    open_stage(&stage, 256, 1, no_window, 0);
    assert_result(cellar_writer_create_on(stage.device, &config, NULL, &writer),
                  -ENOSPC); /* the header has 300 bytes */
    assert_filled(&stage, 0, 0);
    close_stage(&stage);
}

static uint32_t fill_up(struct cellar_writer *writer, int *ret_error)
{
    unsigned char cell[100] = {0};
    uint32_t count = 0, index;

    while ((*ret_error = cellar_writer_append(writer, cell, 1, &index)) == 0)
        count++;
    return count;
}

/* It ends with the device, or with max index, whichever comes first; every cell before can be used, and no other. */
static void test_end(void **state)
{
    static const struct {
        uint64_t size_bytes;
        uint32_t max_index, block_bytes, last;
        int error;
    } rows[] = {
        {65536, 100000, 512, 655, -ENOSPC},
        {65536, 656, 512, 655, -ENOSPC},
        {65536, 655, 512, 655, CELLAR_EINDEXFULL},
        {65536, 200, 512, 200, CELLAR_EINDEXFULL},
        {65000, 100000, 1, 650, -ENOSPC},
        {65001, 100000, 1, 650, -ENOSPC},
        {512, 100000, 512, 5, -ENOSPC},
        {65536, 3, 512, 3, CELLAR_EINDEXFULL},
        {1 << 20, 100000, 4096, 10485, -ENOSPC},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_config config = store_config(100, rows[i].max_index);
        struct cellar_writer_options options = {.resize_step_bytes = 7000};
        struct cellar_writer *writer = NULL;
        struct cellar_reader *reader = NULL;
        struct cellar_snapshot snapshot;
        struct cellar_info info;
        struct stage stage;
        int error;

        open_stage(&stage, rows[i].size_bytes, rows[i].block_bytes, no_window, 0);
        assert_done(cellar_writer_create_on(stage.device, &config, i % 2 == 0 ? NULL : &options, &writer));
        if (rows[i].last > 10) {
            store_append(writer, 5);
            store_close(writer);
            assert_done(cellar_writer_open_on(stage.device, &options, &writer));
            cellar_writer_info(writer, &info);
            assert_int_equal(info.file_bytes, (uint64_t)rows[i].last * 100);
        }
        (void)fill_up(writer, &error);
        assert_int_equal(error, rows[i].error);
        assert_int_equal(cellar_writer_next(writer), rows[i].last);
        store_close(writer); /* it goes on with what it has */
        assert_done(cellar_reader_open_on(stage.device, NULL, &reader));
        snapshot = cellar_reader_snapshot(reader);
        assert_int_equal(snapshot.next_index, rows[i].last);
        assert_done(cellar_reader_check(reader));
        cellar_reader_close(reader);
        close_stage(&stage);
    }
}

/* Slots that name cells past what the device or max index allow are broken stores. */
static void test_next_beyond(void **state)
{
    static const uint32_t nexts[] = {201, 656, UINT32_MAX};
    struct cellar_config config = store_config(100, 200);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(nexts); i++) {
        struct cellar_state beyond = {.next_index = nexts[i]};
        unsigned char slot[CELLAR_SLOT_BYTES];
        struct stage stage;

        open_stage(&stage, 65536, 512, no_window, 0);
        assert_done(cellar_writer_create_on(stage.device, &config, NULL, &writer));
        store_append(writer, 5);
        store_close(writer);
        assert_done(cellar_reader_open_on(stage.device, NULL, &reader));
        cellar_slot_encode(&beyond, NULL, slot);
        assert_done(support_device_write(stage.memory, slot, sizeof slot, cellar_slot_offset(CELLAR_DISK_1)));
        assert_done(support_device_write(stage.memory, slot, sizeof slot, cellar_slot_offset(CELLAR_DISK_2)));
        assert_result(cellar_reader_refresh(reader), CELLAR_ECORRUPT);
        cellar_reader_close(reader);
        assert_result(cellar_reader_open_on(stage.device, NULL, &reader), CELLAR_ECORRUPT);
        assert_result(cellar_writer_open_on(stage.device, NULL, &writer), CELLAR_ECORRUPT);
        close_stage(&stage);
    }
}

/* With a window, too; one that is smaller than the device has to reach the last cell. */
static void test_window(void **state)
{
    struct cellar_config config = store_config(100, 300);
    struct cellar_writer_options options = {.resize_step_bytes = 1000}, small = {.window_bytes = 10000};
    struct cellar_writer *writer = NULL;
    struct cellar_info info;
    struct stage stage;
    int error;

    (void)state;
    open_stage(&stage, 65536, 1, 0, 0);
    assert_done(cellar_writer_create_on(stage.device, &config, &options, &writer));
    cellar_writer_info(writer, &info);
    assert_int_equal(info.data_path, CELLAR_PATH_WINDOW);
    assert_int_equal(info.window_bytes, 30000); /* of the device, what max index needs */
    store_append(writer, 50);
    store_close(writer);
    assert_done(cellar_writer_open_on(stage.device, &small, &writer));
    cellar_writer_info(writer, &info);
    assert_int_equal(info.window_bytes, 10000);
    (void)fill_up(writer, &error);
    assert_int_equal(error, CELLAR_EWINDOW);
    assert_int_equal(cellar_writer_next(writer), 100);
    store_close(writer);
    small.window_bytes = 9999;
    assert_result(cellar_writer_open_on(stage.device, &small, &writer), CELLAR_EWINDOW);
    assert_done(cellar_writer_open_on(stage.device, &options, &writer));
    (void)fill_up(writer, &error);
    assert_int_equal(error, CELLAR_EINDEXFULL);
    store_close(writer);
    close_stage(&stage);
}

/* A device in blocks that grows: a store on it is as long as the device's blocks make it. */
static void test_growing_blocks(void **state)
{
    struct cellar_config config = store_config(100, 1000);
    struct cellar_writer_options options = {.resize_step_bytes = 700};
    struct fault_device fault = {.block_bytes = 4096, .without = FAULT_BIT(FAULT_WINDOW) | FAULT_BIT(FAULT_LOAD)};
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    uint64_t size_bytes;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 4096);
    store_append(writer, 200);
    store_close(writer);
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), -EEXIST);
    assert_done(cellar_writer_open_on(device, &options, &writer));
    assert_int_equal(cellar_writer_next(writer), 203);
    store_append(writer, 797); /* up to max index, the device by now longer than that */
    store_close(writer);
    assert_done(cellar_writer_open_on(device, &options, &writer));
    store_close(writer);
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 102400);
    assert_done(cellar_device_close(device));
}

/* ---- files by O_DIRECT ---- */

static void assert_whole_cells(struct store_fixture *f, uint32_t bytes_per_cell)
{
    assert_int_equal(support_file_size(f->path) % bytes_per_cell, 0);
}

/*
 * Whatever the writer has come to, the file is a whole number of cells, which everybody can open: a block that the
 * header or the last cells share with the end of the file is never written as a whole.
 */
static void test_whole_cells(void **state)
{
    static const uint32_t cell_sizes[] = {4, 7, 100, 4099, 65535};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        for (int stages = 0; stages < 6; stages++) {
            struct cellar_writer_options options = store_options(f);
            struct cellar_reader_options mapped = {.device = CELLAR_DEVICE_AUTO};
            struct cellar_config config = store_config(cell_sizes[i], 20000);
            struct cellar_snapshot snapshot;
            struct cellar_writer *writer = NULL;
            struct cellar_reader *reader = NULL;

            options.resize_step_bytes = 1;
            assert_done(store_create(f, &config, &options, &writer));
            assert_whole_cells(f, cell_sizes[i]);
            for (int stage = 0; stage < stages; stage++) {
                store_append(writer, 3);
                assert_whole_cells(f, cell_sizes[i]);
                assert_done(cellar_writer_commit(writer));
                assert_whole_cells(f, cell_sizes[i]);
                if (stage % 2 == 1)
                    assert_done(cellar_writer_flush(writer));
                assert_whole_cells(f, cell_sizes[i]);
            }
            cellar_writer_abandon(writer);
            assert_whole_cells(f, cell_sizes[i]);
            store_close(store_again(f)); /* recovers, and cuts it to its last cell */
            assert_int_equal(support_file_size(f->path),
                             (uint64_t)cell_sizes[i] * (cellar_start_index(cell_sizes[i]) + 3 * (unsigned)stages));
            writer = store_again(f); /* the file ends right behind the cells: its header is in its last block */
            assert_done(cellar_writer_override_version(writer, 9));
            assert_whole_cells(f, cell_sizes[i]);
            cellar_writer_abandon(writer);
            assert_done(cellar_reader_open(f->path, &mapped, &reader));
            snapshot = cellar_reader_snapshot(reader);
            store_assert_cells(&snapshot);
            cellar_reader_close(reader);
            store_remove(f);
        }
    }
}

static void test_truncate(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 100, 5000);
    struct cellar_info info;

    store_append(writer, 50);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_writer_truncate(writer, 0));
    cellar_writer_info(writer, &info);
    assert_string_equal(info.device_name, "direct"); /* the new file is one like the old */
    assert_int_equal(info.data_path, CELLAR_PATH_PAGES);
    store_append(writer, 20);
    store_close(writer);
    assert_int_equal(support_file_size(f->path), 2300);
    assert_int_equal(store_folder_entries(f), 1);
}

/* Where the file system has no O_DIRECT the caller is told so, and nothing is left behind. */
static void test_no_direct(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_diagnostic diagnostic;
    struct cellar_config config = store_config(100, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_reader_options reader_options = store_reader_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;

    options.diagnostic = reader_options.diagnostic = &diagnostic;
    system_fail(SYSTEM_OPEN, 2, 2, EINVAL); /* a second description, through /proc and by the path */
    assert_result(cellar_writer_create(f->path, &config, &options, &writer), -EINVAL);
    system_heal();
    assert_non_null(strstr(diagnostic.message, "O_DIRECT"));
    assert_int_equal(store_folder_entries(f), 0);
    store_close(store_new(f, 100, 5000));
    system_fail(SYSTEM_OPEN, 2, 2, EINVAL);
    assert_result(cellar_writer_open(f->path, &options, &writer), -EINVAL);
    assert_non_null(strstr(diagnostic.message, "O_DIRECT"));
    system_heal();
    system_fail(SYSTEM_OPEN, 2, 2, EINVAL);
    assert_result(cellar_reader_open(f->path, &reader_options, &reader), -EINVAL);
    assert_non_null(strstr(diagnostic.message, "O_DIRECT"));
    system_heal();
    store_close(store_again(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blank),          cmocka_unit_test(test_first_cell),
        cmocka_unit_test(test_failed_create),  cmocka_unit_test(test_end),
        cmocka_unit_test(test_next_beyond),    cmocka_unit_test(test_window),
        cmocka_unit_test(test_growing_blocks), STORE_ON(test_whole_cells, STORE_DIRECT),
        STORE_ON(test_truncate, STORE_DIRECT), STORE_ON(test_no_direct, STORE_DIRECT),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
