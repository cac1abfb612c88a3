#include "simdisk.h"

#include "device/device.h"
#include "hook.h"
#include "random.h"
#include "trace.h"

#include <inttypes.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

uint64_t simdisk_new_incarnation(void)
{
    static uint64_t last;

    return ++last * 0x9e3779b97f4a7c15U | 1;
}

static unsigned char *new_bytes(void)
{
    void *bytes = mmap(NULL, SIMDISK_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (bytes == MAP_FAILED)
        abort();
    return bytes;
}

/* Whether a page of the view is clean but not on the disk. In a window the next store into it, whatever it stores,
 * comes to the hook's handler, which makes it dirty again. */
static void set_lost(struct simdisk *disk, uint64_t page, bool lost)
{
    if (disk->lost[page] == lost)
        return;
    disk->lost[page] = lost;
    if (disk->kind.window &&
        mprotect(disk->view + page * PAGE_BYTES, PAGE_BYTES, lost ? PROT_READ : PROT_READ | PROT_WRITE) != 0)
        abort();
}

bool simdisk_touched(struct simdisk *disk, const void *address)
{
    uintptr_t at = (uintptr_t)address - (uintptr_t)disk->view;

    if (at >= SIMDISK_BYTES_MAX || !disk->lost[at / PAGE_BYTES])
        return false;
    set_lost(disk, at / PAGE_BYTES, false);
    return true;
}

void simdisk_init(struct simdisk *disk, const struct simdisk_kind *kind, uint64_t *random)
{
    memset(disk, 0, sizeof *disk);
    disk->kind = *kind;
    disk->view = new_bytes();
    disk->seen = new_bytes();
    disk->durable = new_bytes();
    disk->sizes[0] = kind->fixed ? kind->capacity_bytes : 0;
    disk->size_count = 1;
    disk->version_capacity = 1024;
    disk->version_count = 1;
    disk->versions = malloc(disk->version_capacity * sizeof *disk->versions);
    if (disk->versions == NULL)
        abort();
    disk->random = random;
    disk->incarnation = simdisk_new_incarnation();
}

void simdisk_free(struct simdisk *disk)
{
    hook_remove(disk);
    munmap(disk->view, SIMDISK_BYTES_MAX);
    munmap(disk->seen, SIMDISK_BYTES_MAX);
    munmap(disk->durable, SIMDISK_BYTES_MAX);
    free(disk->versions);
    memset(disk, 0, sizeof *disk);
}

static void forget_pending(struct simdisk *disk)
{
    for (uint32_t i = 0; i < disk->pending_count; i++)
        disk->lines[disk->pending[i]] = (struct simdisk_line){.count = 0};
    disk->pending_count = 0;
    disk->version_count = 1;
    disk->free_version = 0;
    for (uint64_t page = 0; page < SIMDISK_PAGES; page++)
        set_lost(disk, page, false);
}

/* Makes an array hold these bytes, and zeros up to where it held something else. */
static void fill(unsigned char *to, uint64_t to_bytes, const unsigned char *bytes, uint64_t size_bytes)
{
    if (size_bytes > 0)
        memcpy(to, bytes, size_bytes);
    if (to_bytes > size_bytes)
        memset(to + size_bytes, 0, to_bytes - size_bytes);
}

void simdisk_load(struct simdisk *disk, const unsigned char *bytes, uint64_t size_bytes)
{
    uint64_t capacity_bytes = disk->kind.capacity_bytes;

    forget_pending(disk);
    fill(disk->view, capacity_bytes, bytes, size_bytes);
    fill(disk->seen, capacity_bytes, bytes, size_bytes);
    fill(disk->durable, capacity_bytes, bytes, size_bytes);
    disk->sizes[0] = size_bytes;
    disk->size_count = 1;
    disk->fail_sync = 0;
    disk->locked = false;
    disk->incarnation = simdisk_new_incarnation();
}

void simdisk_copy(struct simdisk *to, const struct simdisk *from)
{
    uint64_t bytes = from->kind.capacity_bytes;

    forget_pending(to);
    to->kind = from->kind;
    memcpy(to->view, from->view, bytes);
    memcpy(to->seen, from->seen, bytes);
    memcpy(to->durable, from->durable, bytes);
    memcpy(to->sizes, from->sizes, sizeof to->sizes);
    to->size_count = from->size_count;
    if (to->version_capacity < from->version_capacity) {
        to->version_capacity = from->version_capacity;
        free(to->versions);
        to->versions = malloc(to->version_capacity * sizeof *to->versions);
        if (to->versions == NULL)
            abort();
    }
    memcpy(to->versions, from->versions, from->version_count * sizeof *to->versions);
    to->version_count = from->version_count;
    to->free_version = from->free_version;
    memcpy(to->pending, from->pending, from->pending_count * sizeof *to->pending);
    to->pending_count = from->pending_count;
    for (uint32_t i = 0; i < from->pending_count; i++)
        to->lines[from->pending[i]] = from->lines[from->pending[i]];
    for (uint64_t page = 0; page < SIMDISK_PAGES; page++)
        set_lost(to, page, from->lost[page]);
    to->moment = from->moment;
    to->incarnation = from->incarnation;
    to->fail_sync = 0;
    to->locked = false;
}

static void notify(struct simdisk *disk, enum simdisk_event what)
{
    if (disk->event != NULL)
        disk->event(disk->user, what);
}

/* ---- versions ---- */

static uint32_t take_version(struct simdisk *disk)
{
    uint32_t version = disk->free_version;

    if (version != 0) {
        disk->free_version = disk->versions[version].next;
        return version;
    }
    if (disk->version_count == disk->version_capacity) {
        disk->version_capacity *= 2;
        disk->versions = realloc(disk->versions, disk->version_capacity * sizeof *disk->versions);
        if (disk->versions == NULL)
            abort();
    }
    return disk->version_count++;
}

/* The line may be there with these bytes from now on. One that has had too many contents forgets the second: fewer
 * images, none wrong. */
static void add_version(struct simdisk *disk, uint32_t index, const unsigned char *bytes)
{
    struct simdisk_line *line = &disk->lines[index];
    uint32_t version = take_version(disk);

    disk->versions[version].next = 0;
    disk->versions[version].moment = disk->moment;
    memcpy(disk->versions[version].bytes, bytes, LINE_BYTES);
    if (line->count == 0) {
        disk->pending[disk->pending_count++] = index;
        line->first = version;
    } else {
        disk->versions[line->last].next = version;
    }
    line->last = version;
    line->count++;
    if (line->count > LINE_VERSIONS_MAX) {
        uint32_t second = disk->versions[line->first].next;

        disk->versions[line->first].next = disk->versions[second].next;
        disk->versions[second].next = disk->free_version;
        disk->free_version = second;
        line->count--;
    }
}

/* A store of several words may be caught in the middle: the first words are the new ones, or the last. */
static void add_torn(struct simdisk *disk, uint32_t index, const unsigned char *before, const unsigned char *after)
{
    unsigned char torn[LINE_BYTES];
    uint32_t words = 1 + random_below(disk->random, LINE_BYTES / 8 - 1);

    memcpy(torn, after, words * 8);
    memcpy(torn + words * 8, before + words * 8, LINE_BYTES - words * 8);
    if (memcmp(torn, before, LINE_BYTES) != 0 && memcmp(torn, after, LINE_BYTES) != 0)
        add_version(disk, index, torn);
}

static bool notice_line(struct simdisk *disk, uint32_t index)
{
    unsigned char *before = disk->seen + (uint64_t)index * LINE_BYTES;
    const unsigned char *after = disk->view + (uint64_t)index * LINE_BYTES;

    if (memcmp(before, after, LINE_BYTES) == 0)
        return false;
    add_torn(disk, index, before, after);
    add_version(disk, index, after);
    memcpy(before, after, LINE_BYTES);
    set_lost(disk, index / (PAGE_BYTES / LINE_BYTES), false); /* the whole page will be written */
    return true;
}

/* What changed in [offset, end). Pages are compared before their lines. */
static bool notice_range(struct simdisk *disk, uint64_t offset, uint64_t end)
{
    bool changed = false;

    disk->moment++;
    for (uint64_t at = offset / PAGE_BYTES * PAGE_BYTES; at < end; at += PAGE_BYTES) {
        if (memcmp(disk->view + at, disk->seen + at, PAGE_BYTES) == 0)
            continue;
        for (uint32_t line = 0; line < PAGE_BYTES / LINE_BYTES; line++)
            changed |= notice_line(disk, (uint32_t)(at / LINE_BYTES) + line);
    }
    return changed;
}

void simdisk_notice(struct simdisk *disk)
{
    if (notice_range(disk, 0, simdisk_size(disk)))
        notify(disk, SIMDISK_STORED);
}

void simdisk_stored(struct simdisk *disk, uint64_t offset)
{
    trace("    store at %" PRIu64, offset);
    set_lost(disk, offset / PAGE_BYTES, false);
    simdisk_notice(disk);
}

static void drop_versions(struct simdisk *disk, uint32_t index)
{
    struct simdisk_line *line = &disk->lines[index];

    disk->versions[line->last].next = disk->free_version;
    disk->free_version = line->first;
    *line = (struct simdisk_line){.count = 0};
}

static bool is_lost(const struct simdisk *disk, uint32_t line)
{
    return disk->lost[line / (PAGE_BYTES / LINE_BYTES)];
}

/* [offset, end) of the view is durable now, but for pages that are clean. Only what is asked for, no whole pages: a
 * device may do so. */
static void make_durable(struct simdisk *disk, uint64_t offset, uint64_t end)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint32_t index = disk->pending[i];
        uint64_t at = (uint64_t)index * LINE_BYTES;

        if (at + LINE_BYTES <= offset || at >= end || is_lost(disk, index)) {
            disk->pending[kept++] = index;
            continue;
        }
        memcpy(disk->durable + at, disk->view + at, LINE_BYTES);
        drop_versions(disk, index);
    }
    disk->pending_count = kept;
    if (kept == 0) {
        disk->version_count = 1;
        disk->free_version = 0;
    }
}

