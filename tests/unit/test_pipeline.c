/* The pipeline: what is seen, what goes out and how, what remains; on every device, in blocks, and over functions. */
#include "page_test.h"
#include "support.h"

#include <cellar/pipeline.h>
#include <limits.h>

static void assert_write(const struct trial *trial, unsigned index, uint64_t offset, uint64_t length, int parts)
{
    assert_true(index < trial->writes);
    assert_int_equal(trial->log[index].offset, offset);
    assert_int_equal(trial->log[index].length, length);
    assert_int_equal(trial->log[index].parts, parts);
}

static void test_pipeline_open(void **state)
{
    struct trial *trial = new_trial(1024, 1);
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;
    struct cellar_pipeline_functions functions = {0};

    (void)state;
    trial->block_bytes = 512;
    device = open_trial(trial, TRIAL_COPIES);
    assert_int_equal(cellar_pipeline_open(device, 100, 4, &pipeline), -EINVAL);
    assert_int_equal(cellar_pipeline_open(device, 512, 3, &pipeline), -EINVAL);
    assert_int_equal(cellar_pipeline_open(device, 256, 4, &pipeline), -EINVAL); /* a block is larger */
    assert_int_equal(cellar_pipeline_open_functions(&functions, NULL, 512, 4, &pipeline), -EINVAL);
    assert_int_equal(cellar_pipeline_open(device, 512, 4, &pipeline), 0);
    assert_int_equal(cellar_cache_page_bytes(cellar_pipeline_cache(pipeline)), 512);
    assert_int_equal(cellar_cache_page_count(cellar_pipeline_cache(pipeline)), 4);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 0);
    cellar_pipeline_close(pipeline);
    cellar_pipeline_close(NULL);
    cellar_device_close(device);
    free(trial);
}

static void test_pipeline_sees_its_writes(void **state)
{
    unsigned char bytes[1000], view[1000], got[1000];

    (void)state;
    fill_random(bytes, sizeof bytes, 31);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, sizeof bytes);
        struct cellar_pipeline *pipeline;

        memcpy(view, bytes, sizeof bytes);
        assert_int_equal(cellar_pipeline_open(device, 64, 4, &pipeline), 0);
        assert_int_equal(cellar_pipeline_write(pipeline, 60, "across pages", 12), 0);
        assert_int_equal(cellar_pipeline_write(pipeline, 64, "PAGES", 5), 0); /* the last write of a byte counts */
        assert_int_equal(cellar_pipeline_write(pipeline, 999, "!", 1), 0);
        memcpy(view + 60, "acroPAGESges", 12);
        view[999] = '!';
        assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 13);
        assert_int_equal(cellar_pipeline_read(pipeline, 0, got, 1000), 0);
        assert_memory_equal(got, view, 1000);
        /* Neither the device nor the cache sees them. */
        assert_int_equal(cellar_device_read(device, got, 1000, 0), 0);
        assert_memory_equal(got, bytes, 1000);
        assert_int_equal(cellar_cache_read(cellar_pipeline_cache(pipeline), 0, got, 1000), 0);
        assert_memory_equal(got, bytes, 1000);
        assert_int_equal(cellar_pipeline_commit(pipeline), 0);
        assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 0);
        assert_int_equal(cellar_device_read(device, got, 1000, 0), 0);
        assert_memory_equal(got, view, 1000);
        assert_int_equal(cellar_cache_read(cellar_pipeline_cache(pipeline), 0, got, 1000), 0);
        assert_memory_equal(got, view, 1000);
        assert_int_equal(cellar_pipeline_read(pipeline, 0, got, 1000), 0);
        assert_memory_equal(got, view, 1000);
        assert_int_equal(cellar_pipeline_commit(pipeline), 0);
        cellar_pipeline_close(pipeline);
        cellar_device_close(device);
    }
}

