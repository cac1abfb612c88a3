/*
 * writer.c - append, commit, flush, close.
 *
 *            append, reserve,           commit                     flush
 *            write_value, set_root
 *   nothing ----------------> appended -------------> committed ----------------> durable
 *                             (this writer)           (readers with the key)      (every reader, every crash)
 *
 * Invariants:
 *  1. next (alloc) >= next of the committed state >= next of the durable state; the root of each lies below its next.
 *  2. Cells below the committed next never change.
 *  3. Process sync is published before disk sync; cells are durable before the disk-sync slots that name them are
 *     stored.
 *  4. After the first failed write or sync (poison) nothing is stored any more.
 *
 * Threads: alloc, root_index and reservations are the appending thread's. flush_committed on other threads sees only
 * committed and commits (atomic: the state is stored before the count) and works under flush_lock.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "cell/chunk.h"
#include "store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int cellar_writer_check(const struct cellar_writer *writer)
{
    if (CELLAR_UNLIKELY(cellar_forked(writer->fork_page)))
        return CELLAR_EFORKED;
    return atomic_load_explicit(&writer->poison, memory_order_relaxed);
}

CELLAR_COLD int cellar_writer_poison(struct cellar_writer *writer, int error)
{
    int none = 0;

    if (error < 0)
        atomic_compare_exchange_strong(&writer->poison, &none, error);
    return error;
}

/* Whether cellar_writer_check gives 0, in short; false says nothing. */
static inline bool is_fine(const struct cellar_writer *writer)
{
    return cellar_fork_page_is_quiet(writer->fork_page) &&
           atomic_load_explicit(&writer->poison, memory_order_relaxed) == 0;
}

static uint64_t offset_of(const struct cellar_writer *writer, uint32_t index)
{
    return (uint64_t)index * writer->config.bytes_per_cell;
}

CELLAR_COLD void cellar_writer_stand(struct cellar_writer *writer, const struct cellar_state *state,
                                     uint32_t ready_index, uint64_t file_bytes)
{
    writer->alloc = (struct cellar_alloc){
        .device = writer->ground->device,
        .header = &writer->ground->header,
        .bytes_per_cell = writer->config.bytes_per_cell,
        .next_index = state->next_index,
        .mark_index = ready_index,
        .ready_index = ready_index,
        .max_index = writer->config.max_index,
        .step_cells = cellar_alloc_step_cells(writer->resize_step_bytes, writer->config.bytes_per_cell),
        .window_bytes = writer->ground->window_bytes,
        .file_bytes = file_bytes,
    };
    writer->root_index = state->root_index;
    atomic_store(&writer->committed, cellar_state_pack(state));
    atomic_store(&writer->flushed_next, state->next_index);
    atomic_fetch_add(&writer->commits, 1);
    writer->flushed_commits = atomic_load(&writer->commits) - 1;
    writer->synced_next = cellar_start_index(writer->config.bytes_per_cell);
    cellar_writer_ahead_begin(writer);
    if (writer->ground->owned && writer->ground->window != NULL)
        cellar_cells_gather(&writer->ground->cells, writer->ground->device, writer->gather_bytes);
    cellar_cells_set_committed(&writer->ground->cells, offset_of(writer, state->next_index));
}

CELLAR_COLD void cellar_writer_stand_empty(struct cellar_writer *writer, uint64_t file_bytes)
{
    struct cellar_state empty = {.next_index = cellar_start_index(writer->config.bytes_per_cell)};

    cellar_writer_stand(writer, &empty, (uint32_t)(file_bytes / writer->config.bytes_per_cell), file_bytes);
    writer->flushed_commits = atomic_load(&writer->commits);
    writer->words = writer->words_wanted && writer->ground->window != NULL;
}

/* ---- appending ---- */

