/* writer_ahead.c - the writer's room: what it appends into, ready ahead of it or made when it is needed. */
#include "device/file.h"
#include "store_internal.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/* The file grows by no more at a time, however large it is. */
enum { STRETCH_BYTES_MAX = 256 << 20 };

static int populate(void *user, uint64_t offset, uint64_t length_bytes)
{
    const struct cellar_writer *writer = user;

    return cellar_file_populate(writer->ground->device, offset, length_bytes);
}

/* A sync failed, and the file says so: the writer stops. */
static void lose(struct cellar_writer *writer, int error)
{
    pthread_mutex_lock(&writer->flush_lock);
    cellar_header_restore_slots(&writer->ground->header);
    pthread_mutex_unlock(&writer->flush_lock);
    (void)cellar_writer_poison(writer, error);
}

static void lost(void *user, int error)
{
    lose(user, error);
}

static int write_out(void *user, uint64_t offset, uint64_t length_bytes)
{
    struct cellar_writer *writer = user;
    struct cellar_header *header = &writer->ground->header;
    int error = cellar_header_begin_sync(header);

    if (error != 0)
        return error;
    error = cellar_file_write_out(writer->ground->device, &writer->ahead_fd, offset, length_bytes);
    if (error == 0 || error == -ENOTSUP)
        return cellar_header_end_sync(header) != 0 ? -EIO : error;
    cellar_header_fail(header, error);
    lose(writer, error);
    return error;
}

static unsigned parts_of(const struct cellar_writer *writer)
{
    unsigned parts = CELLAR_AHEAD_GROWS | CELLAR_AHEAD_POPULATES | CELLAR_AHEAD_WRITES;

    if (!writer->ground->owned || writer->ground->window == NULL || writer->compat ||
        (writer->ahead_options & CELLAR_AHEAD_NONE) != 0)
        return 0;
    if ((writer->ahead_options & CELLAR_AHEAD_NO_GROWTH) != 0)
        parts &= ~(unsigned)CELLAR_AHEAD_GROWS;
    if ((writer->ahead_options & CELLAR_AHEAD_NO_POPULATION) != 0)
        parts &= ~(unsigned)CELLAR_AHEAD_POPULATES;
    if ((writer->ahead_options & CELLAR_AHEAD_NO_WRITES) != 0)
        parts &= ~(unsigned)CELLAR_AHEAD_WRITES;
    return parts;
}

static uint64_t position_of(const struct cellar_writer *writer)
{
    return (uint64_t)writer->alloc.next_index * writer->config.bytes_per_cell;
}

/* Reading around pays where many cells are stored where they lie: then it is done for all of the window, in one mapping
 * again. Else only what was there before is read so, and a first store into a page brings in no other. */
static void read_around(struct cellar_writer *writer, bool wanted)
{
    cellar_file_read_around(writer->ground->device, wanted ? 0 : position_of(writer), wanted);
    writer->reads_around = wanted;
}

void cellar_writer_ahead_begin(struct cellar_writer *writer)
{
    struct cellar_ahead_ways ways = {.populate = populate, .write_out = write_out, .lost = lost, .user = writer};
    unsigned parts = parts_of(writer);

    writer->ahead_fd = -1;
    if ((parts & CELLAR_AHEAD_GROWS) != 0)
        writer->alloc.most_cells = cellar_alloc_step_cells(STRETCH_BYTES_MAX, writer->config.bytes_per_cell);
    cellar_ahead_begin(&writer->ahead, parts, &writer->alloc, &ways);
    if (writer->gather_bytes !=
        UINT64_MAX) /* cells that come fast are not stored into the window, but where reserved */
        writer->ahead.stores = writer->ahead.stores_always = false;
    if (writer->ahead.parts != 0)
        read_around(writer, false);
}

void cellar_writer_ahead_end(struct cellar_writer *writer, bool forked)
{
    if (writer->ahead.parts == 0)
        return;
    if (forked)
        cellar_ahead_forget(&writer->ahead);
    else
        cellar_ahead_end(&writer->ahead, &writer->alloc);
    if (writer->ahead_fd >= 0)
        close(writer->ahead_fd);
    writer->ahead_fd = -1;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Grows the file by what is needed, if no other thread has meanwhile. */
static int grow(struct cellar_writer *writer, uint64_t cell_count)
{
    int error;

    cellar_ahead_begin_growth(&writer->ahead, &writer->alloc);
    error = cellar_alloc_prepare(&writer->alloc, cell_count);
    cellar_ahead_end_growth(&writer->ahead, &writer->alloc);
    if (error == 0 || cellar_alloc_is_harmless(error))
        return error;
    if (error != CELLAR_ECORRUPT) /* a file that was cut may have no header any more */
        lose(writer, error);
    return cellar_writer_poison(writer, error);
}

int cellar_writer_make_room(struct cellar_writer *writer, uint64_t cell_count)
{
    struct cellar_alloc *alloc = &writer->alloc;
    uint64_t position_bytes = position_of(writer);
    bool stores = writer->ahead.stores ||
                  (position_bytes > writer->ahead.origin_bytes && position_bytes < writer->ground->cells.stage.from);
    int error = 0;

    cellar_ahead_learn(&writer->ahead, alloc);
    if (cell_count > alloc->ready_index - alloc->next_index)
        error = grow(writer, cell_count);
    if (error == 0)
        cellar_ahead_pass(&writer->ahead, alloc, alloc->next_index + (uint32_t)cell_count,
                          writer->ahead.parts != 0 ? now_ns() : 0);
    if (writer->ahead.parts != 0 && writer->reads_around != stores)
        read_around(writer, stores);
    return error;
}