static void test_pipeline_discard(void **state)
{
    struct trial *trial = new_trial(1000, 32);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct cellar_pipeline *pipeline;
    uint64_t value, expected;

    (void)state;
    memcpy(&expected, trial->bytes + 60, 8);
    assert_int_equal(cellar_pipeline_open(device, 64, 4, &pipeline), 0);
    assert_int_equal(cellar_pipeline_set_u64_ne(pipeline, 60, ~expected), 0);
    assert_int_equal(cellar_pipeline_get_u64_ne(pipeline, 60, &value), 0);
    assert_true(value == ~expected);
    cellar_pipeline_discard(pipeline);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 0);
    assert_int_equal(cellar_pipeline_get_u64_ne(pipeline, 60, &value), 0);
    assert_true(value == expected);
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    assert_int_equal(cellar_pipeline_set_u8(pipeline, 0, 1), 0);
    cellar_pipeline_close(pipeline); /* drops it */
    assert_int_equal(trial->writes, 0);
    assert_int_equal(trial->lent, 0);
    cellar_device_close(device);
    free(trial);
}

static void test_pipeline_bounds(void **state)
{
    unsigned char bytes[100] = {0};

    (void)state;
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, sizeof bytes);
        struct cellar_pipeline *pipeline;
        uint32_t value;

        assert_int_equal(cellar_pipeline_open(device, 64, 4, &pipeline), 0);
        assert_int_equal(cellar_pipeline_set_u32_le(pipeline, 97, 1), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_fault_address(pipeline), 100);
        assert_int_equal(cellar_pipeline_set_u32_le(pipeline, 200, 1), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_fault_address(pipeline), 200);
        assert_int_equal(cellar_pipeline_write(pipeline, UINT64_MAX - 1, bytes, 4), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_write(pipeline, 0, bytes, SIZE_MAX), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_write(pipeline, 5000, bytes, 0), 0);
        assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 0);
        assert_int_equal(cellar_pipeline_get_u32_le(pipeline, 98, &value), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_fault_address(pipeline), 100);
        assert_int_equal(cellar_pipeline_set_u32_le(pipeline, 96, 0x01020304), 0);
        assert_int_equal(cellar_pipeline_get_u32_le(pipeline, 98, &value), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_read(pipeline, UINT64_MAX, &value, 4), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_fault_address(pipeline), UINT64_MAX);
        /* It may be larger by the next time. */
        assert_int_equal(cellar_device_grow(device, 100, 200), 0);
        assert_int_equal(cellar_pipeline_set_u32_le(pipeline, 98, 0x05060708), 0);
        assert_int_equal(cellar_pipeline_commit(pipeline), 0);
        assert_int_equal(cellar_device_read(device, bytes, 8, 95), 0);
        assert_memory_equal(bytes, "\0\4\3\10\7\6\5\0", 8);
        memset(bytes, 0, sizeof bytes);
        cellar_pipeline_close(pipeline);
        cellar_device_close(device);
    }
}

static void test_pipeline_read_only(void **state)
{
    struct trial *trial = new_trial(100, 33);
    struct cellar_device *device = open_trial(trial, TRIAL_READ_ONLY);
    struct cellar_pipeline *pipeline;
    uint8_t value;

    (void)state;
    assert_int_equal(cellar_pipeline_open(device, 64, 4, &pipeline), 0);
    assert_int_equal(cellar_pipeline_set_u8(pipeline, 0, 1), -EROFS);
    assert_int_equal(cellar_pipeline_write(pipeline, 0, "x", 0), -EROFS);
    assert_int_equal(cellar_pipeline_get_u8(pipeline, 0, &value), 0);
    assert_int_equal(value, trial->bytes[0]);
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    cellar_pipeline_close(pipeline);
    cellar_device_close(device);
    free(trial);
}