static inline int take(struct cellar_writer *writer, uint64_t cell_count, uint32_t *ret_first_index)
{
    struct cellar_alloc *alloc = &writer->alloc;

    if (CELLAR_UNLIKELY(cell_count > (uint64_t)alloc->mark_index - alloc->next_index)) {
        int error = cellar_writer_make_room(writer, cell_count);

        if (error != 0)
            return error;
    }
    *ret_first_index = alloc->next_index;
    alloc->next_index += (uint32_t)cell_count;
    return 0;
}

static inline struct cellar_state committed_state(const struct cellar_writer *writer)
{
    return cellar_state_unpack(atomic_load_explicit(&writer->committed, memory_order_acquire));
}

void cellar_writer_drop_reservations(struct cellar_writer *writer)
{
    while (writer->reservations != NULL) {
        struct cellar_reservation *reservation = writer->reservations;

        writer->reservations = reservation->next;
        free(reservation);
    }
}

/* What was filled in place on the pages path goes into the pipeline; it may be filled further until the next commit. */
static int pour_reservations(struct cellar_writer *writer)
{
    for (struct cellar_reservation *r = writer->reservations; r != NULL; r = r->next) {
        int error =
            cellar_cells_write(&writer->ground->cells, offset_of(writer, r->first_index), r->bytes, r->length_bytes);

        if (error != 0)
            return error == -ENOMEM ? error : cellar_writer_poison(writer, error);
    }
    return 0;
}

/* Undoes a take whose cells could not be written. */
static CELLAR_COLD int give_back(struct cellar_writer *writer, uint32_t first_index, int error)
{
    writer->alloc.next_index = first_index;
    return error == -ENOMEM ? error : cellar_writer_poison(writer, error);
}

/* Any number of cells, of any size. */
static CELLAR_APART int append(struct cellar_writer *writer, const void *cells, uint32_t cell_count,
                               uint32_t *ret_first_index)
{
    uint32_t first;
    int error = cellar_writer_check(writer);

    if (error == 0 && cell_count == 0)
        error = -EINVAL;
    if (error == 0)
        error = take(writer, cell_count, &first);
    if (error != 0)
        return error;
    error = cellar_cells_write(&writer->ground->cells, offset_of(writer, first), cells,
                               (size_t)cell_count * writer->config.bytes_per_cell);
    if (error != 0)
        return give_back(writer, first, error);
    *ret_first_index = first;
    return 0;
}

int cellar_writer_append(struct cellar_writer *writer, const void *cells, uint32_t cell_count,
                         uint32_t *ret_first_index)
{
    uint32_t first = writer->alloc.next_index;
    unsigned char copy[64], *place; /* the bytes may be those cells, lent */

    if (cell_count != 1 || first >= writer->alloc.mark_index || writer->config.bytes_per_cell != 64 || !is_fine(writer))
        return append(writer, cells, cell_count, ret_first_index);
    place = cellar_cells_place(&writer->ground->cells, (uint64_t)first * 64);
    if (CELLAR_UNLIKELY(place == NULL))
        return append(writer, cells, cell_count, ret_first_index);
    memcpy(copy, cells, sizeof copy);
    memcpy(place, copy, sizeof copy);
    writer->alloc.next_index = first + 1;
    *ret_first_index = first;
    return 0;
}

int cellar_writer_append_bytes(struct cellar_writer *writer, const void *bytes, size_t length_bytes,
                               uint32_t *ret_first_index)
{
    uint32_t bytes_per_cell = writer->config.bytes_per_cell, first;
    uint64_t cell_count = length_bytes / bytes_per_cell + (length_bytes % bytes_per_cell != 0);
    size_t rest_bytes = (size_t)(cell_count * bytes_per_cell - length_bytes);
    int error = cellar_writer_check(writer);

    if (error == 0 && length_bytes == 0)
        error = -EINVAL;
    if (error == 0)
        error = take(writer, cell_count, &first);
    if (error != 0)
        return error;
    error = cellar_cells_write(&writer->ground->cells, offset_of(writer, first), bytes, length_bytes);
    if (error == 0)
        error = cellar_cells_zero(&writer->ground->cells, offset_of(writer, first) + length_bytes, rest_bytes);
    if (error != 0)
        return give_back(writer, first, error);
    *ret_first_index = first;
    return 0;
}

