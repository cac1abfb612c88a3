/*
 * writer_truncate.c - an empty store in place of this one.
 *
 * The new file is built, locked and durable under its hidden name before anything is touched; then the two names are
 * exchanged, and the old file goes if it is the one that this writer has open. What could go wrong:
 *   - the store was moved, or another one was put under its name: nothing is replaced, -ESTALE;
 *   - a crash before the exchange: the old store, and a leftover under the hidden name;
 *   - a crash after it: the new store; readers of the old file that miss the RETIRED mark stay with what they have, and
 *     cellar_reader_check tells them by the name;
 *   - an opener that waits for the old file's lock gets it and finds that the path names another file by now.
 */
#include "device/file.h"
#include "store_internal.h"
#include "sum/sum_name.h"

#include <errno.h>
#include <stdlib.h>

/* Tells the readers of a file that it is no store any more. A mark that fails changes nothing for anybody else. */
static void retire(struct cellar_ground *ground)
{
    (void)!cellar_header_change_flags(&ground->header, CELLAR_FLAG_RETIRED, 0);
    if (ground->header.epoch != 0) /* they may go by the word */
        (void)!cellar_header_end_epoch(&ground->header);
}

/* The empty store, with a sums file of a new identity where this one has one; both hidden. */
static int make_empty(struct cellar_writer *writer, struct cellar_ground *fresh, uint32_t initial_cells,
                      struct cellar_sum_file **ret_sums, uint64_t *ret_file_bytes)
{
    uint32_t identity = writer->sums_identity;
    int error = identity != 0 ? cellar_sum_make_identity(&writer->sums_identity) : 0;

    *ret_sums = NULL;
    if (error == 0)
        error = cellar_ground_create_hidden(fresh, writer, initial_cells, ret_file_bytes);
    if (error == 0 && identity != 0) {
        error = cellar_writer_sums_begin(writer, fresh, ret_sums);
        if (error != 0) {
            cellar_file_discard_hidden(writer->real_path);
            cellar_ground_close(fresh, false);
        }
    }
    if (error != 0)
        writer->sums_identity = identity;
    return error;
}

int cellar_writer_truncate(struct cellar_writer *writer, uint32_t initial_cells)
{
    uint32_t identity = writer->sums_identity;
    struct cellar_sum_file *sums;
    struct cellar_ground *fresh;
    uint64_t file_bytes;
    bool renamed = false;
    int error = cellar_writer_check(writer);

    if (error == 0 && (writer->real_path == NULL || writer->compat))
        error = -ENOTSUP;
    if (error == 0)
        error = cellar_file_is_at(writer->ground->device, writer->real_path);
    if (error == CELLAR_NONE)
        error = -ESTALE;
    if (error == 0)
        error = cellar_ground_new(writer->fork_page, &fresh);
    if (error != 0)
        return error;
    error = make_empty(writer, fresh, initial_cells, &sums, &file_bytes);
    if (error != 0) {
        free(fresh);
        return error;
    }
    error = cellar_file_publish(fresh->device, writer->real_path, writer->ground->device, &renamed);
    if (!renamed) {
        cellar_file_discard_hidden(writer->real_path);
        cellar_ground_close(fresh, false);
        free(fresh);
        cellar_sum_close(sums, false);
        if (sums != NULL)
            cellar_sum_discard(writer->real_path);
        writer->sums_identity = identity;
        return error;
    }
    if (sums != NULL)
        cellar_writer_sums_use(writer, sums);
    cellar_writer_drop_reservations(writer);
    cellar_writer_ahead_end(writer, false);
    retire(writer->ground);
    cellar_ground_close(writer->ground, false);
    free(writer->ground);
    writer->ground = fresh;
    cellar_writer_stand_empty(writer, file_bytes);
    return cellar_writer_poison(writer, error); /* the store is in place, but the folder may not be durable */
}
