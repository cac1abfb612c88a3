/* The text of an error: path, offset, what was found. */
#include "support.h"

#include "base/diagnose.h"

#include <string.h>

static void test_all_parts(void **state)
{
    struct cellar_diagnostic diagnostic;

    (void)state;
    assert_int_equal(cellar_diagnose(&diagnostic, CELLAR_ECORRUPT, "a/store", 28, "found %d, expected %s", 7, "more"),
                     CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.error, CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, 28);
    assert_string_equal(diagnostic.message, "a/store: offset 28: found 7, expected more");
}

static void test_parts_left_out(void **state)
{
    struct cellar_diagnostic diagnostic;

    (void)state;
    assert_int_equal(cellar_diagnose(&diagnostic, -5, NULL, 0, "text"), -5);
    assert_int_equal(diagnostic.file_offset, 0);
    assert_string_equal(diagnostic.message, "offset 0: text");

    assert_int_equal(cellar_diagnose(&diagnostic, -6, "p", CELLAR_OFFSET_NONE, "text"), -6);
    assert_true(diagnostic.file_offset == CELLAR_OFFSET_NONE);
    assert_string_equal(diagnostic.message, "p: text");

    assert_int_equal(cellar_diagnose(&diagnostic, -7, NULL, CELLAR_OFFSET_NONE, "%s", "text"), -7);
    assert_string_equal(diagnostic.message, "text");

    assert_int_equal(cellar_diagnose(&diagnostic, -8, "p", UINT64_MAX - 1, "text"), -8);
    assert_string_equal(diagnostic.message, "p: offset 18446744073709551614: text");
}

static void test_nobody_wants_it(void **state)
{
    (void)state;
    assert_int_equal(cellar_diagnose(NULL, CELLAR_EBUSY, "p", 3, "text %d", 1), CELLAR_EBUSY);
}

/* What doesn't fit is cut, never written past the end. */
static void test_long_text(void **state)
{
    struct {
        struct cellar_diagnostic diagnostic;
        char after[8];
    } guarded;
    char text[1000];

    (void)state;
    memset(&guarded, 0x5a, sizeof guarded);
    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(cellar_diagnose(&guarded.diagnostic, -1, "path", 1, "%s", text), -1);
    assert_true(strlen(guarded.diagnostic.message) < sizeof guarded.diagnostic.message);
    assert_memory_equal(guarded.diagnostic.message, "path: offset 1: tttt", 20);
    for (size_t i = 0; i < sizeof guarded.after; i++)
        assert_int_equal(guarded.after[i], 0x5a);
}

/* A path of any length leaves what was found and expected readable. */
static void test_long_path(void **state)
{
    struct cellar_diagnostic diagnostic;
    char path[4096];

    (void)state;
    memset(path, 'p', sizeof path - 1);
    memcpy(path + sizeof path - 7, "/store", 7);
    assert_int_equal(cellar_diagnose(&diagnostic, -1, path, 24, "found 3, expected 4"), -1);
    assert_true(strlen(diagnostic.message) < sizeof diagnostic.message);
    assert_non_null(strstr(diagnostic.message, "/store: offset 24: found 3, expected 4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_parts), cmocka_unit_test(test_parts_left_out), cmocka_unit_test(test_nobody_wants_it),
        cmocka_unit_test(test_long_text), cmocka_unit_test(test_long_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