uint32_t cellar_writer_reserve_max(uint32_t bytes_per_cell)
{
    if (bytes_per_cell == 0)
        return 0;
    return 65536 + CELLAR_FOOTER_BYTES / bytes_per_cell + 1;
}

int cellar_writer_reserve(struct cellar_writer *writer, uint32_t cell_count, uint32_t *ret_first_index,
                          void **ret_cells)
{
    uint64_t length_bytes = (uint64_t)cell_count * writer->config.bytes_per_cell;
    struct cellar_reservation *reservation = NULL;
    uint32_t first;
    int error = cellar_writer_check(writer);

    if (error == 0 && (cell_count == 0 || cell_count > cellar_writer_reserve_max(writer->config.bytes_per_cell)))
        error = -EINVAL;
    if (error == 0 && writer->ground->window == NULL) {
        if (length_bytes <= SIZE_MAX / 2)
            reservation = calloc(1, sizeof *reservation + (size_t)length_bytes);
        if (reservation == NULL)
            error = -ENOMEM;
    }
    if (error == 0)
        error = take(writer, cell_count, &first);
    if (error != 0) {
        free(reservation);
        return error;
    }
    *ret_first_index = first;
    if (reservation == NULL) {
        writer->ahead.stores = true;
        *ret_cells = (unsigned char *)writer->ground->window + offset_of(writer, first);
        return 0;
    }
    reservation->first_index = first;
    reservation->length_bytes = (size_t)length_bytes;
    reservation->next = writer->reservations;
    writer->reservations = reservation;
    *ret_cells = reservation->bytes;
    return 0;
}

/* The part of [offset, offset + length_bytes) that lies in a reservation is written there: its owner may still fill the
 * rest. */
static void rewrite_reserved(struct cellar_writer *writer, uint64_t offset, const unsigned char *bytes,
                             uint64_t length_bytes)
{
    for (struct cellar_reservation *r = writer->reservations; r != NULL; r = r->next) {
        uint64_t begin = offset_of(writer, r->first_index), end = begin + r->length_bytes;
        uint64_t from = offset > begin ? offset : begin;
        uint64_t to = offset + length_bytes < end ? offset + length_bytes : end;

        if (from < to)
            memmove(r->bytes + (from - begin), bytes + (from - offset), (size_t)(to - from));
    }
}

int cellar_writer_rewrite(struct cellar_writer *writer, uint32_t index, const void *bytes, size_t length_bytes)
{
    uint64_t offset = offset_of(writer, index), end = offset_of(writer, writer->alloc.next_index);
    int error = cellar_writer_check(writer);

    if (error != 0)
        return error;
    if (index < cellar_start_index(writer->config.bytes_per_cell) || offset >= end || length_bytes > end - offset)
        return CELLAR_EBOUNDS;
    if (index < committed_state(writer).next_index)
        return -EINVAL;
    error = cellar_cells_rewrite(&writer->ground->cells, offset, bytes, length_bytes);
    if (error != 0)
        return error == -ENOMEM ? error : cellar_writer_poison(writer, error);
    rewrite_reserved(writer, offset, bytes, length_bytes);
    return 0;
}

int cellar_writer_write_value_parts(struct cellar_writer *writer, const struct iovec *parts, int part_count,
                                    uint32_t *ret_index)
{
    uint64_t size_bytes;
    uint32_t first;
    int error = cellar_writer_check(writer);

    if (error != 0)
        return error;
    if (part_count < 0)
        return -EINVAL;
    size_bytes = cellar_parts_bytes(parts, part_count);
    if (size_bytes == UINT64_MAX)
        return CELLAR_EINDEXFULL;
    error = take(writer, cellar_value_cells(writer->config.bytes_per_cell, size_bytes), &first);
    if (error != 0)
        return error;
    error = cellar_chunk_write(&writer->ground->cells, first, parts, part_count, ret_index);
    return error == 0 ? 0 : give_back(writer, first, error);
}

