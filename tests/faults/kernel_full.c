/*
 * kernel_full.c - file systems that are full, and one whose disk stops to take writes: on every way that bytes can go.
 *
 * Nothing here may be ended by a signal: the children say so with their exit.
 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ON_TMPFS, ON_EXT4, KINDS };

enum { SMALL_BYTES = 4 << 20, IMAGE_BYTES = 8 << 20 };

static bool mount_small(struct kernel_case *c)
{
    char under[4096], image[8192];

    if (!kernel_enter())
        return false;
    if (c->kind == ON_TMPFS)
        return kernel_mount_tmpfs(c->folder, SMALL_BYTES, false);
    snprintf(under, sizeof under, "%s.under", c->folder);
    snprintf(image, sizeof image, "%s/image", under);
    return mkdir(under, 0700) == 0 && kernel_mount_tmpfs(under, 2 * IMAGE_BYTES, false) &&
           kernel_mount_ext4(c->folder, image, IMAGE_BYTES);
}

static const char *name_in(const struct kernel_case *c, const char *name)
{
    static char path[8192];

    snprintf(path, sizeof path, "%s/%s", c->folder, name);
    return path;
}

/* Appends until the disk is full; a flush every so often. Returns what ended it. */
static int append_all(struct cellar_writer *writer)
{
    uint32_t index;
    int error = 0;

    for (uint32_t i = 1; error == 0; i++) {
        error = kernel_append(writer, &index);
        if (error == 0 && i % 1000 == 0)
            error = cellar_writer_flush(writer);
    }
    return error;
}

/* Full: an error, no poison; what there is goes on, is flushed, and is found again. Room again: so does the rest. */
static int fill_up(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;
    unsigned char big[20 * KERNEL_BYTES_PER_CELL] = {0};
    uint32_t index = 77, end;

    if (!mount_small(c))
        return KERNEL_CANNOT;
    SUPPORT_CHILD_NEEDS(kernel_fill(name_in(c, "ballast"), 300000));
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(append_all(writer) == -ENOSPC);
    end = cellar_writer_next(writer);
    SUPPORT_CHILD_NEEDS(end > 1000);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, big, 20, &index) == -ENOSPC && index == 77);
    SUPPORT_CHILD_NEEDS(cellar_writer_write_value(writer, big, sizeof big, &index) == -ENOSPC && index == 77);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 1000) == -ENOSPC);
    SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, end - 1) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0); /* still full */
    SUPPORT_CHILD_NEEDS(cellar_writer_next(writer) == end && cellar_writer_root(writer) == end - 1);
    snapshot = cellar_writer_snapshot(writer);
    SUPPORT_CHILD_NEEDS(kernel_holds(&snapshot, kernel_start(), end));
    SUPPORT_CHILD_NEEDS(unlink(name_in(c, "ballast")) == 0);
    for (int i = 0; i < 3000; i++)
        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0);
    snapshot = cellar_writer_snapshot(writer);
    SUPPORT_CHILD_NEEDS(snapshot.next_index == end + 3000 && kernel_holds(&snapshot, kernel_start(), end + 3000));
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

/* No room for a store at all: nothing is left of it, and it can be made when there is room. */
static int create_in_vain(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;

    if (!mount_small(c))
        return KERNEL_CANNOT;
    options.initial_cells = 200000; /* 12 MiB */
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == -ENOSPC);
    options.initial_cells = 0;
    SUPPORT_CHILD_NEEDS(kernel_fill(name_in(c, "ballast"), 0));
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == -ENOSPC);
    SUPPORT_CHILD_NEEDS(writer == NULL && access(c->path, F_OK) != 0);
    SUPPORT_CHILD_NEEDS(access(name_in(c, ".store.cellar-new"), F_OK) != 0);
    SUPPORT_CHILD_NEEDS(unlink(name_in(c, "ballast")) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

/* A store with holes (a copy that left out zeros) on a full disk: a store into a hole would be a SIGBUS. */
static int open_holes(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    uint32_t index;
    int fd, error = 0;

    if (!mount_small(c))
        return KERNEL_CANNOT;
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == 0);
    for (int i = 0; i < 5000; i++)
        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    fd = open(c->path, O_RDWR | O_CLOEXEC);
    SUPPORT_CHILD_NEEDS(fd >= 0);
    SUPPORT_CHILD_NEEDS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 300000) == 0);
    SUPPORT_CHILD_NEEDS(close(fd) == 0);
    SUPPORT_CHILD_NEEDS(kernel_fill(name_in(c, "ballast"), 0));
    error = cellar_writer_open(c->path, &options, &writer);
    SUPPORT_CHILD_NEEDS(error == 0 || (c->choice == CELLAR_DEVICE_MAPPED && error == -ENOTSUP));
    if (error != 0)
        return 0;
    for (int i = 0; error == 0 && i < 5000; i++)
        error = kernel_append(writer, &index);
    SUPPORT_CHILD_NEEDS(error == -ENOSPC || error == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

/* The same where a sync had failed, and cells far from both ends are written once more. */
static int rewrite_holes(void *user)
{
    static const unsigned char suspect = 4, unconfirmed[4];
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    unsigned char cells[64 * KERNEL_BYTES_PER_CELL] = {0};
    uint32_t index;
    int fd, error;

    if (c->kind != ON_TMPFS)
        return 0;
    if (!kernel_enter() || !kernel_mount_tmpfs(c->folder, 64 << 20, false))
        return KERNEL_CANNOT;
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == 0);
    for (uint64_t at = 0; at < 40 << 20; at += sizeof cells)
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cells, 64, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    fd = open(c->path, O_RDWR | O_CLOEXEC);
    SUPPORT_CHILD_NEEDS(fd >= 0);
    SUPPORT_CHILD_NEEDS(pwrite(fd, &suspect, 1, 192) == 1 && pwrite(fd, unconfirmed, 4, 248) == 4);
    SUPPORT_CHILD_NEEDS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16 << 20, 4 << 20) == 0);
    SUPPORT_CHILD_NEEDS(close(fd) == 0);
    SUPPORT_CHILD_NEEDS(kernel_fill(name_in(c, "ballast"), 0));
    error = cellar_writer_open(c->path, &options, &writer);
    SUPPORT_CHILD_NEEDS(error == -ENOSPC || (c->choice == CELLAR_DEVICE_MAPPED && error == -ENOTSUP));
    SUPPORT_CHILD_NEEDS(unlink(name_in(c, "ballast")) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_next(writer) == index + 64);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

