#include "sim.h"

#include "plan.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIMS_MAX = 4 };

/* For the handler of stores into clean pages. */
static struct sim *sims[SIMS_MAX];
static int sim_count;
static void (*on_crash)(int number);

/* ---- pages ---- */

static void protect(struct sim *sim, size_t first_page, size_t page_count, bool writable)
{
    if (sim->traits.window && mprotect(sim->window + first_page * SIM_PAGE_BYTES, page_count * SIM_PAGE_BYTES,
                                       PROT_READ | (writable ? PROT_WRITE : 0)) != 0)
        abort();
}

/* The first store into a clean page of a window. */
static void note_store(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;

    (void)context;
    for (int i = 0; i < sim_count; i++) {
        uintptr_t base = (uintptr_t)sims[i]->window;
        size_t page = (at - base) / SIM_PAGE_BYTES;

        if (at >= base && at < base + SIM_CAPACITY_BYTES && sims[i]->traits.window && sims[i]->dirty[page] == 0) {
            sims[i]->dirty[page] = 1;
            sims[i]->lost[page] = 0;
            protect(sims[i], page, 1, true);
            return;
        }
    }
    if (on_crash != NULL)
        on_crash(number);
    signal(number, SIG_DFL); /* a fault of the program: it ends it when this returns */
}

static void mark_written(struct sim *sim, uint64_t offset, uint64_t length_bytes)
{
    for (uint64_t page = offset / SIM_PAGE_BYTES; length_bytes > 0 && page * SIM_PAGE_BYTES < offset + length_bytes;
         page++) {
        if (sim->dirty[page] == 0)
            protect(sim, page, 1, true);
        sim->dirty[page] = 1;
        sim->lost[page] = 0;
    }
}

static void write_page(struct sim *sim, uint64_t page)
{
    memcpy(sim->disk + page * SIM_PAGE_BYTES, sim->bytes + page * SIM_PAGE_BYTES, SIM_PAGE_BYTES);
}

static void drop_page(struct sim *sim, uint64_t page)
{
    memcpy(sim->bytes + page * SIM_PAGE_BYTES, sim->disk + page * SIM_PAGE_BYTES, SIM_PAGE_BYTES);
    sim->lost[page] = 0;
}

/* A sync of the pages of a range; manner AFTER is one that works, FAIL one after which pages are dirty still. */
static void sync_pages(struct sim *sim, uint64_t offset, uint64_t length_bytes, enum manner manner)
{
    for (uint64_t page = offset / SIM_PAGE_BYTES; page * SIM_PAGE_BYTES < offset + length_bytes; page++) {
        if (sim->dirty[page] == 0 || manner == MANNER_FAIL)
            continue;
        sim->dirty[page] = 0;
        protect(sim, page, 1, false);
        if (manner == MANNER_AFTER || (manner == MANNER_PARTLY && page % 2 == 1))
            write_page(sim, page);
        else
            sim->lost[page] = 1;
        if (sim->lost[page] != 0 && (manner == MANNER_EVICTED || manner == MANNER_PARTLY))
            drop_page(sim, page);
    }
}

/* ---- the table ---- */

struct handle {
    struct sim *sim;
    bool writable, locked;
    struct cellar_device_ops ops;
};

static struct sim *sim_of(void *state)
{
    return ((struct handle *)state)->sim;
}

static int fails(enum site site)
{
    const struct fault *fault = plan_meet(site);

    return fault == NULL ? 0 : -fault->error;
}

static uint32_t sim_block_bytes(void *state)
{
    uint32_t block_bytes = sim_of(state)->traits.block_bytes;

    return block_bytes > 0 ? block_bytes : 1;
}

static int sim_size(void *state, uint64_t *ret_size_bytes)
{
    int error = fails(SITE_DEVICE_SIZE);

    if (error == 0)
        *ret_size_bytes = sim_of(state)->size_bytes;
    return error;
}

/* Half of a transfer in whole blocks; at least one. */
static uint64_t half(const struct sim *sim, uint64_t length_bytes)
{
    uint64_t unit = sim->traits.block_bytes > 0 ? sim->traits.block_bytes : 1;

    return length_bytes / 2 / unit > 0 ? length_bytes / 2 / unit * unit : length_bytes < unit ? length_bytes : unit;
}

static ssize_t sim_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct sim *sim = sim_of(state);
    const struct fault *fault = plan_meet(SITE_DEVICE_READ);

    if (fault != NULL && fault->manner == MANNER_FAIL)
        return -fault->error;
    if (offset >= sim->size_bytes)
        return 0;
    if (length_bytes > sim->size_bytes - offset)
        length_bytes = (size_t)(sim->size_bytes - offset);
    if (fault != NULL)
        length_bytes = (size_t)half(sim, length_bytes);
    memcpy(buffer, sim->bytes + offset, length_bytes);
    return (ssize_t)length_bytes;
}

static int sim_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    int error = fails(SITE_DEVICE_LOAD);

    (void)length_bytes;
    if (error == 0)
        *ret_bytes = sim_of(state)->bytes + offset;
    return error;
}