int cellar_writer_write_value(struct cellar_writer *writer, const void *bytes, size_t length_bytes, uint32_t *ret_index)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length_bytes};

    return cellar_writer_write_value_parts(writer, &part, 1, ret_index);
}

int cellar_writer_set_root(struct cellar_writer *writer, uint32_t root_index)
{
    if (!is_fine(writer)) {
        int error = cellar_writer_check(writer);

        if (error != 0)
            return error;
    }
    if (root_index != CELLAR_ROOT_NONE && /* below the start: no division here */
        (offset_of(writer, root_index) < CELLAR_HEADER_BYTES || root_index >= writer->alloc.next_index))
        return CELLAR_EBOUNDS;
    writer->root_index = root_index;
    return 0;
}

/* ---- committing ---- */

/* A state is out: flushes may take it. */
static inline void note_commit(struct cellar_writer *writer, uint64_t packed)
{
    atomic_store_explicit(&writer->committed, packed, memory_order_release);
    atomic_store_explicit(&writer->commits, atomic_load_explicit(&writer->commits, memory_order_relaxed) + 1,
                          memory_order_release);
}

/* Cells that are not in the file yet go there; then the state is published. */
static CELLAR_APART int commit(struct cellar_writer *writer, uint64_t packed)
{
    struct cellar_state state = cellar_state_unpack(packed);
    int error = 0;

    if (writer->reservations != NULL) {
        error = pour_reservations(writer);
        if (error != 0)
            return error;
        cellar_writer_drop_reservations(writer);
        cellar_cells_fail(&writer->ground->cells, 0);
    }
    error = cellar_cells_commit(&writer->ground->cells, offset_of(writer, state.next_index));
    if (error == 0 && writer->words)
        cellar_header_commit_word(&writer->ground->header, state.next_index, state.root_index);
    else if (error == 0)
        error = cellar_header_publish(&writer->ground->header, &state, &writer->key);
    if (error != 0)
        return cellar_writer_poison(writer, error);
    note_commit(writer, packed);
    return 0;
}

int cellar_writer_commit(struct cellar_writer *writer)
{
    uint64_t packed = (uint64_t)writer->root_index << 32 | writer->alloc.next_index;

    if (!is_fine(writer)) {
        int error = cellar_writer_check(writer);

        if (error != 0)
            return error;
    }
    if (packed == atomic_load_explicit(&writer->committed, memory_order_relaxed))
        return 0; /* cells that could be pending would have moved next */
    if (!writer->words ||
        !cellar_cells_commit_small(&writer->ground->cells, offset_of(writer, writer->alloc.next_index)))
        return commit(writer, packed);
    cellar_header_commit_word(&writer->ground->header, writer->alloc.next_index, writer->root_index);
    note_commit(writer, packed);
    return 0;
}

int cellar_writer_rollback(struct cellar_writer *writer)
{
    struct cellar_state state = committed_state(writer);
    int error = cellar_writer_check(writer);

    if (error != 0)
        return error;
    cellar_writer_drop_reservations(writer);
    cellar_cells_discard(&writer->ground->cells);
    cellar_cells_fail(&writer->ground->cells, 0);
    writer->alloc.next_index = state.next_index;
    writer->root_index = state.root_index;
    return 0;
}

/* ---- flushing ---- */

/* The order that durability stands on: the cells, and of the flush before what is pending of its slots; then the slots
 * that name them. */
static int persist(struct cellar_writer *writer, const struct cellar_state *state)
{
    struct cellar_header *header = &writer->ground->header;
    int error = 0;

    if (state->next_index > writer->synced_next || header->disk_pending)
        error = cellar_header_barrier(header, offset_of(writer, state->next_index));
    return error == 0 ? cellar_header_persist(header, state) : error;
}

