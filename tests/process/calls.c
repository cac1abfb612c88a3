/*
 * calls [STRIDE] - a writer that dies before every single system call that the library makes, and before every single
 * store into a mapped header, of a life that creates the store, appends, commits, flushes, grows, truncates, closes,
 * opens again and abandons. After each death the next writer finds the last commit that had returned, or the one that
 * was being made, and works; a store that was being created is there whole or can be created again. STRIDE 1: before
 * every call. Without it before every thirty-second: a life waits for the disk some ten times.
 */
#include "system_fault.h"

#include "store_fixture.h"

#include "cell/header_store.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
    BYTES_PER_CELL = 40,
    START = 7,
    MAX_INDEX = 5000,
    DEATHS_MAX = 4000,
    HEADER_STORE = SYSTEM_CALL_COUNT,
    STRIDE_DEFAULT = 32
};

static int stride = STRIDE_DEFAULT;

/* States as root << 32 | next, by the writer. */
struct board {
    atomic_ullong done, doing;
    atomic_bool created, truncating;
};

struct life {
    struct store_fixture *f;
    struct board *board;
    bool compat;
    int kind; /* of what it dies: enum system_call, or HEADER_STORE */
    int nth;  /* before which of them */
};

static void die(void)
{
    raise(SIGKILL);
}

/* ---- stores into the header, counted ---- */

static int stores_left = -1; /* before death; negative: for ever */

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);

/* Takes the place of the library's function (-Wl,--wrap). */
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    while (length_bytes > 0) {
        size_t step = offset % 8 == 0 && length_bytes >= 8 ? 8 : 4;

        if (stores_left >= 0 && stores_left-- == 0)
            die();
        __real_cellar_header_store_window(window, offset, from, step);
        offset += step;
        from += step;
        length_bytes -= step;
    }
}

/* ---- a life ---- */

static struct cellar_writer_options options_of(const struct life *life)
{
    struct cellar_writer_options options = store_options(life->f);

    options.compat = life->compat;
    options.resize_step_bytes = 4096;
    options.eager_writes = CELLAR_EAGER_NONE; /* all calls by this thread */
    return options;
}

static uint64_t pack(uint32_t next_index, uint32_t root_index)
{
    return (uint64_t)root_index << 32 | next_index;
}

static uint64_t state_of(const struct cellar_writer *writer)
{
    return pack(cellar_writer_next(writer), cellar_writer_root(writer));
}

static int append(struct cellar_writer *writer, uint32_t count)
{
    unsigned char cell[BYTES_PER_CELL];
    uint32_t index;

    for (uint32_t i = 0; i < count; i++) {
        store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
        SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, index) == 0);
    }
    return 0;
}

static int publish(const struct life *life, struct cellar_writer *writer, uint32_t count, bool flushes)
{
    int line = append(writer, count);

    if (line != 0)
        return line;
    atomic_store(&life->board->doing, state_of(writer));
    SUPPORT_CHILD_NEEDS((flushes ? cellar_writer_flush(writer) : cellar_writer_commit(writer)) == 0);
    atomic_store(&life->board->done, state_of(writer));
    return 0;
}

static int truncate_store(const struct life *life, struct cellar_writer *writer)
{
    if (life->compat)
        return 0;
    atomic_store(&life->board->truncating, true);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, START + 10) == 0);
    atomic_store(&life->board->doing, pack(START, CELLAR_ROOT_NONE));
    atomic_store(&life->board->done, pack(START, CELLAR_ROOT_NONE));
    atomic_store(&life->board->truncating, false);
    return 0;
}

/* Several commits and flushes; the second ones grow the file. */
static int work(const struct life *life, struct cellar_writer *writer)
{
    int line = publish(life, writer, 3, false);

    if (line == 0)
        line = publish(life, writer, 150, true);
    if (line == 0)
        line = publish(life, writer, 1, true);
    if (line == 0)
        line = publish(life, writer, 200, false);
    return line;
}