static void sim_release(void *state, const void *bytes, size_t length_bytes)
{
    (void)state, (void)bytes, (void)length_bytes;
}

static uint64_t total_bytes(const struct iovec *parts, int part_count)
{
    uint64_t total = 0;

    for (int i = 0; i < part_count; i++)
        total += parts[i].iov_len;
    return total;
}

static void put(struct sim *sim, const struct iovec *parts, int part_count, uint64_t offset, uint64_t length_bytes)
{
    mark_written(sim, offset, length_bytes);
    for (int i = 0; i < part_count && length_bytes > 0; i++) {
        size_t step = parts[i].iov_len < length_bytes ? parts[i].iov_len : (size_t)length_bytes;

        memcpy(sim->bytes + offset, parts[i].iov_base, step);
        offset += step;
        length_bytes -= step;
    }
}

static ssize_t sim_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct sim *sim = sim_of(state);
    const struct fault *fault = plan_meet(SITE_DEVICE_WRITE);
    uint64_t length_bytes = total_bytes(parts, part_count);

    (void)token;
    if (fault != NULL && (fault->manner == MANNER_SHORT || fault->manner == MANNER_TORN))
        length_bytes = half(sim, length_bytes);
    if (fault == NULL || fault->manner != MANNER_FAIL)
        put(sim, parts, part_count, offset, length_bytes);
    return fault != NULL && fault->error != 0 ? -fault->error : (ssize_t)length_bytes;
}

static ssize_t sim_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                 uint64_t offset)
{
    struct sim *sim = sim_of(state);
    const struct fault *fault = plan_meet(SITE_DEVICE_WRITE_DURABLE);
    uint64_t length_bytes = total_bytes(parts, part_count);
    enum manner manner = fault == NULL || fault->manner == MANNER_SHORT ? MANNER_AFTER : fault->manner;

    (void)token;
    if (manner == MANNER_FAIL)
        return -fault->error;
    if (fault != NULL && (fault->manner == MANNER_SHORT || fault->manner == MANNER_TORN))
        length_bytes = half(sim, length_bytes);
    put(sim, parts, part_count, offset, length_bytes);
    sync_pages(sim, offset, length_bytes, manner == MANNER_TORN ? MANNER_AFTER : manner);
    sim->sync_failed = sim->sync_failed || manner == MANNER_LOST || manner == MANNER_EVICTED;
    return fault != NULL && fault->error != 0 ? -fault->error : (ssize_t)length_bytes;
}

static int sim_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct sim *sim = sim_of(state);
    const struct fault *fault = plan_meet(SITE_DEVICE_SYNC);

    (void)token;
    sync_pages(sim, offset, length_bytes, fault == NULL ? MANNER_AFTER : fault->manner);
    sim->sync_failed = sim->sync_failed || fault != NULL;
    if (fault != NULL && fault->manner == MANNER_DIED && sim->grave != NULL && sim->traits.block_bytes <= 1) {
        sim_copy(sim->grave, sim, SIM_KEPT);
        sim->died = true;
    }
    return fault == NULL ? 0 : -fault->error;
}

static int sim_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct sim *sim = sim_of(state);
    const struct fault *fault = plan_meet(SITE_DEVICE_GROW);
    uint32_t block_bytes = sim_block_bytes(state);

    (void)token, (void)allocate_from;
    size_bytes = (size_bytes + block_bytes - 1) / block_bytes * block_bytes;
    if (fault != NULL && fault->manner == MANNER_FAIL)
        return -fault->error;
    if (size_bytes > SIM_CAPACITY_BYTES)
        return -ENOSPC;
    if (size_bytes > sim->size_bytes)
        sim->size_bytes = size_bytes;
    return fault != NULL ? -fault->error : 0;
}

static void cut(struct sim *sim, uint64_t size_bytes)
{
    if (size_bytes >= sim->size_bytes)
        return;
    memset(sim->bytes + size_bytes, 0, (size_t)(sim->size_bytes - size_bytes));
    memset(sim->disk + size_bytes, 0, (size_t)(sim->size_bytes - size_bytes));
    sim->size_bytes = size_bytes;
}

static int sim_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    int error = fails(SITE_DEVICE_TRIM);

    (void)token;
    if (error == 0)
        cut(sim_of(state), size_bytes);
    return error;
}

static int sim_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct handle *handle = state;
    int error = fails(SITE_DEVICE_LOCK);

    if (error == 0 && lock == CELLAR_LOCK_WRITER) {
        if (handle->sim->locks > 0)
            return CELLAR_EBUSY;
        handle->sim->locks++;
        handle->locked = true;
    }
    if (error == 0)
        *ret_token = 1;
    return error;
}

static int sim_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct handle *handle = state;
    const struct fault *fault = plan_meet(SITE_DEVICE_UNLOCK);

    (void)token;
    if (lock == CELLAR_LOCK_WRITER && handle->locked && (fault == NULL || fault->error != EINTR)) {
        handle->sim->locks--;
        handle->locked = false;
    }
    return fault == NULL ? 0 : -fault->error;
}