/* ---- failures ---- */

static void lose_range(struct simdisk *disk, uint64_t offset, uint64_t end)
{
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint64_t at = (uint64_t)disk->pending[i] * LINE_BYTES;

        if (at + LINE_BYTES > offset && at < end)
            set_lost(disk, at / PAGE_BYTES, true);
    }
}

/* The line is on the disk as so many of its versions left it: none, or nothing newer, will get there. */
static void forget_newer(struct simdisk *disk, uint32_t index, uint32_t count)
{
    struct simdisk_line *line = &disk->lines[index];
    uint32_t last = line->first;

    for (uint32_t i = 1; i < count; i++)
        last = disk->versions[last].next;
    if (count == 0) {
        drop_versions(disk, index);
    } else if (count < line->count) {
        disk->versions[line->last].next = disk->free_version;
        disk->free_version = disk->versions[last].next;
        disk->versions[last].next = 0;
        line->last = last;
        line->count = count;
    }
}

/* The page is read again: each line as it has got to the disk, if it has. */
static void evict_page(struct simdisk *disk, uint32_t page)
{
    uint32_t kind = random_below(disk->random, 3); /* nothing of it got there, all, or anything */
    uint32_t kept = 0;

    trace("    page %" PRIu32 " is evicted, way %" PRIu32, page, kind);
    set_lost(disk, page, false);
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint32_t index = disk->pending[i], pick;
        const struct simdisk_line *line = &disk->lines[index];
        uint64_t at = (uint64_t)index * LINE_BYTES;

        if (at / PAGE_BYTES == page) {
            pick = kind == 0 ? 0 : kind == 1 ? line->count : random_below(disk->random, line->count + 1);
            forget_newer(disk, index, pick);
            memcpy(disk->view + at, pick == 0 ? disk->durable + at : disk->versions[line->last].bytes, LINE_BYTES);
            memcpy(disk->seen + at, disk->view + at, LINE_BYTES);
        }
        if (line->count > 0)
            disk->pending[kept++] = index;
    }
    disk->pending_count = kept;
}