/* Under flush_lock. */
static int make_durable(struct cellar_writer *writer, const struct cellar_state *state)
{
    struct cellar_header *header = &writer->ground->header;
    uint32_t bytes_per_cell = writer->config.bytes_per_cell;
    int error = cellar_header_begin_sync(header), done = CELLAR_NONE;

    if (error == 0 && writer->words) /* what is flushed is in the slots, too, and the original finds it */
        error = cellar_header_publish(header, state, &writer->key);
    if (error == 0 && cellar_header_takes_record(header, bytes_per_cell, writer->synced_next, state->next_index))
        done = cellar_header_persist_checked(header, bytes_per_cell, writer->synced_next, state);
    if (error == 0)
        error = done == CELLAR_NONE ? persist(writer, state) : done;
    if (error == 0)
        error = cellar_header_confirm(header, state->next_index);
    if (error == 0)
        error = cellar_header_end_sync(header);
    if (error != 0)
        return error;
    writer->synced_next = state->next_index;
    atomic_store_explicit(&writer->flushed_next, state->next_index, memory_order_relaxed);
    cellar_writer_sums_extend(writer, state->next_index);
    return 0;
}

int cellar_writer_flush_committed(struct cellar_writer *writer)
{
    uint64_t wanted = atomic_load_explicit(&writer->commits, memory_order_acquire);
    int error = cellar_writer_check(writer);

    if (error != 0)
        return error;
    pthread_mutex_lock(&writer->flush_lock);
    error = cellar_writer_check(writer);
    /* Whoever held the lock meanwhile may have made our commit durable with its own. */
    if (error == 0 && writer->flushed_commits < wanted) {
        uint64_t commits = atomic_load_explicit(&writer->commits, memory_order_acquire);
        struct cellar_state state = committed_state(writer);

        error = cellar_writer_poison(writer, make_durable(writer, &state));
        if (error == 0) {
            writer->flushed_commits = commits;
            cellar_ahead_note_flush(&writer->ahead, state.next_index);
        }
    }
    pthread_mutex_unlock(&writer->flush_lock);
    return error;
}

int cellar_writer_flush(struct cellar_writer *writer)
{
    int error = cellar_writer_commit(writer);

    return error == 0 ? cellar_writer_flush_committed(writer) : error;
}

/* ---- the rest ---- */

CELLAR_COLD int cellar_writer_override_version(struct cellar_writer *writer, uint32_t version)
{
    unsigned char bytes[4];
    int error = cellar_writer_check(writer);

    if (error != 0)
        return error;
    cellar_store_le32(bytes, version);
    pthread_mutex_lock(&writer->flush_lock);
    error = cellar_header_store(&writer->ground->header, CELLAR_AT_VERSION, bytes, sizeof bytes);
    if (error == 0)
        error = cellar_header_settle(&writer->ground->header);
    pthread_mutex_unlock(&writer->flush_lock);
    if (error != 0)
        return cellar_writer_poison(writer, error);
    writer->config.version = version;
    return 0;
}

/* Space beyond the last cell goes back to the system. Not in compat mode: the original may have it mapped. */
static CELLAR_COLD int give_space_back(struct cellar_writer *writer)
{
    uint64_t used_bytes = offset_of(writer, writer->alloc.next_index);

    if (!writer->ground->owned || writer->compat || writer->alloc.file_bytes <= used_bytes)
        return 0;
    return cellar_device_trim(writer->ground->device, used_bytes);
}

/* The slots alone say what is durable from here on, as in a file of the original's. */
static CELLAR_COLD int settle(struct cellar_writer *writer)
{
    int error;

    pthread_mutex_lock(&writer->flush_lock);
    error = cellar_header_end_records(&writer->ground->header);
    if (error == 0 && writer->words)
        error = cellar_header_switch_words(&writer->ground->header, false);
    pthread_mutex_unlock(&writer->flush_lock);
    return error;
}

