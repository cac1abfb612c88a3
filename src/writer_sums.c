/*
 * writer_sums.c - the writer's side of checksums: made with the store, extended by each flush, made anew.
 *
 * Nothing here can harm the store. Where the sums file fails it is let go of, which the writer's info says; the store
 * goes on without. What may be summed, and when, stands on top of sum/sum_file.h.
 */
#include "base/bytes.h"
#include "base/diagnose.h"
#include "store_internal.h"
#include "sum/sum_look.h"
#include "sum/sum_name.h"

#include <cellar/sums.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A rebuild tells of its progress after so many bytes. */
enum { STEP_BYTES = 16 << 20, FILE_MODE = 0600 };

static struct cellar_sum_owner owner_of(const struct cellar_writer *writer)
{
    return (struct cellar_sum_owner){.identity = writer->sums_identity,
                                     .bytes_per_cell = writer->config.bytes_per_cell,
                                     .max_index = writer->config.max_index};
}

static int extend(const struct cellar_ground *ground, struct cellar_sum_file *file, uint64_t to_bytes)
{
    unsigned char header[CELLAR_HEADER_BYTES];
    int error = cellar_device_read(ground->device, header, sizeof header, 0);

    return error == 0 ? cellar_sum_extend(file, ground->device, to_bytes, header) : error;
}

int cellar_writer_sums_begin(const struct cellar_writer *writer, const struct cellar_ground *ground,
                             struct cellar_sum_file **ret_file)
{
    struct cellar_sum_owner owner = owner_of(writer);
    uint32_t start_index = cellar_start_index(writer->config.bytes_per_cell);
    unsigned char header[CELLAR_HEADER_BYTES];
    struct cellar_sum_file *file;
    int error = cellar_device_read(ground->device, header, sizeof header, 0);

    if (error == 0)
        error = cellar_sum_create_fresh(writer->real_path, FILE_MODE, &owner, header, &file);
    if (error != 0)
        return error;
    error = cellar_file_copy_mode(ground->device, file->device);
    if (error == 0)
        error = extend(ground, file, (uint64_t)start_index * writer->config.bytes_per_cell);
    if (error == 0)
        error = cellar_sum_sync(file);
    if (error == 0)
        error = cellar_sum_settle_fresh(writer->real_path);
    if (error != 0) {
        cellar_sum_close(file, false);
        cellar_sum_discard(writer->real_path);
        return error;
    }
    *ret_file = file;
    return 0;
}

void cellar_writer_sums_use(struct cellar_writer *writer, struct cellar_sum_file *file)
{
    cellar_sum_close(writer->sums, false);
    writer->sums = file;
    atomic_store(&writer->sums_state, CELLAR_SUMS_GOOD);
    atomic_store(&writer->sums_error, 0);
    atomic_store(&writer->sums_renewed, 0);
    (void)cellar_sum_publish(writer->real_path); /* until it has its name it is found under the other one */
}

int cellar_writer_sums_open(struct cellar_writer *writer)
{
    struct cellar_sum_look look;
    int error = cellar_sum_look(writer->real_path, writer->ground->device, true, NULL, &look);

    if (error != 0)
        return error;
    if (look.tail_rotten) {
        cellar_sum_close(look.file, false);
        look.file = NULL;
        look.state = CELLAR_SUMS_STALE;
    }
    writer->sums = look.file;
    writer->sums_identity = look.owner.identity;
    writer->recovery.sums = look.state;
    atomic_store(&writer->sums_state, (int)look.state);
    return 0;
}

void cellar_writer_sums_extend(struct cellar_writer *writer, uint32_t next_index)
{
    int error;

    if (writer->sums == NULL)
        return;
    error = extend(writer->ground, writer->sums, (uint64_t)next_index * writer->config.bytes_per_cell);
    atomic_store(&writer->sums_state, error == 0 ? CELLAR_SUMS_GOOD : CELLAR_SUMS_BEHIND);
    atomic_store(&writer->sums_renewed, writer->sums->renewed_blocks);
    if (error != 0) {
        atomic_store(&writer->sums_error, error);
        cellar_sum_close(writer->sums, false);
        writer->sums = NULL;
    }
}

void cellar_writer_sums_close(struct cellar_writer *writer, bool flushed, bool forked)
{
    if (writer->sums != NULL && flushed) { /* the header may have changed since: its version */
        cellar_writer_sums_extend(writer, (uint32_t)atomic_load(&writer->flushed_next));
        if (writer->sums != NULL && cellar_sum_trim(writer->sums) == 0)
            (void)cellar_sum_sync(writer->sums); /* what a power loss takes is summed again */
    }
    cellar_sum_close(writer->sums, forked);
    writer->sums = NULL;
}

