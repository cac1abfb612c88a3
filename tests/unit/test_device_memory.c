/* The memory device: what is not the contract's, but its own. */
#include "support.h"

#include <errno.h>
#include <string.h>

static void test_open(void **state)
{
    struct cellar_device *device = NULL;
    unsigned char bytes[100], got[100];
    uint64_t size_bytes, capacity_bytes;
    void *base;

    (void)state;
    assert_result(cellar_device_open_memory(NULL, 11, 10, &device), -EINVAL);
    assert_result(cellar_device_open_memory(NULL, 0, UINT64_MAX, &device), -EINVAL);
    assert_result(cellar_device_open_memory(NULL, 0, (uint64_t)SIZE_MAX / 2 + 1, &device), -EINVAL);
    assert_null(device);
    support_bytes(31, bytes, sizeof bytes);
    assert_done(cellar_device_open_memory(bytes, 100, 250, &device));
    memset(bytes, 0, sizeof bytes); /* it has a copy */
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 100);
    assert_done(cellar_device_read(device, got, 100, 0));
    support_bytes(31, bytes, sizeof bytes);
    assert_memory_equal(got, bytes, 100);
    assert_done(cellar_device_window(device, 100, true, &base, &capacity_bytes));
    assert_int_equal(capacity_bytes, 250); /* all that there will ever be */
    assert_done(cellar_device_close(device));
    assert_true(support_is_unmapped(base));
}

static void test_nothing(void **state)
{
    struct cellar_device *device;
    uint64_t size_bytes = 1;
    char byte;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 0, 0, &device));
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 0);
    assert_result(cellar_device_read(device, &byte, 1, 0), CELLAR_EBOUNDS);
    assert_result(cellar_device_grow(device, 0, 1), -ENOSPC);
    assert_done(cellar_device_close(device));
}

/* Addresses are reserved, memory is used as it is touched. */
static void test_large_capacity(void **state)
{
    struct cellar_device *device = NULL;
    uint64_t capacity = UINT64_C(1) << 33;
    char byte = 'x';

    (void)state;
    assert_result(cellar_device_open_memory(NULL, 0, UINT64_MAX / 4, &device), -ENOMEM);
    assert_null(device);
    assert_done(cellar_device_open_memory(NULL, 0, capacity, &device));
    assert_done(cellar_device_grow(device, 0, capacity));
    assert_done(support_device_write(device, &byte, 1, capacity - 1));
    byte = 0;
    assert_done(cellar_device_read(device, &byte, 1, capacity - 1));
    assert_int_equal(byte, 'x');
    assert_done(cellar_device_close(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_large_capacity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