/* One gathered write for each run of pages, from the first pending byte to the last: nothing before, nothing behind. */
static void test_pipeline_what_goes_out(void **state)
{
    struct trial *trial = new_trial(1024, 34);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_pipeline *pipeline;
    unsigned char view[1024], got[1024];
    struct iovec part = {.iov_base = "device", .iov_len = 6};

    (void)state;
    assert_int_equal(cellar_pipeline_open(device, 64, 8, &pipeline), 0);
    assert_int_equal(cellar_pipeline_read(pipeline, 0, got, 512), 0); /* cached from here on */
    assert_int_equal(cellar_pipeline_write(pipeline, 700, "z", 1), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 130, "b", 1), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 100, "a", 1), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 64 * 4 - 1, "cd", 2), 0);
    /* Somebody writes past the pipeline: before the first, between, and behind the last pending byte. */
    assert_int_equal(cellar_device_write(device, &part, 1, 90), 0);
    assert_int_equal(cellar_device_write(device, &part, 1, 140), 0);
    assert_int_equal(cellar_device_write(device, &part, 1, 260), 0);
    cellar_cache_invalidate(cellar_pipeline_cache(pipeline), 140, 6); /* the others lie where nothing goes out */
    memcpy(view, trial->bytes, 1024);
    view[100] = 'a';
    view[130] = 'b';
    view[255] = 'c';
    view[256] = 'd';
    view[700] = 'z';
    trial->writes = 0;
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    assert_int_equal(trial->writes, 2);
    assert_write(trial, 0, 100, 157, 4); /* pages 1, 2, 3, 4 */
    assert_write(trial, 1, 700, 1, 1);
    assert_memory_equal(trial->bytes, view, 1024);
    cellar_cache_invalidate(cellar_pipeline_cache(pipeline), 90, 6);
    cellar_cache_invalidate(cellar_pipeline_cache(pipeline), 260, 6);
    assert_int_equal(cellar_pipeline_read(pipeline, 64, got, 256), 0);
    assert_memory_equal(got, view + 64, 256);
    /* Pages that were not written are still in the cache. */
    assert_true(support_cache_debug() || cellar_cache_is_cached(cellar_pipeline_cache(pipeline), 0));
    /* Wholly pending pages are not read before they are written. */
    trial->reads = 0;
    memset(got, 7, sizeof got);
    assert_int_equal(cellar_pipeline_write(pipeline, 500, got, 500), 0);
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    assert_int_equal(trial->reads, 0);
    assert_write(trial, 2, 500, 500, 9);
    cellar_pipeline_close(pipeline);
    cellar_device_close(device);
    free(trial);
}

/* The cache forgets after the write: a page that another handle loads meanwhile is stale, and must go. */
static struct cellar_cache *looking;

static ssize_t write_and_look(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    unsigned char byte;

    assert_int_equal(cellar_cache_read(looking, offset, &byte, 1), 0);
    return trial_write(state, token, parts, part_count, offset);
}

static void test_pipeline_invalidates_after(void **state)
{
    static const struct cellar_device_ops ops = {
        .name = "looks", .size = trial_size, .read = trial_read, .write = write_and_look, .close = trial_close};
    struct trial *trial = new_trial(256, 35);
    struct cellar_pipeline *pipeline;
    struct cellar_device *device;
    uint8_t expected = (uint8_t)~trial->bytes[70], value;

    (void)state;
    assert_int_equal(cellar_device_open(&ops, trial, &device), 0);
    assert_int_equal(cellar_pipeline_open(device, 64, 4, &pipeline), 0);
    assert_int_equal(cellar_cache_share(cellar_pipeline_cache(pipeline), &looking), 0);
    assert_int_equal(cellar_pipeline_set_u8(pipeline, 70, expected), 0);
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    assert_int_equal(cellar_pipeline_get_u8(pipeline, 70, &value), 0);
    assert_int_equal(value, expected);
    cellar_cache_close(looking);
    cellar_pipeline_close(pipeline);
    cellar_device_close(device);
    free(trial);
}

/* Pages of a byte make runs that are longer than one gathered write may be. */
static void test_pipeline_many_parts(void **state)
{
    unsigned char bytes[5000], got[5000];
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;

    (void)state;
    memset(bytes, 0, sizeof bytes);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        device = open_ground(ground, bytes, sizeof bytes);
        assert_int_equal(cellar_pipeline_open(device, 1, 16, &pipeline), 0);
        fill_random(got, sizeof got, 36);
        assert_int_equal(cellar_pipeline_write(pipeline, 0, got, sizeof got), 0);
        assert_int_equal(cellar_pipeline_commit(pipeline), 0);
        assert_int_equal(cellar_device_counters(device).writes, (5000 + IOV_MAX - 1) / IOV_MAX);
        memset(got, 0, sizeof got);
        assert_int_equal(cellar_device_read(device, got, sizeof got, 0), 0);
        fill_random(bytes, sizeof bytes, 36);
        assert_memory_equal(got, bytes, sizeof got);
        memset(bytes, 0, sizeof bytes);
        cellar_pipeline_close(pipeline);
        cellar_device_close(device);
    }
}