/* ---- making them anew ---- */

/* The header says, durably, that the store has sums, and whose. */
static int mark(struct cellar_writer *writer)
{
    struct cellar_header *header = &writer->ground->header;
    unsigned char bytes[4];
    int error;

    cellar_store_le32(bytes, writer->sums_identity);
    pthread_mutex_lock(&writer->flush_lock);
    error = cellar_header_store(header, CELLAR_AT_CHECKSUM_ID, bytes, sizeof bytes);
    if (error == 0)
        error = cellar_header_change_flags(header, CELLAR_FLAG_CHECKSUMS, 0);
    if (error == 0)
        error = cellar_header_settle(header);
    pthread_mutex_unlock(&writer->flush_lock);
    return cellar_writer_poison(writer, error);
}

static int fill(struct cellar_writer *writer, struct cellar_sum_file *file, const struct cellar_sums_options *options)
{
    uint64_t end = (uint64_t)atomic_load(&writer->flushed_next) * writer->config.bytes_per_cell;
    int error = 0;

    while (error == 0 && file->covered_bytes < end) {
        error = extend(writer->ground, file, cellar_sum_min(file->covered_bytes + STEP_BYTES, end));
        if (error == 0 && options->progress != NULL)
            options->progress(options->user, file->covered_bytes, end);
    }
    return error == 0 ? cellar_sum_sync(file) : error;
}

/* Sums of all that is flushed, which was so by this very writer, in a new file that is used from now on. */
static int renew(struct cellar_writer *writer, const struct cellar_sums_options *options)
{
    struct cellar_sum_file *file;
    int error = 0;

    if (writer->sums_identity == 0)
        error = cellar_sum_make_identity(&writer->sums_identity);
    if (error == 0)
        error = cellar_writer_sums_begin(writer, writer->ground, &file);
    if (error != 0)
        return error;
    error = fill(writer, file, options);
    if (error == 0)
        error = mark(writer);
    if (error != 0) {
        cellar_sum_close(file, false);
        cellar_sum_discard(writer->real_path);
        return error;
    }
    cellar_writer_sums_use(writer, file);
    return 0;
}

static int open_and_renew(const char *path, const struct cellar_sums_options *options, bool has_sums)
{
    struct cellar_writer_options writer_options = {.diagnostic = options->diagnostic};
    struct cellar_writer *writer;
    int close_error, error = cellar_writer_open(path, &writer_options, &writer);

    if (error != 0)
        return error;
    if ((writer->recovery.sums != CELLAR_SUMS_NONE) != has_sums)
        error = -ESTALE; /* somebody was faster */
    if (error == 0)
        error = cellar_writer_flush(writer);
    if (error == 0)
        error = renew(writer, options);
    close_error = cellar_writer_close(writer);
    return error != 0 ? error : close_error;
}

static int finish(int error, const char *path, const char *doing, const struct cellar_sums_options *options)
{
    if (error != 0 && options->diagnostic != NULL && options->diagnostic->error == 0)
        cellar_diagnose(options->diagnostic, error, path, CELLAR_OFFSET_NONE, "can't %s: %s", doing,
                        cellar_strerror(error));
    return error;
}

static const struct cellar_sums_options default_options;

int cellar_sums_rebuild(const char *path, const struct cellar_sums_options *options)
{
    const struct cellar_sums_options *wanted = options != NULL ? options : &default_options;
    struct cellar_sums_report report;
    int error = cellar_sums_check(path, wanted, &report);

    if (error != 0)
        return error;
    if (report.state == CELLAR_SUMS_NONE)
        return cellar_diagnose(wanted->diagnostic, -ENOTSUP, path, CELLAR_OFFSET_NONE,
                               "the store was made without checksums");
    if (report.rotten_blocks > 0 && !wanted->force)
        return cellar_diagnose(wanted->diagnostic, CELLAR_ECHECKSUM, path, CELLAR_OFFSET_NONE,
                               "%" PRIu64 " blocks are not what was written: new checksums would take them for good",
                               report.rotten_blocks);
    return finish(open_and_renew(path, wanted, true), path, "rebuild the checksums", wanted);
}

int cellar_sums_add(const char *path, const struct cellar_sums_options *options)
{
    const struct cellar_sums_options *wanted = options != NULL ? options : &default_options;
    struct cellar_sums_report report;
    int error = cellar_sums_check(path, wanted, &report);

    if (error != 0)
        return error;
    if (report.state != CELLAR_SUMS_NONE)
        return cellar_diagnose(wanted->diagnostic, -EEXIST, path, CELLAR_OFFSET_NONE, "the store has checksums");
    return finish(open_and_renew(path, wanted, false), path, "add checksums", wanted);
}