void simdisk_evict(struct simdisk *disk)
{
    bool all = random_once_in(disk->random, 2);

    if (disk->kind.block_bytes > 1)
        return; /* nothing is cached */
    simdisk_notice(disk);
    disk->moment++;
    for (uint32_t page = 0; page < disk->kind.capacity_bytes / PAGE_BYTES; page++) {
        if (disk->lost[page] && (all || random_once_in(disk->random, 2)))
            evict_page(disk, page);
    }
}

/* ---- the table ---- */

static int disk_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = simdisk_size(state);
    return 0;
}

static ssize_t disk_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct simdisk *disk = state;

    if (offset >= simdisk_size(disk))
        return 0;
    if (length_bytes > simdisk_size(disk) - offset)
        length_bytes = (size_t)(simdisk_size(disk) - offset);
    memcpy(buffer, disk->view + offset, length_bytes);
    return (ssize_t)length_bytes;
}

static uint64_t put(struct simdisk *disk, const struct iovec *parts, int part_count, uint64_t offset)
{
    uint64_t at = offset;

    simdisk_notice(disk); /* what was stored before is no part of this write */
    trace("    write at %" PRIu64, offset);
    for (int part = 0; part < part_count; part++) {
        memcpy(disk->view + at, parts[part].iov_base, parts[part].iov_len);
        at += parts[part].iov_len;
    }
    notice_range(disk, offset, at);
    /* What is written as it is makes its page dirty all the same. */
    for (uint64_t page = offset / PAGE_BYTES; page * PAGE_BYTES < at; page++)
        set_lost(disk, page, false);
    return at - offset;
}

