/*
 * record.h - checked flushes: a flush of few cells that waits for the disk once.
 *
 * A flush has to make cells durable before a disk-sync slot names them, which is two barriers. A checked flush stores a
 * record instead, with a hash of the cells, and has one barrier for both; the slots follow after it and become durable
 * with the next one. So slots are true at every moment, and a power loss leaves the state in the slots or in a record.
 *
 * There are two records, and they are written in turn. The sequences that would break it, and why they can't. S(k) is
 * the state of flush k, R(k) its record:
 *   - R(k + 1) is on its way with its cells, and the power fails: R(k + 1) is torn, or its cells are not all there: the
 *     hash doesn't hold, in whatever order and mixture they went. S(k) is in R(k), which is durable and in the other
 *     place, and its cells are, too.
 *   - both slots are on their way at that time, from S(k - 1) or older to S(k), and both are found torn, or one old:
 *     R(k) is there, and of slots and records that hold the largest next index is the newest. It always grows: a flush
 *     that leaves next where the slots have it (also where its cells are not known to be durable) is none of these.
 *   - a record is left over from long ago, its cells still match, and a later state is in the slots: its next index is
 *     smaller or the same, and the slots win. Both slots rot: an old record would take the store back without a word.
 *     So every flush with two barriers leaves both records zero, after #1 is durable, and so does close.
 *   - a writer dies between storing R(k + 1) and its barrier, and the machine stays up: R(k + 1) holds, from memory,
 *     and is not durable. Records count only where the boot mark is not this boot's; where it is, slots are true. Where
 *     the mark is another one but the caches may be the same (another mount of the file), a barrier comes before the
 *     slots are raised to a record's state, and after a sync of unknown outcome its cells are written once more.
 *     A reader can't wait for the disk: for it they don't count there.
 *   - the mark says that the caches are the same, and they are not (a mount id that was given twice, a page that was
 *     evicted after a failed sync): slots that hold are true, only older; and where both are broken a record counts.
 *   - the barrier for R(k + 1) fails, and the header's page is read again as it was on the disk, with R(k) but without
 *     the slots of S(k): the writer stores these once more, with SUSPECT. If it dies before, a reader stands at
 *     S(k - 1) until the next writer has flushed. That one adopts what was committed by then, which is S(k) or later:
 *     it was stored before the barrier that R(k) had. Where the page was written while both process-sync slots were
 *     stored into, and has both torn, it goes by R(k).
 *   - the next writer starts with both slots on their way, from the writer before: they hold S(k), so R(k) must stay
 *     until they are durable. Its first flush has two barriers, where the flag CHECKED stands.
 *   - it adopts something else than R(k + 1) stands for (SUSPECT: the root falls back), and R(k + 1) is found after a
 *     power loss: such an opening zeroes every record with a larger next index than what is in force.
 *   - the original opens the file after a power loss: it finds a slot that is true, or two torn ones, and not the last
 *     flush. Who needs it to find that has two barriers (compat mode, or the writer's option).
 */
#ifndef CELLAR_CELL_RECORD_H
#define CELLAR_CELL_RECORD_H

#include "cell/header_pick.h"
#include "format/format.h"

#include <cellar/device.h>
#include <stdint.h>

/* Whether so many cells, more than none, are few enough for a record. */
static inline bool cellar_record_fits(uint32_t bytes_per_cell, uint32_t from_index, uint32_t next_index)
{
    return from_index < next_index &&
           (uint64_t)(next_index - from_index) * bytes_per_cell <= CELLAR_RECORD_CELLS_BYTES_MAX;
}

/* What record->hash must be, of the cells from_index..next_index - 1. */
uint64_t cellar_record_hash(const struct cellar_record *record, const void *cells, size_t length_bytes);

/* The same of cells that are read; a record that fits. -ENOMEM, errors of the device. */
int cellar_record_hash_read(struct cellar_device *device, uint32_t bytes_per_cell, const struct cellar_record *record,
                            uint64_t *ret_hash);

/*
 * Reads what a decision about the header's state goes by: slots, extension bytes, the device's incarnation and which
 * records hold. file_cells: whole cells of the file. reads_only: for a reader, which has no use for the incarnation but
 * to know whether records count, and does without where it can't be had. Errors of the device.
 */
int cellar_evidence_gather(struct cellar_device *device, const unsigned char header[CELLAR_HEADER_BYTES],
                           uint32_t bytes_per_cell, uint64_t file_cells, bool reads_only,
                           struct cellar_evidence *ret_evidence);

#endif