static void test_pipeline_persist(void **state)
{
    struct trial *trial = new_trial(1024, 37);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct cellar_pipeline *pipeline;
    uint32_t value;

    (void)state;
    memset(trial->bytes, '.', 1024);
    assert_int_equal(cellar_pipeline_open(device, 64, 8, &pipeline), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 0, UINT64_MAX), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 60, "abcdefgh", 8), 0); /* 60..67 */
    assert_int_equal(cellar_pipeline_write(pipeline, 69, "jk", 2), 0);       /* one clean byte between */
    assert_int_equal(cellar_pipeline_write(pipeline, 73, "mn", 2), 0);       /* two clean bytes between */
    assert_int_equal(cellar_pipeline_write(pipeline, 300, "far", 3), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 64, "EF", 2), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 100, 50), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 304, 500), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 71 + 1, 0), 0);
    assert_int_equal(trial->writes, 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 71, 0), 0); /* touches the end of jk */
    assert_int_equal(trial->writes, 1);
    assert_write(trial, 0, 60, 11, 2);
    assert_memory_equal(trial->bytes + 56, "....abcdEFgh.jk.....", 20);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 5);
    /* What stays pending is still seen. */
    assert_int_equal(cellar_pipeline_get_u32_le(pipeline, 72, &value), 0);
    assert_memory_equal(&value, ".mn.", 4);
    assert_int_equal(cellar_pipeline_persist(pipeline, 10, 290), 0); /* touches the start of far */
    assert_int_equal(trial->writes, 3);
    assert_write(trial, 1, 73, 2, 1);
    assert_write(trial, 2, 300, 3, 1);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 0);
    assert_int_equal(cellar_pipeline_set_u8(pipeline, 1023, 'Z'), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 5000, 1), 0);
    assert_int_equal(trial->writes, 3);
    assert_int_equal(cellar_pipeline_persist(pipeline, 1000, UINT64_MAX), 0);
    assert_int_equal(trial->bytes[1023], 'Z');
    cellar_pipeline_close(pipeline);
    assert_int_equal(trial->lent, 0);
    cellar_device_close(device);
    free(trial);
}

/* Whole blocks go out; what is pending in them but not asked for does not. */
static void test_pipeline_blocks(void **state)
{
    struct trial *trial = new_trial(1024, 38);
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;

    (void)state;
    memset(trial->bytes, '.', 1024);
    trial->block_bytes = 16;
    device = open_trial(trial, TRIAL_COPIES);
    assert_int_equal(cellar_pipeline_open(device, 64, 8, &pipeline), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 34, "a", 1), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 40, "b", 1), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 60, "cccccccc", 8), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 72, "d", 1), 0);
    assert_int_equal(cellar_pipeline_persist(pipeline, 40, 1), 0);
    assert_write(trial, 0, 32, 16, 1);
    assert_memory_equal(trial->bytes + 32, "........b.......", 16);
    assert_int_equal(cellar_pipeline_persist(pipeline, 61, 1), 0);
    assert_write(trial, 1, 48, 32, 2);
    assert_memory_equal(trial->bytes + 56, "....cccccccc........", 20);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 2);
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    assert_write(trial, 2, 32, 48, 2);
    assert_memory_equal(trial->bytes + 32, "..a.....b...................cccccccc....d...", 44);
    cellar_pipeline_close(pipeline);
    cellar_device_close(device);
    free(trial);
}

