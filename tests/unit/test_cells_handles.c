/*
 * The handles of the pages path: each with a lock, every lock that was made is ended, and only those; which handle a
 * thread gets; and that its lock is held while its pages are used. pthread's functions that make and end a lock are
 * replaced here: they are counted, and one can fail.
 */
#include "device_fault.h"
#include "support.h"

#include "cell/cells.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIZE = 50000, CACHE_BYTES = 64 * 1024 };

static struct {
    int made, ended;
    int fail_at; /* counted from 1; 0: none */
    bool counting;
} locks;

int pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attributes)
{
    static int (*real)(pthread_mutex_t *, const pthread_mutexattr_t *);

    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_mutex_init");

        memcpy(&real, &symbol, sizeof real);
    }
    if (locks.counting && locks.fail_at > 0 && locks.made + 1 == locks.fail_at) {
        locks.fail_at = 0;
        return ENOMEM;
    }
    locks.made += locks.counting;
    return real(lock, attributes);
}

int pthread_mutex_destroy(pthread_mutex_t *lock)
{
    static int (*real)(pthread_mutex_t *);

    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_mutex_destroy");

        memcpy(&real, &symbol, sizeof real);
    }
    locks.ended += locks.counting;
    return real(lock);
}

static void count_from_now(int fail_at)
{
    locks.made = locks.ended = 0;
    locks.fail_at = fail_at;
    locks.counting = true;
}

static int open_cells(struct cellar_cells *cells, struct cellar_device *device, bool writer)
{
    return cellar_cells_open(cells, device, 32, NULL, CACHE_BYTES, writer, 0);
}

static void test_every_lock_is_ended(void **state)
{
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    for (int writer = 0; writer < 2; writer++) {
        struct cellar_cells cells;

        count_from_now(0);
        assert_done(open_cells(&cells, device, writer));
        assert_int_equal(cells.handle_count, writer ? 1 : CELLAR_CELLS_HANDLES);
        for (int i = 0; i < cells.handle_count; i++)
            assert_true(cells.handles[i].lock_ready);
        cellar_cells_close(&cells);
        assert_int_equal(locks.ended, locks.made);
        locks.counting = false;
    }
    assert_done(cellar_device_close(device));
}

/* A reader has a lock for each handle before it has a cache: the nth fails, and those before it are ended. */
static void test_a_lock_fails(void **state)
{
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    for (int nth = 1; nth <= CELLAR_CELLS_HANDLES; nth++) {
        struct cellar_cells cells;

        count_from_now(nth);
        assert_result(open_cells(&cells, device, false), -ENOMEM);
        assert_int_equal(locks.made, nth - 1);
        assert_int_equal(locks.ended, nth - 1);
        locks.counting = false;
        assert_null(cells.handles);
    }
    assert_done(cellar_device_close(device));
}

/* ---- with a look at each page ---- */

static int accept_page(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    (void)version;
    (void)page_address;
    (void)bytes;
    (void)length;
    ++*(int *)user;
    return 0;
}

static const struct cellar_cache_hooks accepting = {.validate = accept_page};

/* What was looked at is what is read, also where the device lends its own bytes. */
static void test_checked_bytes_stay(void **state)
{
    struct cellar_device *device;
    struct cellar_cells cells;
    uint64_t capacity_bytes;
    unsigned char got[4];
    int looks = 0;
    void *base;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    assert_done(cellar_device_window(device, SIZE, true, &base, &capacity_bytes));
    assert_done(cellar_cells_open_checked(&cells, device, 32, CACHE_BYTES, &accepting, &looks));
    memcpy((unsigned char *)base + 5000, "seen", 4);
    assert_done(cellar_cells_read(&cells, 5000, got, sizeof got));
    assert_int_equal(looks, 1);
    memcpy((unsigned char *)base + 5000, "here", 4);
    assert_done(cellar_cells_read(&cells, 5000, got, sizeof got));
    assert_memory_equal(got, "seen", 4);
    assert_int_equal(looks, 1);
    cellar_cells_close(&cells);
    assert_done(cellar_device_close(device));
}

struct hesitation {
    int refuse, looks;
};

static int hesitate(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct hesitation *hesitation = user;

    (void)version;
    (void)page_address;
    (void)bytes;
    (void)length;
    return ++hesitation->looks <= hesitation->refuse ? -EAGAIN : 0;
}

/* A page is loaded again while its looks say so, but not for ever; any other error is final. */
static void test_looks_again(void **state)
{
    static const struct cellar_cache_hooks hesitating = {.validate = hesitate};
    static const int refusals[] = {0, 1, 50, 99, 100, 101, 1000000};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    for (size_t i = 0; i < SUPPORT_COUNT(refusals); i++) {
        struct hesitation hesitation = {.refuse = refusals[i]};
        bool gives_up = refusals[i] > 100;
        struct cellar_cells cells;
        unsigned char got[4];

        assert_done(cellar_cells_open_checked(&cells, device, 32, CACHE_BYTES, &hesitating, &hesitation));
        assert_result(cellar_cells_read(&cells, 5000, got, sizeof got), gives_up ? -EIO : 0);
        assert_int_equal(hesitation.looks, gives_up ? 101 : refusals[i] + 1);
        cellar_cells_close(&cells);
    }
    assert_done(cellar_device_close(device));
}

