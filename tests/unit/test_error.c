/* The texts of results. */
#include "support.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const int own_codes[] = {
    0,
    CELLAR_NONE,
    CELLAR_ECORRUPT,
    CELLAR_EINDEXFULL,
    CELLAR_EBOUNDS,
    CELLAR_EBADKEY,
    CELLAR_ECONFIG,
    CELLAR_EBUSY,
    CELLAR_EFORKED,
    CELLAR_ERETIRED,
    CELLAR_EWINDOW,
    CELLAR_EPINNED,
    CELLAR_EUNKNOWN,
    CELLAR_EOLDPAGES,
    CELLAR_ECHECKSUM,
    CELLAR_ESUMS,
};

static void test_own_codes_have_texts_of_their_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(own_codes); i++) {
        const char *text = cellar_strerror(own_codes[i]);

        assert_true(strlen(text) > 3);
        assert_string_not_equal(text, "unknown error");
        assert_null(strchr(text, '\n'));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(text, cellar_strerror(own_codes[j]));
        assert_ptr_equal(text, cellar_strerror(own_codes[i])); /* a constant */
    }
}

/* The codes are one row without a hole, so a new one that has no text yet is found here. */
static void test_every_code_is_known(void **state)
{
    int lowest = 0;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(own_codes); i++)
        lowest = own_codes[i] < lowest ? own_codes[i] : lowest;
    for (int code = CELLAR_ECORRUPT; code >= lowest; code--)
        assert_string_not_equal(cellar_strerror(code), "unknown error");
    assert_string_equal(cellar_strerror(lowest - 1), "unknown error");
    assert_string_equal(cellar_strerror(CELLAR_ECORRUPT + 1), "unknown error");
}

static void test_system_codes(void **state)
{
    static const int codes[] = {ENOENT, EIO, ENOSPC, EFBIG, EROFS, EINVAL, ENOMEM, ESTALE, ERANGE};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(codes); i++)
        assert_string_equal(cellar_strerror(-codes[i]), strerror(codes[i]));
    assert_non_null(strstr(cellar_strerror(-4095), "4095")); /* in the system's range, though nobody's */
}

static void test_unknown_codes(void **state)
{
    static const int codes[] = {2, EIO, INT_MAX, -4096, -9999, -10000, -10015, INT_MIN};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(codes); i++)
        assert_string_equal(cellar_strerror(codes[i]), "unknown error");
}

static void *ask_in_thread(void *user)
{
    (void)user;
    return strdup(cellar_strerror(-4094));
}

/* A text that had to be made belongs to its thread. */
static void test_threads_do_not_share_texts(void **state)
{
    const char *mine = cellar_strerror(-4095);
    char before[96];
    pthread_t thread;
    void *theirs;

    (void)state;
    assert_true(strlen(mine) < sizeof before);
    strcpy(before, mine);
    assert_int_equal(pthread_create(&thread, NULL, ask_in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &theirs), 0);
    assert_string_equal(mine, before);
    assert_non_null(strstr(theirs, "4094"));
    free(theirs);
}

static void test_version_is_three_numbers(void **state)
{
    const char *at = cellar_version_string();

    (void)state;
    for (int part = 0; part < 3; part++) {
        char *end;

        assert_true(*at >= '0' && *at <= '9');
        (void)strtoul(at, &end, 10);
        assert_int_equal(*end, part < 2 ? '.' : '\0');
        at = end + 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_codes_have_texts_of_their_own),
        cmocka_unit_test(test_every_code_is_known),
        cmocka_unit_test(test_system_codes),
        cmocka_unit_test(test_unknown_codes),
        cmocka_unit_test(test_threads_do_not_share_texts),
        cmocka_unit_test(test_version_is_three_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