static int live(const struct life *life)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer_options options = options_of(life);
    struct cellar_writer *writer = NULL;
    int line;

    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(life->f->path, &config, &options, &writer) == 0);
    atomic_store(&life->board->created, true);
    line = work(life, writer);
    if (line == 0)
        line = truncate_store(life, writer);
    if (line == 0)
        line = work(life, writer);
    if (line == 0)
        line = append(writer, 5);
    if (line != 0)
        return line;
    atomic_store(&life->board->doing, state_of(writer));
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    atomic_store(&life->board->done, atomic_load(&life->board->doing));
    SUPPORT_CHILD_NEEDS(cellar_writer_open(life->f->path, &options, &writer) == 0);
    line = work(life, writer);
    if (line == 0)
        line = append(writer, 5);
    cellar_writer_abandon(writer);
    SUPPORT_CHILD_NEEDS(cellar_writer_open(life->f->path, &options, &writer) == 0);
    line = line != 0 ? line : publish(life, writer, 1, false);
    cellar_writer_abandon(writer);
    return line;
}

/* ---- after it ---- */

static bool is_expected(const struct board *board, uint64_t state)
{
    return state == atomic_load(&board->done) || state == atomic_load(&board->doing) ||
           (atomic_load(&board->truncating) && state == pack(START, CELLAR_ROOT_NONE));
}

static void assert_goes_on(const struct life *life)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer_options options = options_of(life);
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer = NULL;

    if (atomic_load(&life->board->created))
        assert_done(cellar_writer_open(life->f->path, &options, &writer));
    else
        assert_done(cellar_writer_open_or_create(life->f->path, &config, &options, &writer));
    cellar_writer_recovery(writer, &recovery);
    assert_true(recovery.found == CELLAR_FOUND_CLEAN || recovery.found == CELLAR_FOUND_COMMITTED ||
                (recovery.found == CELLAR_FOUND_NOTHING && !atomic_load(&life->board->created)));
    assert_true(is_expected(life->board, state_of(writer)));
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_append(writer, 300);
    store_close(writer);
    writer = store_again(life->f);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    if (!life->compat) { /* also where a leftover of the truncate that was cut off is in its way */
        assert_done(cellar_writer_truncate(writer, 0));
        assert_int_equal(store_folder_entries(life->f), 1);
    }
    store_close(writer);
    store_remove(life->f);
}

/* A life that ends at life->nth. False: it ended by itself. */
static bool die_once(const struct life *life)
{
    pid_t child;
    int status = 0;

    *life->board = (struct board){.done = pack(START, CELLAR_ROOT_NONE), .doing = pack(START, CELLAR_ROOT_NONE)};
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (life->kind == HEADER_STORE)
            stores_left = life->nth - 1;
        else
            system_before((enum system_call)life->kind, life->nth, die);
        _exit(live(life) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    assert_goes_on(life);
    return WIFSIGNALED(status);
}

static void die_everywhere(struct store_fixture *f, bool compat)
{
    struct life life = {.f = f, .compat = compat};
    unsigned deaths = 0;
    int step = store_takes_slice(f) ? 4 * stride : stride;

    life.board = mmap(NULL, sizeof *life.board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(life.board != MAP_FAILED);
    for (life.kind = 0; life.kind <= HEADER_STORE; life.kind++) {
        for (life.nth = 1 + life.kind % step; die_once(&life); life.nth += step)
            assert_true(++deaths < DEATHS_MAX);
    }
    assert_true(deaths > 100 / (unsigned)step);
    munmap(life.board, sizeof *life.board);
    print_message("%u deaths\n", deaths);
}

static void test_deaths(void **state)
{
    die_everywhere(*state, false);
}

static void test_deaths_compat(void **state)
{
    die_everywhere(*state, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_deaths), STORE_ON_FILES(test_deaths_compat)};

    if (argc > 1)
        stride = atoi(argv[1]);
    if (stride <= 0) {
        fprintf(stderr, "usage: %s [STRIDE]\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