static void test_a_lock_of_checked_cells_fails(void **state)
{
    struct cellar_device *device;
    int looks = 0;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    for (int nth = 1; nth <= CELLAR_CELLS_HANDLES; nth++) {
        struct cellar_cells cells;

        count_from_now(nth);
        assert_result(cellar_cells_open_checked(&cells, device, 32, CACHE_BYTES, &accepting, &looks), -ENOMEM);
        assert_int_equal(locks.ended, nth - 1);
        locks.counting = false;
        assert_null(cells.handles);
    }
    assert_done(cellar_device_close(device));
}

/* ---- which handle ---- */

/* A thread that reads twice, and stays until it is told to go. */
struct visitor {
    struct cellar_cells *cells;
    pthread_barrier_t *come, *go;
    int error;
};

static void *visit(void *user)
{
    struct visitor *visitor = user;
    unsigned char got[10];

    visitor->error = cellar_cells_read(visitor->cells, 0, got, sizeof got);
    if (visitor->error == 0)
        visitor->error = cellar_cells_read(visitor->cells, 5000, got, sizeof got);
    pthread_barrier_wait(visitor->come);
    pthread_barrier_wait(visitor->go);
    return NULL;
}

static int handles_with_caches(const struct cellar_cells *cells)
{
    int count = 0;

    for (int i = 0; i < cells->handle_count; i++)
        count += cells->handles[i].cache != NULL;
    return count;
}

static int handles_of_nobody(const struct cellar_cells *cells)
{
    int count = 0;

    for (int i = 0; i < cells->handle_count; i++)
        count += cells->handles[i].thread == 0;
    return count;
}

/* A thread that reads once, and says who it is before and that it has done so after. */
struct guest {
    struct cellar_cells *cells;
    atomic_int thread_id;
    atomic_bool done;
    int error;
};

static void *read_once(void *user)
{
    struct guest *guest = user;
    unsigned char got[10];

    atomic_store(&guest->thread_id, (int)syscall(SYS_gettid));
    guest->error = cellar_cells_read(guest->cells, 9000, got, sizeof got);
    atomic_store(&guest->done, true);
    return NULL;
}

/* True where the thread sleeps: what it waits for has not come. */
static bool is_asleep(int thread_id)
{
    char path[64], line[256] = "", *behind_name;
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread_id);
    file = fopen(path, "r");
    if (file == NULL)
        return false;
    behind_name = fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
    fclose(file);
    return behind_name != NULL && strncmp(behind_name, ") S", 3) == 0;
}

/* One more thread than there are handles, while held_count of them are in use: it gets another one at once, and waits
 * for the first where there is none. */
static void read_beside(struct cellar_cells *cells, int held_count)
{
    struct guest guest = {.cells = cells};
    pthread_t thread;

    for (int i = 0; i < held_count; i++)
        assert_int_equal(pthread_mutex_trylock(&cells->handles[i].lock), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_once, &guest), 0);
    if (held_count == cells->handle_count) {
        while (!atomic_load(&guest.done) && (guest.thread_id == 0 || !is_asleep(guest.thread_id)))
            sched_yield();
        assert_false(atomic_load(&guest.done));
        pthread_mutex_unlock(&cells->handles[0].lock);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_done(guest.error);
    if (held_count == cells->handle_count)
        assert_int_equal(pthread_mutex_trylock(&cells->handles[0].lock), 0);
    for (int i = 0; i < cells->handle_count; i++)
        assert_int_equal(pthread_mutex_trylock(&cells->handles[i].lock), i < held_count ? EBUSY : 0);
    for (int i = 0; i < cells->handle_count; i++)
        pthread_mutex_unlock(&cells->handles[i].lock);
}

/* Each thread that is there has a handle of its own and keeps it. */
static void test_one_handle_for_each_thread(void **state)
{
    enum { VISITORS = CELLAR_CELLS_HANDLES };
    struct visitor visitors[VISITORS];
    pthread_t threads[VISITORS];
    pthread_barrier_t come, go;
    struct cellar_device *device;
    struct cellar_cells cells;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    for (unsigned count = 1; count <= VISITORS; count += 5) {
        assert_done(open_cells(&cells, device, false));
        assert_int_equal(pthread_barrier_init(&come, NULL, count + 1), 0);
        assert_int_equal(pthread_barrier_init(&go, NULL, count + 1), 0);
        for (unsigned i = 0; i < count; i++) {
            visitors[i] = (struct visitor){.cells = &cells, .come = &come, .go = &go};
            assert_int_equal(pthread_create(&threads[i], NULL, visit, &visitors[i]), 0);
        }
        pthread_barrier_wait(&come);
        assert_int_equal(handles_with_caches(&cells), count);
        assert_int_equal(handles_of_nobody(&cells), VISITORS - count);
        if (count == VISITORS) {
            for (int held = 0; held <= cells.handle_count; held++)
                read_beside(&cells, held);
        }
        pthread_barrier_wait(&go);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_done(visitors[i].error);
        }
        pthread_barrier_destroy(&come);
        pthread_barrier_destroy(&go);
        cellar_cells_close(&cells);
    }
    assert_done(cellar_device_close(device));
}

