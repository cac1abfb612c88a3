/*
 * kernel_files.c - what others do to the file of a store that is open, and to where it lies: cut, moved, unlinked,
 * replaced, read-only.
 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CELLS = 3000 };

static int open_filled(struct kernel_case *c, struct cellar_writer **ret_writer)
{
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    uint32_t index;

    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(c->path, &config, &options, ret_writer) == 0);
    for (uint32_t i = 0; i < CELLS; i++)
        SUPPORT_CHILD_NEEDS(kernel_append(*ret_writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_set_root(*ret_writer, index) == 0 && cellar_writer_flush(*ret_writer) == 0);
    return 0;
}

static int open_reader(struct kernel_case *c, struct cellar_reader **ret_reader)
{
    struct cellar_reader_options options = {.device = c->choice, .cache_bytes = 1};

    return cellar_reader_open(c->path, &options, ret_reader);
}

/* ---- cut under a reader ---- */

static int read_last(void *user)
{
    const struct cellar_snapshot *snapshot = user;
    unsigned char cell[KERNEL_BYTES_PER_CELL];

    return cellar_snapshot_read(snapshot, CELLS, 0, cell, sizeof cell) == 0 ? 1 : 2;
}

/* check tells; reading what is gone is an error on the pages path, and through a window the documented SIGBUS. */
static void test_cut(void **state)
{
    const char *folder = *state;

    for (int i = 0; i < KERNEL_CHOICES; i++) {
        struct kernel_case c = {.choice = kernel_choices[i]};
        struct cellar_reader *reader = NULL;
        struct cellar_writer *writer = NULL;
        struct cellar_snapshot snapshot;

        if (c.choice == CELLAR_DEVICE_DIRECT && !support_has_direct(folder))
            continue;
        print_message("  %s\n", kernel_choice_names[i]);
        snprintf(c.path, sizeof c.path, "%s/%s", folder, kernel_choice_names[i]);
        assert_int_equal(open_filled(&c, &writer), 0);
        assert_done(cellar_writer_close(writer));
        assert_done(open_reader(&c, &reader));
        snapshot = cellar_reader_snapshot(reader);
        assert_done(cellar_reader_check(reader));
        assert_int_equal(truncate(c.path, 16384), 0);
        assert_result(cellar_reader_check(reader), CELLAR_ECORRUPT);
        assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_ECORRUPT);
        assert_true(kernel_holds(&snapshot, kernel_start(), 16384 / KERNEL_BYTES_PER_CELL));
        if (snapshot.window != NULL && SUPPORT_SANITIZED)
            print_message("  a sanitizer keeps the SIGBUS for itself\n");
        else
            assert_int_equal(support_child(read_last, &snapshot), snapshot.window != NULL ? -SIGBUS : 2);
        cellar_reader_close(reader);
        assert_result(open_reader(&c, &reader), CELLAR_ECORRUPT);
    }
}

/* ---- moved, replaced, gone ---- */

/* The writer goes on with its file wherever that is; only truncate, which needs the name, refuses. */
static int go_elsewhere(struct kernel_case *c, const char *now)
{
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader = NULL;
    uint32_t index;

    SUPPORT_CHILD_NEEDS(open_filled(c, &writer) == 0);
    SUPPORT_CHILD_NEEDS(open_reader(c, &reader) == 0);
    SUPPORT_CHILD_NEEDS(now == NULL ? unlink(c->path) == 0 : rename(c->path, now) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == -ESTALE);
    for (uint32_t i = 0; i < CELLS; i++)
        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_reader_check(reader) == 0 && cellar_reader_refresh(reader) == 0);
    snapshot = cellar_reader_snapshot(reader);
    SUPPORT_CHILD_NEEDS(snapshot.next_index == 2 * CELLS + kernel_start());
    SUPPORT_CHILD_NEEDS(kernel_holds(&snapshot, kernel_start(), snapshot.next_index));
    cellar_reader_close(reader);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == -ENOENT);
    if (now == NULL)
        return 0;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(now, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_next(writer) == 2 * CELLS + kernel_start());
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

static int move_away(void *user)
{
    struct kernel_case *c = user;
    char now[sizeof c->path + 8];

    snprintf(now, sizeof now, "%s.moved", c->path);
    return go_elsewhere(c, now);
}

static int remove_it(void *user)
{
    return go_elsewhere(user, NULL);
}