/* Writes begin with a page of the disk below: a loop device takes one that its file took a part of for whole. */
enum { PAGE_CELLS = 65536 / KERNEL_BYTES_PER_CELL };

/*
 * The disk stops to take writes: an ext4 in a file that lies, with holes, on a tmpfs which has no more room. What the
 * page cache took, no disk has; an fsync says so, once, and the pages are clean from then on.
 */
static int lose_disk(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;
    char under[4096], image[8192];
    uint32_t index, flushed;
    int error = 0;

    snprintf(under, sizeof under, "%s/under", c->folder);
    snprintf(image, sizeof image, "%s/image", under);
    snprintf(c->path, sizeof c->path, "%s/over/store", c->folder);
    SUPPORT_CHILD_NEEDS(mkdir(under, 0700) == 0 && mkdir(name_in(c, "over"), 0700) == 0);
    if (!kernel_enter() || !kernel_mount_tmpfs(under, 32 << 20, false) ||
        !kernel_mount_ext4(name_in(c, "over"), image, IMAGE_BYTES))
        return KERNEL_CANNOT;
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == 0);
    while (cellar_writer_next(writer) % PAGE_CELLS != 0)
        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, index) == 0 && cellar_writer_flush(writer) == 0);
    flushed = cellar_writer_next(writer);
    sync();
    SUPPORT_CHILD_NEEDS(kernel_fill(name_in(c, "under/ballast"), 0));
    for (int i = 0; error == 0 && i < 40; i++) {
        for (int j = 0; error == 0 && j < PAGE_CELLS; j++)
            error = kernel_append(writer, &index);
        if (error == 0)
            error = cellar_writer_set_root(writer, index);
        if (error == 0)
            error = cellar_writer_flush(writer);
        if (error == 0)
            flushed = cellar_writer_next(writer);
    }
    SUPPORT_CHILD_NEEDS(error == -EIO || error == -ENOSPC);
    SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == error && cellar_writer_close(writer) == error);
    SUPPORT_CHILD_NEEDS(unlink(name_in(c, "under/ballast")) == 0); /* it takes writes again: what was lost is lost */
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0);
    cellar_writer_recovery(writer, &recovery);
    snapshot = cellar_writer_snapshot(writer);
    /* By O_DIRECT the write itself says it, and nothing that was durable is in doubt. */
    SUPPORT_CHILD_NEEDS(recovery.suspect || c->choice == CELLAR_DEVICE_DIRECT);
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= flushed && snapshot.root_index == flushed - 1);
    SUPPORT_CHILD_NEEDS(kernel_holds(&snapshot, kernel_start(), flushed));
    SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0 && cellar_writer_flush(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

static void run_all(void **state, int (*run)(void *user), bool kinds)
{
    for (int kind = 0; kind < (kinds ? (int)KINDS : 1); kind++) {
        for (int i = 0; i < KERNEL_CHOICES; i++) {
            struct kernel_case c = {.choice = kernel_choices[i], .kind = kind};
            char folder[4000];

            snprintf(folder, sizeof folder, "%s/%d-%s", (const char *)*state, kind, kernel_choice_names[i]);
            assert_int_equal(mkdir(folder, 0700), 0);
            c.folder = folder;
            snprintf(c.path, sizeof c.path, "%s/store", folder);
            print_message("  %s, %s\n", kind == ON_EXT4 || !kinds ? "ext4" : "tmpfs", kernel_choice_names[i]);
            kernel_run(run, &c);
        }
    }
}

static void test_full(void **state)
{
    run_all(state, fill_up, true);
}

static void test_no_room(void **state)
{
    run_all(state, create_in_vain, true);
}

static void test_holes(void **state)
{
    run_all(state, open_holes, true);
}

static void test_holes_that_are_written_again(void **state)
{
    run_all(state, rewrite_holes, true);
}

static void test_disk_that_stops(void **state)
{
    run_all(state, lose_disk, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_no_room, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_holes, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_holes_that_are_written_again, support_folder_setup,
                                        support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_disk_that_stops, support_folder_setup, support_folder_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
