/* Runs that must be copied, where there is no memory for the copy. */
#include "cache_test.h"

enum { RUN_PAGE = 4096, RUN_BYTES = 128 * RUN_PAGE };

static int accept(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    (void)user;
    (void)version;
    (void)page_address;
    (void)bytes;
    (void)length;
    return 0;
}

struct mapping {
    struct cellar_cache *cache;
    struct cellar_fixed fixed;
};

static int map_all(void *user)
{
    struct mapping *mapping = user;

    return cellar_cache_map(mapping->cache, 0, RUN_BYTES, &mapping->fixed);
}

static void test_no_memory_for_a_copy(void **state)
{
    struct cellar_cache_options options = {.page_bytes = RUN_PAGE, .page_count = 4, .hooks.validate = accept};
    struct mapping mapping = {.fixed.slot = 12345};
    struct cellar_device *device;

    (void)state;
    if (SUPPORT_SANITIZED || support_under_valgrind())
        support_skip("a sanitizer ends the process");
    assert_done(cellar_device_open_memory(NULL, RUN_BYTES, RUN_BYTES, &device));
    assert_done(cellar_cache_open_with(device, &options, &mapping.cache));
    assert_result(support_without_memory(map_all, &mapping), -ENOMEM);
    assert_int_equal(mapping.fixed.slot, 12345);
    assert_done(map_all(&mapping));
    assert_int_equal(mapping.fixed.slice.length, RUN_BYTES);
    for (size_t i = 0; i < RUN_BYTES; i++)
        assert_int_equal(((const unsigned char *)mapping.fixed.slice.bytes)[i], 0);
    cellar_cache_unfix(mapping.cache, &mapping.fixed);
    cellar_cache_close(mapping.cache);
    assert_done(cellar_device_close(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_memory_for_a_copy)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
