/* celldump_sums.c - what the checksums of a store say of its cells. */
#include "celldump.h"
#include "progress.h"

#include <cellar/sums.h>
#include <inttypes.h>

struct sums {
    struct cellar_dump *dump;
    struct cellar_progress progress;
    bool begun;
};

static void tell_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct sums *sums = user;

    if (!sums->begun)
        cellar_progress_begin(&sums->progress, true, total_bytes);
    sums->begun = true;
    cellar_progress_add(&sums->progress, done_bytes - sums->progress.done_bytes, 0);
}

static void add_rot(void *user, const struct cellar_sums_rot *rot)
{
    struct sums *sums = user;

    if (rot->located)
        cellar_dump_add_problem(sums->dump, CELLAR_DUMP_CORRUPT, rot->bit_offset_bytes,
                                "found bit %u flipped, in cell %" PRIu32 ", expected what the checksum is of", rot->bit,
                                rot->bit_index);
    else
        cellar_dump_add_problem(sums->dump, CELLAR_DUMP_CORRUPT, rot->offset_bytes,
                                "found %" PRIu64 " bytes that %s, cells %" PRIu32 "..%" PRIu32
                                ", expected what the checksum is of",
                                rot->length_bytes, rot->unreadable ? "cannot be read" : "are not what was written",
                                rot->first_index, rot->last_index);
}

int cellar_dump_sums(struct cellar_dump *dump, struct cellar_sums_report *ret_report)
{
    struct sums sums = {.dump = dump};
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_sums_options options = {
        .progress = tell_progress, .rotten = add_rot, .user = &sums, .diagnostic = &diagnostic};
    struct cellar_sums_report report;
    int error;

    if (!cellar_dump_has(dump, 0, CELLAR_HEADER_BYTES) || cellar_dump_flushed(dump) == NULL || !dump->cells_known)
        return CELLAR_NONE;
    error = cellar_sums_check(dump->path, &options, &report);
    cellar_progress_clear(&sums.progress);
    if (error == CELLAR_ECORRUPT) /* it is among the problems of the header */
        return CELLAR_NONE;
    if (error != 0) {
        cellar_tool_store_error(dump->path, error, &diagnostic);
        return error;
    }
    if (report.state == CELLAR_SUMS_NONE)
        return CELLAR_NONE;
    if (report.state == CELLAR_SUMS_LOST || report.state == CELLAR_SUMS_STALE)
        cellar_dump_add_problem(dump, CELLAR_DUMP_RECOVERABLE, CELLAR_AT_CHECKSUM_ID,
                                "found checksums that are %s, expected those of this store: %s",
                                report.state == CELLAR_SUMS_LOST ? "lost" : "stale", report.why.message);
    if (report.broken_sectors > 0)
        cellar_dump_add_problem(dump, CELLAR_DUMP_RECOVERABLE, CELLAR_AT_CHECKSUM_ID,
                                "found %" PRIu64 " broken sectors in the checksum file, expected none",
                                report.broken_sectors);
    *ret_report = report;
    return 0;
}