/* ---- under the lock ---- */

struct watched {
    struct fault_device fault;
    struct cellar_device *device;
    struct cellar_cells cells;
    int calls, free_calls; /* reads and writes of the device; those while the first handle's lock was free */
};

static void look_at_the_lock(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct watched *watched = user;

    (void)offset;
    (void)length_bytes;
    if (watched->cells.handles == NULL || (call != FAULT_READ && call != FAULT_WRITE))
        return;
    watched->calls++;
    if (pthread_mutex_trylock(&watched->cells.handles[0].lock) == 0) {
        pthread_mutex_unlock(&watched->cells.handles[0].lock);
        watched->free_calls++;
    }
}

static struct watched *open_watched(bool writer, unsigned eager_writes, uint64_t size_bytes)
{
    struct watched *watched = calloc(1, sizeof *watched);

    assert_non_null(watched);
    watched->fault.without = FAULT_BIT(FAULT_LOAD);
    assert_done(cellar_device_open_memory(NULL, size_bytes, size_bytes, &watched->fault.inner));
    assert_done(fault_device_open(&watched->fault, &watched->device));
    assert_done(cellar_cells_open(&watched->cells, watched->device, 32, NULL, CACHE_BYTES, writer, eager_writes));
    return watched;
}

static void close_watched(struct watched *watched)
{
    cellar_cells_close(&watched->cells);
    assert_done(cellar_device_close(watched->device));
    free(watched);
}

/* And free after each call, whatever it gave. */
static void test_lock_is_held(void **state)
{
    unsigned char bytes[100] = {1};

    (void)state;
    for (int writer = 0; writer < 2; writer++) {
        struct watched *watched = open_watched(writer, 0, SIZE);
        struct cellar_cells *cells = &watched->cells;

        watched->fault.before_user = watched;
        watched->fault.before = look_at_the_lock;
        assert_done(cellar_cells_read(cells, 4000, bytes, sizeof bytes));
        fault_fail(&watched->fault, FAULT_READ, 1, 1, -EIO);
        assert_result(cellar_cells_read(cells, 20000, bytes, sizeof bytes), -EIO);
        if (writer) {
            assert_done(cellar_cells_write(cells, 30000, bytes, sizeof bytes));
            assert_done(cellar_cells_commit(cells, 0));
            cellar_cells_discard(cells);
        } else {
            cellar_cells_forget(cells, 0);
        }
        assert_true(watched->calls >= (writer ? 3 : 2));
        assert_int_equal(watched->free_calls, 0);
        assert_int_equal(pthread_mutex_trylock(&cells->handles[0].lock), 0);
        pthread_mutex_unlock(&cells->handles[0].lock);
        close_watched(watched);
    }
}

/* What begins past what is committed may go out before commit; so that it does, the pipeline must know. */
static void test_eager_past_what_is_committed(void **state)
{
    enum { LARGE = 1 << 20 };
    static const unsigned char bytes[LARGE - 8192];

    (void)state;
    for (int known = 0; known < 2; known++) {
        struct watched *watched = open_watched(true, 2, LARGE);
        uint64_t writes;

        if (known)
            cellar_cells_set_committed(&watched->cells, 8192);
        assert_done(cellar_cells_write(&watched->cells, 8192, bytes, sizeof bytes));
        cellar_cells_discard(&watched->cells); /* waits for what is on its way */
        writes = fault_calls(&watched->fault, FAULT_BIT(FAULT_WRITE));
        assert_true(known ? writes > 0 : writes == 0);
        close_watched(watched);
    }
}

/* Told so, every read fails, with what was told. */
static void test_told_to_fail(void **state)
{
    unsigned char got[4];

    (void)state;
    for (int writer = 0; writer < 2; writer++) {
        struct watched *watched = open_watched(writer, 0, SIZE);

        assert_done(cellar_cells_read(&watched->cells, 0, got, sizeof got));
        cellar_cells_fail(&watched->cells, -EIO);
        assert_result(cellar_cells_read(&watched->cells, 0, got, sizeof got), -EIO);
        assert_result(cellar_cells_read(&watched->cells, SIZE - 4, got, sizeof got), -EIO);
        cellar_cells_fail(&watched->cells, 0);
        assert_done(cellar_cells_read(&watched->cells, 0, got, sizeof got));
        close_watched(watched);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_lock_is_ended),
        cmocka_unit_test(test_a_lock_fails),
        cmocka_unit_test(test_checked_bytes_stay),
        cmocka_unit_test(test_looks_again),
        cmocka_unit_test(test_a_lock_of_checked_cells_fails),
        cmocka_unit_test(test_one_handle_for_each_thread),
        cmocka_unit_test(test_lock_is_held),
        cmocka_unit_test(test_told_to_fail),
        cmocka_unit_test(test_eager_past_what_is_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