static ssize_t disk_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    uint64_t length_bytes = put(state, parts, part_count, offset);

    (void)token;
    notify(state, SIMDISK_STORED);
    return (ssize_t)length_bytes;
}

/* Whether this sync is the one that fails: what it was about is clean then, and not on the disk. */
static bool fails(struct simdisk *disk, uint64_t offset, uint64_t length_bytes)
{
    if (disk->fail_sync == 0 || --disk->fail_sync > 0)
        return false;
    trace("    sync of %" PRIu64 " bytes at %" PRIu64 " fails", length_bytes, offset);
    lose_range(disk, offset, offset + length_bytes);
    notify(disk, SIMDISK_LOST);
    return true;
}

static int disk_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct simdisk *disk = state;

    (void)token;
    simdisk_notice(disk);
    notify(disk, SIMDISK_BARRIER);
    if (fails(disk, offset, length_bytes))
        return -EIO;
    trace("    sync of %" PRIu64 " bytes at %" PRIu64, length_bytes, offset);
    if (!disk->kind.syncs_nothing)
        make_durable(disk, offset, offset + length_bytes);
    notify(disk, SIMDISK_SYNCED);
    return 0;
}

static ssize_t disk_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                  uint64_t offset)
{
    uint64_t length_bytes = put(state, parts, part_count, offset);
    int error = disk_sync(state, token, offset, length_bytes);

    return error != 0 ? error : (ssize_t)length_bytes;
}

static void set_size(struct simdisk *disk, uint64_t size_bytes)
{
    if (disk->size_count == SIMDISK_SIZES_MAX)
        disk->size_count--;
    disk->sizes[disk->size_count++] = size_bytes;
}