/* What was written is pending no more; the run that failed and those behind it are, and are seen. */
static void test_pipeline_failed_write(void **state)
{
    (void)state;
    for (enum trial_kind kind = TRIAL_LENDS; kind <= TRIAL_COPIES; kind++) {
        struct trial *trial = new_trial(1024, 39);
        struct cellar_device *device = open_trial(trial, kind);
        struct cellar_pipeline *pipeline;
        unsigned char got[3];
        uint8_t value;

        memset(trial->bytes, '.', 1024);
        assert_int_equal(cellar_pipeline_open(device, 64, 8, &pipeline), 0);
        for (uint64_t i = 0; i < 3; i++)
            assert_int_equal(cellar_pipeline_write(pipeline, i * 256, "abc", 3), 0);
        assert_int_equal(cellar_pipeline_read(pipeline, 257, got, 3), 0); /* its page is cached */
        trial->write_error = -ENOSPC;
        trial->writes_before_error = 1;
        assert_int_equal(cellar_pipeline_commit(pipeline), -ENOSPC);
        assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 6);
        assert_memory_equal(trial->bytes, "abc", 3);
        /* The device may hold any part of the run that failed: the cache believes nothing of it. */
        assert_false(cellar_cache_is_cached(cellar_pipeline_cache(pipeline), 256));
        assert_int_equal(cellar_pipeline_read(pipeline, 256, got, 3), 0);
        assert_memory_equal(got, "abc", 3);
        assert_int_equal(cellar_pipeline_persist(pipeline, 512, 1), -ENOSPC);
        trial->write_error = 0;
        /* A gap that can't be read: nothing is written. */
        assert_int_equal(cellar_pipeline_set_u8(pipeline, 260, 'x'), 0);
        trial->read_error = trial->load_error = -EIO;
        assert_int_equal(cellar_pipeline_commit(pipeline), -EIO);
        assert_int_equal(trial->writes, 1);
        cellar_cache_invalidate(cellar_pipeline_cache(pipeline), 0, 1024);
        assert_int_equal(cellar_pipeline_get_u8(pipeline, 259, &value), -EIO);
        assert_int_equal(cellar_pipeline_get_u8(pipeline, 260, &value), 0); /* pending: nobody asks the device */
        assert_int_equal(value, 'x');
        trial->read_error = trial->load_error = 0;
        assert_int_equal(cellar_pipeline_commit(pipeline), 0);
        assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 0);
        assert_memory_equal(trial->bytes + 256, "abc.x", 5);
        assert_memory_equal(trial->bytes + 512, "abc.", 4);
        trial->size_error = -ESTALE;
        assert_int_equal(cellar_pipeline_write(pipeline, 2000, got, 1), -ESTALE);
        cellar_pipeline_close(pipeline);
        assert_int_equal(trial->lent, 0);
        cellar_device_close(device);
        free(trial);
    }
}

static void test_pipeline_cut_device(void **state)
{
    struct trial *trial = new_trial(1024, 40);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_pipeline *pipeline;

    (void)state;
    assert_int_equal(cellar_pipeline_open(device, 64, 8, &pipeline), 0);
    assert_int_equal(cellar_pipeline_set_u8(pipeline, 1000, 1), 0);
    trial->size_bytes = 500;
    assert_int_equal(cellar_pipeline_commit(pipeline), CELLAR_EBOUNDS);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline), 1);
    cellar_pipeline_close(pipeline);
    cellar_device_close(device);
    free(trial);
}

/* Bare functions over memory. */
struct volume {
    unsigned char bytes[500];
    size_t length;
    int map_error, size_error, write_error, out;
    unsigned writes;
};

static int volume_map(void *user, uint64_t position, size_t length, const void **ret_bytes, size_t *ret_length)
{
    struct volume *volume = user;
    size_t there = position < volume->length ? volume->length - (size_t)position : 0;

    assert_true(position % 64 == 0 && length % 64 == 0);
    if (volume->map_error != 0)
        return volume->map_error;
    *ret_bytes = volume->bytes + (there > 0 ? position : 0);
    *ret_length = there < length ? there : length;
    volume->out += *ret_length > 0;
    return 0;
}

static void volume_unmap(void *user, const void *bytes, size_t length)
{
    (void)bytes, (void)length;
    ((struct volume *)user)->out--;
}