/* Another store is put under the name: it is not touched, and the writer's own goes on without one. */
static int replace_it(void *user)
{
    struct kernel_case *c = user, other = *c;
    struct cellar_writer *writer = NULL, *second = NULL;
    uint32_t index;

    snprintf(other.path, sizeof other.path, "%.4000s.other", c->path);
    SUPPORT_CHILD_NEEDS(open_filled(c, &writer) == 0);
    SUPPORT_CHILD_NEEDS(open_filled(&other, &second) == 0);
    SUPPORT_CHILD_NEEDS(rename(other.path, c->path) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == -ESTALE);
    SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0 && cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(kernel_append(second, &index) == 0 && cellar_writer_close(second) == 0);
    SUPPORT_CHILD_NEEDS(open_filled(c, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_next(writer) == 2 * CELLS + 1 + kernel_start());
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

static void run_all(void **state, int (*run)(void *user))
{
    char *folder = *state;

    for (int i = 0; i < KERNEL_CHOICES; i++) {
        struct kernel_case c = {.choice = kernel_choices[i], .folder = folder};

        if (c.choice == CELLAR_DEVICE_DIRECT && !support_has_direct(folder))
            continue;
        print_message("  %s\n", kernel_choice_names[i]);
        snprintf(c.path, sizeof c.path, "%s/%s", folder, kernel_choice_names[i]);
        kernel_run(run, &c);
    }
}

static void test_moved(void **state)
{
    run_all(state, move_away);
}

static void test_unlinked(void **state)
{
    run_all(state, remove_it);
}

static void test_replaced(void **state)
{
    run_all(state, replace_it);
}

/* ---- read-only ---- */

static int meet_read_only_mount(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;

    if (!kernel_enter() || !kernel_mount_tmpfs(c->folder, 8 << 20, false))
        return KERNEL_CANNOT;
    SUPPORT_CHILD_NEEDS(open_filled(c, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    if (!kernel_mount_tmpfs(c->folder, 8 << 20, true))
        return KERNEL_CANNOT;
    writer = NULL;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == -EROFS);
    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(c->path, &config, &options, &writer) == -EROFS);
    snprintf(c->path + strlen(c->path), 8, ".new");
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == -EROFS);
    SUPPORT_CHILD_NEEDS(writer == NULL);
    c->path[strlen(c->path) - 4] = '\0';
    SUPPORT_CHILD_NEEDS(open_reader(c, &reader) == 0);
    snapshot = cellar_reader_snapshot(reader);
    SUPPORT_CHILD_NEEDS(kernel_holds(&snapshot, kernel_start(), CELLS + kernel_start()));
    SUPPORT_CHILD_NEEDS(cellar_reader_refresh(reader) == CELLAR_NONE && cellar_reader_check(reader) == 0);
    cellar_reader_close(reader);
    return 0;
}

static void test_read_only_mount(void **state)
{
    run_all(state, meet_read_only_mount);
}

/* Who may write the file but not its folder writes, and can't truncate; who may not write the file, reads. */
static int meet_modes(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    uint32_t index;

    if (!support_drop_root()) {
        print_message("can't be another user\n");
        return KERNEL_CANNOT;
    }
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == -EACCES);
    SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_next(writer) == CELLS + 2 + kernel_start());
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    snprintf(c->path + strlen(c->path), 4, ".ro");
    writer = NULL;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == -EACCES && writer == NULL);
    SUPPORT_CHILD_NEEDS(open_reader(c, &reader) == 0);
    SUPPORT_CHILD_NEEDS(cellar_reader_check(reader) == 0);
    cellar_reader_close(reader);
    return 0;
}

static void test_modes(void **state)
{
    const char *folder = *state;

    for (int i = 0; i < KERNEL_CHOICES; i++) {
        struct kernel_case c = {.choice = kernel_choices[i]}, read_only = c;
        struct cellar_writer *writer = NULL;
        int line;

        if (c.choice == CELLAR_DEVICE_DIRECT && !support_has_direct(folder))
            continue;
        print_message("  %s\n", kernel_choice_names[i]);
        snprintf(c.path, sizeof c.path, "%s/%s", folder, kernel_choice_names[i]);
        snprintf(read_only.path, sizeof read_only.path, "%s/%s.ro", folder, kernel_choice_names[i]);
        assert_int_equal(open_filled(&c, &writer), 0);
        assert_done(cellar_writer_close(writer));
        assert_int_equal(open_filled(&read_only, &writer), 0);
        assert_done(cellar_writer_close(writer));
        assert_int_equal(chmod(c.path, 0666), 0);
        assert_int_equal(chmod(read_only.path, 0444), 0);
        assert_int_equal(chmod(folder, 0555), 0);
        line = support_child(meet_modes, &c);
        assert_int_equal(chmod(folder, 0755), 0);
        if (line == KERNEL_CANNOT)
            support_skip("see above");
        assert_int_equal(line, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cut, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_moved, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_unlinked, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_replaced, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_read_only_mount, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_modes, support_folder_setup, support_folder_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