CELLAR_COLD int cellar_writer_close(struct cellar_writer *writer)
{
    bool forked;
    int error, close_error;

    if (writer == NULL)
        return 0;
    forked = cellar_forked(writer->fork_page);
    cellar_writer_ahead_end(writer, forked);
    error = forked ? 0 : cellar_writer_flush(writer);
    if (error == 0 && !forked)
        error = settle(writer);
    if (error == 0 && !forked)
        error = give_space_back(writer);
    cellar_writer_sums_close(writer, error == 0 && !forked, forked);
    close_error = cellar_ground_close(writer->ground, forked);
    cellar_writer_free(writer);
    return error != 0 || forked ? error : close_error;
}

CELLAR_COLD void cellar_writer_abandon(struct cellar_writer *writer)
{
    if (writer == NULL)
        return;
    cellar_writer_ahead_end(writer, cellar_forked(writer->fork_page));
    cellar_writer_sums_close(writer, false, cellar_forked(writer->fork_page));
    cellar_ground_close(writer->ground, cellar_forked(writer->fork_page));
    cellar_writer_free(writer);
}

CELLAR_COLD void cellar_writer_recovery(const struct cellar_writer *writer, struct cellar_recovery *ret_recovery)
{
    *ret_recovery = writer->recovery;
}

CELLAR_COLD void cellar_writer_key(const struct cellar_writer *writer, struct cellar_key *ret_key)
{
    *ret_key = writer->key;
}

uint32_t cellar_writer_next(const struct cellar_writer *writer)
{
    return writer->alloc.next_index;
}

uint32_t cellar_writer_root(const struct cellar_writer *writer)
{
    return writer->root_index;
}

CELLAR_COLD void cellar_writer_info(const struct cellar_writer *writer, struct cellar_info *ret_info)
{
    *ret_info = (struct cellar_info){
        .mode = CELLAR_MODE_WRITER,
        .data_path = writer->ground->window != NULL ? CELLAR_PATH_WINDOW : CELLAR_PATH_PAGES,
        .device_name = cellar_device_name(writer->ground->device),
        .path = writer->path,
        .config = writer->config,
        .start_index = cellar_start_index(writer->config.bytes_per_cell),
        .next_index = writer->alloc.next_index,
        .root_index = writer->root_index,
        .flushed_next_index = (uint32_t)atomic_load_explicit(&writer->flushed_next, memory_order_relaxed),
        .size_bytes = offset_of(writer, writer->alloc.next_index),
        .file_bytes = writer->alloc.file_bytes,
        .window_bytes = writer->ground->window_bytes,
        .resize_step_cells = writer->alloc.step_cells,
        .has_key = true,
        .compat = writer->compat,
        .publish = writer->words ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS,
        .sums = (enum cellar_sums_state)atomic_load_explicit(&writer->sums_state, memory_order_relaxed),
        .sums_error = atomic_load_explicit(&writer->sums_error, memory_order_relaxed),
        .renewed_blocks = atomic_load_explicit(&writer->sums_renewed, memory_order_relaxed),
    };
}

struct cellar_snapshot cellar_writer_snapshot(struct cellar_writer *writer)
{
    struct cellar_state state = {.next_index = writer->alloc.next_index, .root_index = writer->root_index};
    uint64_t end;

    /* What can't be poured now can't be read: better an error, or no cells, than other bytes. */
    cellar_cells_fail(&writer->ground->cells, pour_reservations(writer));
    if (!cellar_forked(writer->fork_page) && cellar_cells_settle(&writer->ground->cells, &end) != 0) {
        cellar_writer_poison(writer, -EIO);
        state.next_index = (uint32_t)(end / writer->config.bytes_per_cell);
    }
    return cellar_ground_snapshot(writer->ground, writer->config.bytes_per_cell, &state);
}