static int volume_size(void *user, uint64_t *ret_size_bytes)
{
    struct volume *volume = user;

    *ret_size_bytes = volume->length;
    return volume->size_error;
}

static int volume_write(void *user, uint64_t position, const struct iovec *parts, int part_count)
{
    struct volume *volume = user;

    volume->writes++;
    if (volume->write_error != 0)
        return volume->write_error;
    for (int i = 0; i < part_count; i++) {
        assert_true(position + parts[i].iov_len <= volume->length);
        memcpy(volume->bytes + position, parts[i].iov_base, parts[i].iov_len);
        position += parts[i].iov_len;
    }
    return 0;
}

static void test_pipeline_functions(void **state)
{
    struct cellar_pipeline_functions functions = {
        .map = volume_map, .unmap = volume_unmap, .size = volume_size, .write = volume_write};
    struct volume volume = {.length = 500};
    struct cellar_pipeline *pipeline;
    uint16_t value;

    (void)state;
    memset(volume.bytes, '.', sizeof volume.bytes);
    assert_int_equal(cellar_pipeline_open_functions(&functions, &volume, 64, 2, &pipeline), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 490, "end of it", 10), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 62, "ab", 2), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 66, "c", 1), 0);
    assert_int_equal(cellar_pipeline_write(pipeline, 491, "x", 10), CELLAR_EBOUNDS);
    assert_int_equal(cellar_pipeline_fault_address(pipeline), 500);
    assert_int_equal(cellar_pipeline_get_u16_be(pipeline, 64, &value), 0);
    volume.write_error = -EIO;
    assert_int_equal(cellar_pipeline_commit(pipeline), -EIO);
    volume.write_error = 1; /* no answer that it has */
    assert_int_equal(cellar_pipeline_commit(pipeline), -EIO);
    volume.write_error = 0;
    volume.map_error = -ENXIO;
    assert_int_equal(cellar_pipeline_commit(pipeline), -ENXIO);
    volume.map_error = 0;
    volume.length = 64; /* cut: the gap isn't there any more */
    assert_int_equal(cellar_pipeline_commit(pipeline), CELLAR_EBOUNDS);
    volume.length = 500;
    volume.writes = 0;
    assert_int_equal(cellar_pipeline_commit(pipeline), 0);
    assert_int_equal(volume.writes, 2);
    assert_memory_equal(volume.bytes + 60, "..ab..c.", 8);
    assert_memory_equal(volume.bytes + 488, "..end of it", 12);
    volume.size_error = 5;
    assert_int_equal(cellar_pipeline_write(pipeline, 5000, "x", 1), -EIO);
    cellar_pipeline_close(pipeline);
    assert_int_equal(volume.out, 0);

    functions.write = NULL;
    assert_int_equal(cellar_pipeline_open_functions(&functions, &volume, 64, 2, &pipeline), 0);
    assert_int_equal(cellar_pipeline_set_u8(pipeline, 0, 1), -EROFS);
    cellar_pipeline_close(pipeline);
    functions.block_bytes = 48;
    assert_int_equal(cellar_pipeline_open_functions(&functions, &volume, 64, 2, &pipeline), -EINVAL);
    functions.block_bytes = 32;
    functions.size = NULL;
    assert_int_equal(cellar_pipeline_open_functions(&functions, &volume, 64, 2, &pipeline), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline_open),
        cmocka_unit_test(test_pipeline_sees_its_writes),
        cmocka_unit_test(test_pipeline_discard),
        cmocka_unit_test(test_pipeline_bounds),
        cmocka_unit_test(test_pipeline_read_only),
        cmocka_unit_test(test_pipeline_what_goes_out),
        cmocka_unit_test(test_pipeline_invalidates_after),
        cmocka_unit_test(test_pipeline_many_parts),
        cmocka_unit_test(test_pipeline_persist),
        cmocka_unit_test(test_pipeline_blocks),
        cmocka_unit_test(test_pipeline_failed_write),
        cmocka_unit_test(test_pipeline_cut_device),
        cmocka_unit_test(test_pipeline_functions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
