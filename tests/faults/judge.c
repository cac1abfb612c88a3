/* judge.c - whether what a call gave is what it may give, and what must follow from it. */
#include "world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void world_complain(struct world *world, const char *format, ...)
{
    va_list arguments;

    if (world->message[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(world->message, sizeof world->message, format, arguments);
    va_end(arguments);
}

/* ---- which error ---- */

/* What the library makes of an error where it does not hand it on as it is. The headers say so for each. */
static const struct {
    enum site site;
    int error; /* 0: any */
    int result;
} turned[] = {
    {SITE_FCNTL, EAGAIN, CELLAR_EBUSY}, /* somebody else has the lock */
    {SITE_FCNTL, EACCES, CELLAR_EBUSY}, /* the same */
    {SITE_MUTEX_INIT, 0, -ENOMEM},      /* memory, or what else a mutex is made of */
    {SITE_MMAP, 0, -ENOMEM},            /* the page that notices forks */
    {SITE_MMAP, 0, -ENOTSUP},           /* no window, but one is insisted on */
    {SITE_DEVICE_WINDOW, 0, -ENOTSUP},  /* the same */
    {SITE_FSTATFS, 0, -ENOTSUP},        /* the same: the file system can't be told */
    {SITE_FALLOCATE, 0, -ENOTSUP},      /* the same: a store into it could meet a full disk */
    {SITE_FSYNC, 0, -EIO},              /* of a size: "full" would be taken for a growth that didn't happen */
    {SITE_MSYNC, 0, -EIO},              /* the same */
    {SITE_PREAD, 0, -EINVAL},
    {SITE_STATX, 0, -EINVAL}, /* no O_DIRECT that could be told */
    {SITE_IOCTL, 0, -EINVAL}, /* the same */
    {SITE_DEVICE_LOCK, 0, CELLAR_EBUSY},
};

static bool fits_one(const struct fault *fault, enum site site, int error)
{
    if (error == -fault->error)
        return true;
    for (size_t i = 0; i < sizeof turned / sizeof turned[0]; i++) {
        if (turned[i].site == site && (turned[i].error == 0 || turned[i].error == fault->error) &&
            turned[i].result == error)
            return true;
    }
    return false;
}

bool world_error_fits(const struct world *world, int error)
{
    for (unsigned i = 0; i < PLAN_TARGETS_MAX; i++) {
        enum site site;
        const struct fault *fault = plan_fired(i, &site);

        if (fault != NULL && site == SITE_THREAD && world->doing != OP_CACHE)
            continue; /* what would run beside waits for commit */
        if (fault != NULL && !fault->hidden && fits_one(fault, site, error))
            return true;
    }
    return false;
}

/* Faults of which a device may conclude that it can never tell its incarnation; others keep a writer from opening. */
static bool is_absence(const struct fault *fault)
{
    return fault->error == 0 || fault->error == ENOENT || fault->error == ENOTDIR || fault->error == EACCES ||
           fault->error == EPERM || fault->error == ENOSYS;
}

bool world_keeps_committed(const struct world *world)
{
    if (world->poisoned)
        return false;
    for (unsigned i = 0; i < PLAN_TARGETS_MAX; i++) {
        enum site site;
        const struct fault *fault = plan_fired(i, &site);

        if (fault != NULL && (site_is_sync(site) || (site_tells_incarnation(site) && is_absence(fault))))
            return false;
    }
    return world->way->file || (!world->sim->sync_failed && !world->copy->sync_failed);
}

/* A sync that failed and that nobody heard of: what it was for is not durable. One that was interrupted may be made
 * again, and one that the system does not have by another. A truncate that is done marks the old file, which nobody is
 * promised: past the page cache that is a durable write where the file ends within the block. */
static bool must_surface(const struct world *world, const struct fault *fault, enum site site)
{
    if (world->doing == OP_TRUNCATE && site == SITE_PWRITEV2)
        return false;
    return fault != NULL && !fault->hidden && site_is_sync(site) && fault->error != EINTR && fault->error != ENOSYS &&
           fault->error != EOPNOTSUPP;
}

/* ---- poison ---- */

enum verdict { MUST, MAY, MUST_NOT };

static bool is_full(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

/* A failed growth that is no full disk comes from making the size durable; a full disk changes nothing. */
static enum verdict verdict_of_append(enum site site, int error)
{
    if (site_is_memory(site))
        return MUST_NOT;
    if (site == SITE_FALLOCATE || site == SITE_FTRUNCATE || site == SITE_DEVICE_GROW)
        return is_full(error) || error == -ENOMEM || error == -EOPNOTSUPP ? MUST_NOT : MUST;
    if (site == SITE_DEVICE_SYNC || site == SITE_FSYNC || site == SITE_MSYNC || site == SITE_FDATASYNC)
        return MUST;
    return MAY; /* a write in the background, or a question about the size */
}

static bool asks_size(enum site site)
{
    return site == SITE_DEVICE_SIZE || site == SITE_FSTAT;
}

static enum verdict verdict_of(const struct world *world, int error)
{
    enum site site = SITE_MALLOC;

    for (unsigned i = 0; i < PLAN_TARGETS_MAX; i++)
        (void)plan_fired(i, &site); /* the last one */
    switch (world->doing) {
    case OP_APPEND:
    case OP_APPEND_BYTES:
    case OP_VALUE:
    case OP_VALUE_PARTS:
    case OP_RESERVE:
    case OP_REWRITE:
        return plan_fired_count() > 1 ? MAY : verdict_of_append(site, error);
    case OP_COMMIT:
    case OP_FLUSH:
    case OP_FLUSH_COMMITTED:
    case OP_VERSION:
        return site_is_memory(site) || asks_size(site) ? MAY : MUST;
    case OP_SNAPSHOT: /* what was filled in place is written now, into memory that knows the device's size */
        return asks_size(site) ? MAY : MUST_NOT;
    case OP_TRUNCATE: /* the name is given, but may not be durable */
        return cellar_writer_next(world->writer) == world->model.start_index &&
                       world->model.appended.next_index != world->model.start_index
                   ? MUST
                   : MAY;
    default:
        return MUST_NOT;
    }
}

static void expect_poison(struct world *world, const char *call, int result, int error)
{
    WORLD_NEEDS(world, result == error, "poisoned with %s, but %s gives %s", cellar_strerror(error), call,
                cellar_strerror(result));
}

/* Every call gives the error, leaves its out-parameters alone, and reaches nothing. Closes the writer. */
static void try_poisoned(struct world *world, int error)
{
    struct cellar_writer *writer = world->writer;
    unsigned char cell[4096] = {0};
    struct iovec part = {cell, sizeof cell};
    uint32_t index = 77, next = cellar_writer_next(writer);
    uint64_t changes = plan_changes();
    void *cells = NULL;

    plan_arm();
    expect_poison(world, "append", cellar_writer_append(writer, cell, 1, &index), error);
    expect_poison(world, "append_bytes", cellar_writer_append_bytes(writer, cell, 1, &index), error);
    expect_poison(world, "reserve", cellar_writer_reserve(writer, 1, &index, &cells), error);
    expect_poison(world, "rewrite", cellar_writer_rewrite(writer, next - 1, cell, 1), error);
    expect_poison(world, "write_value", cellar_writer_write_value(writer, cell, 9, &index), error);
    expect_poison(world, "write_value_parts", cellar_writer_write_value_parts(writer, &part, 1, &index), error);
    expect_poison(world, "set_root", cellar_writer_set_root(writer, CELLAR_ROOT_NONE), error);
    expect_poison(world, "commit", cellar_writer_commit(writer), error);
    expect_poison(world, "rollback", cellar_writer_rollback(writer), error);
    expect_poison(world, "flush", cellar_writer_flush(writer), error);
    expect_poison(world, "flush_committed", cellar_writer_flush_committed(writer), error);
    expect_poison(world, "override_version", cellar_writer_override_version(writer, 3), error);
    expect_poison(world, "truncate", cellar_writer_truncate(writer, 0), error);
    expect_poison(world, "close", cellar_writer_close(writer), error);
    plan_disarm();
    world->writer = NULL;
    WORLD_NEEDS(world, index == 77 && cells == NULL, "a poisoned call has set its out-parameter");
    WORLD_NEEDS(world, plan_changes() == changes, "a poisoned writer has written");
}

/* After an error: poisoned or not, as it must be. set_root to where the root is tells without changing anything. */
static void judge_poison(struct world *world, int error)
{
    int poison = cellar_writer_set_root(world->writer, cellar_writer_root(world->writer));
    enum verdict verdict = verdict_of(world, error);

    WORLD_NEEDS(world, verdict != MUST || poison != 0, "%s gave %s, and the writer goes on",
                operation_name(world->doing), cellar_strerror(error));
    WORLD_NEEDS(world, verdict != MUST_NOT || poison == 0, "%s gave %s, and the writer is poisoned",
                operation_name(world->doing), cellar_strerror(error));
    if (poison == 0)
        return;
    WORLD_NEEDS(world, poison == error, "%s gave %s, but the poison is %s", operation_name(world->doing),
                cellar_strerror(error), cellar_strerror(poison));
    world->stopped = world->poisoned = true;
    try_poisoned(world, poison);
}

bool world_judge(struct world *world, int result)
{
    for (unsigned i = world->fired_before; i < PLAN_TARGETS_MAX && result >= 0; i++) {
        enum site site;
        const struct fault *fault = plan_fired(i, &site);

        WORLD_NEEDS(world, !must_surface(world, fault, site), "%s gave %d although %s failed",
                    operation_name(world->doing), result, site_name(site));
    }
    if (result >= 0)
        return true;
    WORLD_NEEDS(world, world_error_fits(world, result), "%s gave %s", operation_name(world->doing),
                cellar_strerror(result));
    if (world->writer != NULL)
        judge_poison(world, result);
    return false;
}