static int disk_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct simdisk *disk = state;
    uint32_t block_bytes = disk->kind.block_bytes;
    uint64_t before_bytes;

    (void)token;
    size_bytes = (size_bytes + block_bytes - 1) / block_bytes * block_bytes;
    if (size_bytes > disk->kind.capacity_bytes)
        return -ENOSPC;
    simdisk_notice(disk);
    if (disk->kind.zeroes && allocate_from < simdisk_size(disk)) {
        memset(disk->view + allocate_from, 0, simdisk_size(disk) - allocate_from);
        notice_range(disk, allocate_from, simdisk_size(disk));
    }
    if (size_bytes <= simdisk_size(disk) && (disk->size_count == 1 || size_bytes <= disk->sizes[0]))
        return 0;
    if (size_bytes < simdisk_size(disk))
        size_bytes = simdisk_size(disk);
    trace("    grows to %" PRIu64, size_bytes);
    before_bytes = simdisk_size(disk);
    set_size(disk, size_bytes);
    notify(disk, SIMDISK_BARRIER);
    if (disk->kind.grow_syncs && fails(disk, 0, disk->kind.capacity_bytes)) {
        set_size(disk, before_bytes);
        return -EIO;
    }
    if (!disk->kind.grows_nothing) {
        disk->sizes[0] = size_bytes;
        disk->size_count = 1;
    }
    notify(disk, SIMDISK_SYNCED);
    return 0;
}

/* What lay beyond the new end reads as zeros if the device grows again. */
static int disk_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    struct simdisk *disk = state;
    uint64_t before_bytes = simdisk_size(disk);

    (void)token;
    simdisk_notice(disk);
    memset(disk->view + size_bytes, 0, before_bytes - size_bytes);
    notice_range(disk, size_bytes, before_bytes);
    set_size(disk, size_bytes);
    notify(disk, SIMDISK_STORED);
    return 0;
}

static uint32_t disk_block_bytes(void *state)
{
    return ((const struct simdisk *)state)->kind.block_bytes;
}

static int disk_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                       uint64_t *ret_capacity_bytes)
{
    struct simdisk *disk = state;

    (void)writable;
    if (capacity_bytes > disk->kind.capacity_bytes)
        capacity_bytes = disk->kind.capacity_bytes;
    *ret_base = disk->view;
    *ret_capacity_bytes = capacity_bytes;
    return 0;
}

static int disk_incarnation(void *state, uint64_t *ret_incarnation)
{
    *ret_incarnation = ((const struct simdisk *)state)->incarnation;
    return 0;
}

static int disk_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct simdisk *disk = state;

    *ret_token = 1;
    if (lock == CELLAR_LOCK_WRITER && disk->locked)
        return CELLAR_EBUSY;
    if (lock == CELLAR_LOCK_WRITER)
        disk->locked = true;
    return 0;
}

static int disk_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct simdisk *disk = state;

    (void)token;
    if (lock == CELLAR_LOCK_WRITER)
        disk->locked = false;
    return 0;
}

static int disk_close(void *state)
{
    (void)state;
    return 0;
}

struct simdisk *simdisk_of(const struct cellar_device *device)
{
    return cellar_device_state(device, disk_close);
}

int simdisk_open(struct simdisk *disk, struct cellar_device **ret_device)
{
    const struct simdisk_kind *kind = &disk->kind;

    disk->ops = (struct cellar_device_ops){
        .name = "simulated",
        .block_bytes = disk_block_bytes,
        .size = disk_size,
        .read = disk_read,
        .write = disk_write,
        .write_durable = kind->durable_writes ? disk_write_durable : NULL,
        .sync = disk_sync,
        .grow = kind->fixed ? NULL : disk_grow,
        .trim = kind->can_trim ? disk_trim : NULL,
        .lock = disk_lock,
        .unlock = disk_unlock,
        .window = kind->window ? disk_window : NULL,
        .incarnation = kind->has_incarnation ? disk_incarnation : NULL,
        .close = disk_close,
    };
    if (kind->window)
        hook_add(disk);
    return cellar_device_open(&disk->ops, disk, ret_device);
}
