/* kernel_limits.c - limits of the process: the size of files, addresses, descriptors. No signal ends it in any. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CELLS = 3000 };

static bool set_limit(int which, uint64_t value)
{
    struct rlimit limit;

    if (getrlimit((__rlimit_resource_t)which, &limit) != 0)
        return false;
    limit.rlim_cur = (rlim_t)value;
    return setrlimit((__rlimit_resource_t)which, &limit) == 0;
}

static int fill(struct kernel_case *c, uint32_t cells)
{
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    uint32_t index;

    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(c->path, &config, &options, &writer) == 0);
    for (uint32_t i = 0; i < cells; i++)
        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

static int check_cells(struct kernel_case *c, uint32_t end)
{
    struct cellar_reader_options options = {.device = c->choice, .cache_bytes = 1};
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;

    SUPPORT_CHILD_NEEDS(cellar_reader_open(c->path, &options, &reader) == 0);
    snapshot = cellar_reader_snapshot(reader);
    SUPPORT_CHILD_NEEDS(snapshot.next_index == end && kernel_holds(&snapshot, kernel_start(), end));
    cellar_reader_close(reader);
    return 0;
}

/* Up to the limit and not a byte further; a store that is larger than it can be opened, and grows no more. */
static int meet_file_size(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_writer *writer = NULL;
    uint32_t index = 77, end;
    int error = 0;

    SUPPORT_CHILD_NEEDS(fill(c, CELLS) == 0);
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_FSIZE, (CELLS + 100) * KERNEL_BYTES_PER_CELL));
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0);
    while (error == 0)
        error = kernel_append(writer, &index);
    SUPPORT_CHILD_NEEDS(error == -EFBIG);
    end = cellar_writer_next(writer);
    SUPPORT_CHILD_NEEDS(end == CELLS + 100);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(check_cells(c, end) == 0);
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_FSIZE, 100 * KERNEL_BYTES_PER_CELL));
    SUPPORT_CHILD_NEEDS(cellar_writer_open(c->path, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == -EFBIG);
    SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, end - 1) == 0 && cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_FSIZE, 100));
    error = cellar_writer_open(c->path, &options, &writer); /* not even the header */
    SUPPORT_CHILD_NEEDS(error == 0 || error == -EFBIG);
    if (error == 0)
        cellar_writer_abandon(writer);
    SUPPORT_CHILD_NEEDS(check_cells(c, end) == 0);
    return 0;
}

/* Fewer addresses than the window wants: less of a window, or pages; and what insists on one is told. */
static int meet_addresses(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_writer *writer = NULL;
    struct cellar_info info;
    uint32_t index;
    int error;

    options.resize_step_bytes = 8 << 20;
    SUPPORT_CHILD_NEEDS(fill(c, CELLS) == 0);
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_AS, 40 << 20));
    error = cellar_writer_open(c->path, &options, &writer);
    SUPPORT_CHILD_NEEDS(error == 0);
    cellar_writer_info(writer, &info);
    if (info.window_bytes > 0)
        SUPPORT_CHILD_NEEDS(info.window_bytes < UINT64_C(64) << 20);
    for (uint32_t i = 0; i < 1000; i++)
        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(check_cells(c, CELLS + 1000 + kernel_start()) == 0);
    return 0;
}

/* The file alone is more than what may be mapped. */
static int meet_fewer_addresses(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_reader_options reader_options = {.device = c->choice, .cache_bytes = 1};
    struct cellar_info info;
    int error;

    options.initial_cells = (48 << 20) / KERNEL_BYTES_PER_CELL;
    options.compat = true; /* so that it stays as long */
    SUPPORT_CHILD_NEEDS(cellar_writer_create(c->path, &config, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_AS, 40 << 20));
    error = cellar_writer_open(c->path, &options, &writer);
    SUPPORT_CHILD_NEEDS(c->choice == CELLAR_DEVICE_MAPPED ? error == -ENOTSUP : error == 0);
    if (error == 0) {
        cellar_writer_info(writer, &info);
        SUPPORT_CHILD_NEEDS(info.data_path == CELLAR_PATH_PAGES && cellar_writer_close(writer) == 0);
    }
    error = cellar_reader_open(c->path, &reader_options, &reader);
    SUPPORT_CHILD_NEEDS(c->choice == CELLAR_DEVICE_MAPPED ? error == -ENOTSUP : error == 0);
    cellar_reader_close(reader);
    return 0;
}

static int lowest_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    close(fd);
    return fd;
}

/* One descriptor more at a time, until there are enough: an error each time before, and nothing left over. */
static int meet_descriptors(void *user)
{
    struct kernel_case *c = user;
    struct cellar_writer_options options = kernel_options(c);
    struct cellar_config config = kernel_config();
    struct cellar_writer *writer = NULL;
    int first = lowest_descriptor(), error = -EMFILE;

    for (int more = 0; error != 0; more++) {
        SUPPORT_CHILD_NEEDS(more < 20);
        SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_NOFILE, (uint64_t)(first + more)));
        error = cellar_writer_create(c->path, &config, &options, &writer);
        SUPPORT_CHILD_NEEDS(error == 0 || error == -EMFILE);
        SUPPORT_CHILD_NEEDS((error == 0) == (access(c->path, F_OK) == 0));
        SUPPORT_CHILD_NEEDS(error == 0 || (writer == NULL && lowest_descriptor() == (more > 0 ? first : -1)));
    }
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    error = -EMFILE;
    for (int more = 0; error != 0; more++) {
        SUPPORT_CHILD_NEEDS(more < 20);
        SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_NOFILE, (uint64_t)(first + more)));
        error = cellar_writer_open(c->path, &options, &writer);
        SUPPORT_CHILD_NEEDS(error == 0 || error == -EMFILE);
    }
    /* With all of them in use the writer goes on, and truncate leaves it as it was. */
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_NOFILE, (uint64_t)first));
    for (uint32_t i = 0; i < CELLS; i++) {
        uint32_t index;

        SUPPORT_CHILD_NEEDS(kernel_append(writer, &index) == 0);
    }
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == -EMFILE);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    SUPPORT_CHILD_NEEDS(set_limit(RLIMIT_NOFILE, 100));
    return check_cells(c, CELLS + kernel_start());
}

static void run_all(void **state, int (*run)(void *user))
{
    const char *folder = *state;

    for (int i = 0; i < KERNEL_CHOICES; i++) {
        struct kernel_case c = {.choice = kernel_choices[i]};

        if (c.choice == CELLAR_DEVICE_DIRECT && !support_has_direct(folder))
            continue;
        snprintf(c.path, sizeof c.path, "%s/%s", folder, kernel_choice_names[i]);
        print_message("  %s\n", kernel_choice_names[i]);
        kernel_run(run, &c);
    }
}

static void test_file_size(void **state)
{
    run_all(state, meet_file_size);
}

static void test_addresses(void **state)
{
    if (SUPPORT_SANITIZED || support_under_valgrind())
        support_skip("what watches this program needs addresses itself");
    run_all(state, meet_addresses);
}

static void test_fewer_addresses(void **state)
{
    if (SUPPORT_SANITIZED || support_under_valgrind())
        support_skip("what watches this program needs addresses itself");
    run_all(state, meet_fewer_addresses);
}

static void test_descriptors(void **state)
{
    run_all(state, meet_descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_size, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_addresses, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_fewer_addresses, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_descriptors, support_folder_setup, support_folder_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