static int sim_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                      uint64_t *ret_capacity_bytes)
{
    struct sim *sim = sim_of(state);
    const struct fault *fault = plan_meet(SITE_DEVICE_WINDOW);

    (void)capacity_bytes;
    if (fault != NULL)
        return -fault->error;
    *ret_base = writable ? sim->window : sim->bytes;
    *ret_capacity_bytes = SIM_CAPACITY_BYTES;
    return 0;
}

static int sim_incarnation(void *state, uint64_t *ret_incarnation)
{
    int error = fails(SITE_DEVICE_INCARNATION);

    if (error == 0)
        *ret_incarnation = sim_of(state)->incarnation;
    return error;
}

static int sim_close(void *state)
{
    struct handle *handle = state;

    if (handle->locked)
        handle->sim->locks--;
    free(handle);
    return 0;
}

int sim_open(struct sim *sim, bool writable, struct cellar_device **ret_device)
{
    struct handle *handle = malloc(sizeof *handle);

    if (handle == NULL)
        abort();
    *handle = (struct handle){.sim = sim, .writable = writable};
    handle->ops = (struct cellar_device_ops){
        .name = "simulated",
        .block_bytes = sim_block_bytes,
        .size = sim_size,
        .read = sim_read,
        .load = sim->traits.window ? sim_load : NULL,
        .release = sim->traits.window ? sim_release : NULL,
        .write = writable ? sim_write : NULL,
        .write_durable = writable && sim->traits.durable_writes ? sim_write_durable : NULL,
        .sync = sim_sync,
        .grow = writable && sim->traits.fixed_bytes == 0 ? sim_grow : NULL,
        .trim = writable && sim->traits.fixed_bytes == 0 ? sim_trim : NULL,
        .lock = sim_lock,
        .unlock = sim_unlock,
        .window = sim->traits.window ? sim_window : NULL,
        .incarnation = sim_incarnation,
        .close = sim_close,
    };
    return cellar_device_open(&handle->ops, handle, ret_device);
}

/* ---- what becomes of it ---- */

void sim_make(struct sim *sim, void (*crash)(int number))
{
    struct sigaction action = {.sa_sigaction = note_store, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int fd = memfd_create("simulated disk", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, SIM_CAPACITY_BYTES) != 0 || sim_count == SIMS_MAX)
        abort();
    *sim = (struct sim){.size_bytes = 0};
    sim->bytes = mmap(NULL, SIM_CAPACITY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    sim->window = mmap(NULL, SIM_CAPACITY_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    sim->disk = mmap(NULL, SIM_CAPACITY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sim->bytes == MAP_FAILED || sim->window == MAP_FAILED || sim->disk == MAP_FAILED)
        abort();
    close(fd);
    sims[sim_count++] = sim;
    on_crash = crash;
    sigaction(SIGSEGV, &action, NULL);
}

void sim_begin(struct sim *sim, const struct sim_traits *traits)
{
    static uint64_t incarnations;

    if (sim->size_bytes > 0) {
        memset(sim->bytes, 0, (size_t)sim->size_bytes);
        memset(sim->disk, 0, (size_t)sim->size_bytes);
    }
    memset(sim->dirty, 0, sizeof sim->dirty);
    memset(sim->lost, 0, sizeof sim->lost);
    sim->traits = *traits;
    sim->size_bytes = traits->fixed_bytes;
    sim->locks = 0;
    sim->sync_failed = sim->died = false;
    sim->incarnation = ++incarnations;
    protect(sim, 0, SIM_PAGES, false);
}

void sim_happen(struct sim *sim, enum sim_image image)
{
    uint64_t pages = (sim->size_bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;

    sim->locks = 0;
    if (image == SIM_KEPT)
        return;
    for (uint64_t page = 0; page < pages; page++) {
        if (image == SIM_POWER || sim->lost[page] != 0)
            drop_page(sim, page);
        if (image == SIM_POWER)
            sim->dirty[page] = 0;
    }
    if (image == SIM_POWER) {
        protect(sim, 0, SIM_PAGES, false);
        sim->incarnation += UINT64_C(1) << 40;
    }
}

void sim_copy(struct sim *to, const struct sim *from, enum sim_image image)
{
    sim_begin(to, &from->traits);
    if (from->size_bytes > to->size_bytes)
        to->size_bytes = from->size_bytes;
    memcpy(to->bytes, from->bytes, (size_t)from->size_bytes);
    memcpy(to->disk, from->disk, (size_t)from->size_bytes);
    to->incarnation = from->incarnation;
    memcpy(to->dirty, from->dirty, sizeof to->dirty);
    memcpy(to->lost, from->lost, sizeof to->lost);
    for (size_t page = 0; page < SIM_PAGES; page++) {
        if (to->dirty[page] != 0)
            protect(to, page, 1, true);
    }
    sim_happen(to, image);
}
