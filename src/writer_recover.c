/*
 * writer_recover.c - brings what a file says to the state that a writer goes on with.
 *
 * The decision is cellar_pick_writer's. Each step here leaves at least one whole slot in each pair, also if the next
 * step never happens; a device or a process that dies between any two of them leads the next opening to the same
 * root and next index:
 *   0. Where the committed state is not whole: a record of a checked flush that is newer than the disk-sync state goes,
 *      so that it never comes back. (Where it is whole that would be a state committed before, of no harm; and the
 *      record may be all that the disk has of the last flush, where a failed sync and an eviction took its slots.)
 *   1. What may not be durable though it reads as written is written once more, as it is, and made durable.
 *   2. The binding is voided, unless the committed state is what is adopted: from here on the boot mark says nothing.
 *      Else it is stored for the slot in force: it may be the other's, which step 3 overwrites.
 *   3. The process-sync slot that is not the same bytes as the one in force is made so.
 *   4. The disk-sync slots are raised: to the state in force of their pair, or to that state with the larger next index
 *      where committed cells are skipped. One slot at a time, and the other is durable then; see raise_disk.
 *   5. The marks of the last writer go: SUSPECT (step 2 has taken the state that it warned of out of reach), RETIRED,
 *      SYNCING. The boot mark and the check of the config are stored.
 *   6. The adopted state is published under the new key, and bound; before that as the word, where this writer will
 *      have one. Then the epoch changes, where it must. Where the last writer had a word that is not adopted, and this
 *      one will have none, the binding comes after that.
 * That is no barrier where everything committed is adopted and the disk-sync slots agree, one after a power loss.
 */
#include "base/bytes.h"
#include "device/device.h"
#include "store_internal.h"

#include <string.h>
#include <unistd.h>

/* Dirties the pages of [from, end) of the window, changing no byte. */
static void touch_pages(unsigned char *window, uint64_t from, uint64_t end)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);

    for (uint64_t at = from; at < end; at = at / page_bytes * page_bytes + page_bytes) {
        volatile atomic_uchar *byte = (volatile atomic_uchar *)(window + at);

        /* A store for sure: of an atomic or with 0 a compiler may make a load (clang does). */
        atomic_store_explicit(byte, atomic_load_explicit(byte, memory_order_relaxed), memory_order_relaxed);
    }
}

/* Writes [from, end) of the device as it is. */
static int write_again(struct cellar_device *device, uint64_t from, uint64_t end)
{
    unsigned char bytes[4096];

    while (from < end) {
        size_t step = end - from < sizeof bytes ? (size_t)(end - from) : sizeof bytes;
        struct iovec part = {.iov_base = bytes, .iov_len = step};
        int error = cellar_device_read(device, bytes, step, from);

        if (error == 0)
            error = cellar_device_write(device, &part, 1, from);
        if (error != 0)
            return error;
        from += step;
    }
    return 0;
}

/* Step 1. */
static int rewrite_cells(const struct cellar_writer *writer, const struct cellar_pick *pick)
{
    struct cellar_ground *ground = writer->ground;
    uint64_t from = (uint64_t)pick->rewrite_index * writer->config.bytes_per_cell;
    uint64_t end = (uint64_t)pick->adopted.next_index * writer->config.bytes_per_cell;
    int error = 0;

    if (from >= end)
        return 0;
    if (ground->window != NULL)
        touch_pages(ground->window, from, end);
    else
        error = write_again(ground->device, from, end);
    if (error == 0)
        error = cellar_header_touch(&ground->header); /* step 4 needs no barrier of its own then */
    return error == 0 ? cellar_header_barrier(&ground->header, end) : error;
}

/* Step 2, the other way: a binding to the slot that step 3 overwrites (a writer died between #1 and the binding)
 * becomes one to the slot in force. */
static int rebind(const struct cellar_writer *writer, const struct cellar_evidence *evidence,
                  const struct cellar_pick *pick)
{
    uint64_t keyed = pick->whole ? evidence->slots[(int)CELLAR_PROCESS_1 + pick->process_in_force].keyed : 0;

    if (!pick->whole || keyed == evidence->extension.binding)
        return 0;
    return cellar_header_store_word(&writer->ground->header, CELLAR_AT_BINDING, keyed);
}

/*
 * Step 3. Both slots are the same bytes after it, keyed hash included: step 6 stores #1 first, and until the binding
 * follows it must be that of #2. Two slots of one state under two keys are left by a writer that died in step 6. A pair
 * that is broken altogether is mended by step 6.
 */
static int repair_process(const struct cellar_writer *writer, const unsigned char header[CELLAR_HEADER_BYTES],
                          const struct cellar_pick *pick)
{
    enum cellar_slot_name good = (enum cellar_slot_name)((int)CELLAR_PROCESS_1 + pick->process_in_force);
    enum cellar_slot_name other = (enum cellar_slot_name)((int)CELLAR_PROCESS_2 - pick->process_in_force);

    if (pick->process_in_force < 0 ||
        memcmp(header + cellar_slot_offset(good), header + cellar_slot_offset(other), CELLAR_SLOT_BYTES) == 0)
        return 0;
    return cellar_header_repair(&writer->ground->header, other, header + cellar_slot_offset(good));
}

/* What the disk-sync slots say in the end. */
static const struct cellar_state *disk_target(const struct cellar_pick *pick)
{
    return pick->found == CELLAR_FOUND_COMMITTED ? &pick->disk : &pick->adopted;
}

/* The record that the state may be of makes no difference: see step 4. */
static bool must_wait(const struct cellar_evidence *evidence, const struct cellar_pick *pick,
                      enum cellar_slot_name other, bool stale_in_force)
{
    return evidence->slots[other].valid && ((pick->repair & (1u << other)) != 0 || stale_in_force);
}

/*
 * Step 4. A slot may be stored only while the other is whole on the disk. A writer of Cellar's leaves behind:
 *   - two whole slots: the one in force may be on its way: from a flush where they differ, from an opening that raised
 *     them where they agree. A barrier, unless step 1 had one, or the device says that what is read is on the medium;
 *   - one broken slot: the one in force is durable, or a record that is says the same;
 *   - slots that are both on their way, or broken, and a record: it stays, and is durable before any slot changes. One
 *     that isn't was stored in a flush that did not end: the file says SYNCING, and the slots of the flush before stand
 *     there whole; so step 1 had a barrier. A writer makes no other record of a flush while a slot of the last is torn,
 *     and slots that are broken in the caches came from the disk, as the records beside them did.
 * What is stored last stays pending, which the next barrier ends.
 * These barriers need no SYNCING of their own. A death in one that fails leaves cells that are clean, and not on the
 * disk, only above disk sync's next; where the state is not whole nobody is promised those, and it is not whole for the
 * next opening either. Where it is whole the slots differ because a flush did not end, so the file says SYNCING until
 * step 5.
 */
static int raise_disk(const struct cellar_writer *writer, const unsigned char found[CELLAR_HEADER_BYTES],
                      const struct cellar_evidence *evidence, const struct cellar_pick *pick)
{
    struct cellar_header *header = &writer->ground->header;
    int which = pick->disk_in_force < 0 ? 0 : pick->disk_in_force;
    enum cellar_slot_name in_force = (enum cellar_slot_name)((int)CELLAR_DISK_1 + which);
    enum cellar_slot_name other = (enum cellar_slot_name)((int)CELLAR_DISK_2 - which);
    const struct cellar_state *target = disk_target(pick);
    uint64_t end_bytes = (uint64_t)pick->disk.next_index * writer->config.bytes_per_cell;
    unsigned char slot[CELLAR_SLOT_BYTES];
    bool stale_other, stale_in_force;
    int error = 0;

    cellar_slot_encode(target, NULL, slot);
    stale_in_force = memcmp(slot, found + cellar_slot_offset(in_force), sizeof slot) != 0;
    stale_other = memcmp(slot, found + cellar_slot_offset(other), sizeof slot) != 0;
    if (!stale_in_force && !stale_other)
        return 0;
    if (!pick->fresh && header->disk_pending && must_wait(evidence, pick, other, stale_in_force)) {
        error = cellar_header_touch(header); /* its page may be clean, and not on the disk: a sync that failed */
        if (error == 0)
            error = cellar_header_barrier(header, end_bytes);
    }
    if (error == 0 && stale_other)
        error = cellar_header_repair(header, other, slot);
    if (error == 0 && stale_in_force)
        error = cellar_header_barrier(header, end_bytes);
    if (error == 0 && stale_in_force)
        error = cellar_header_repair(header, in_force, slot);
    header->disk_pending = true;
    return error;
}

/* Step 5. */
static int store_marks(struct cellar_writer *writer, const unsigned char header[CELLAR_HEADER_BYTES],
                       const struct cellar_evidence *evidence, const struct cellar_pick *pick)
{
    struct cellar_header *to = &writer->ground->header;
    const uint32_t passing = CELLAR_FLAG_SUSPECT | CELLAR_FLAG_RETIRED | CELLAR_FLAG_SYNCING;
    uint32_t confirmed = to->incarnation != 0 ? pick->confirmed_index : 0; /* of a writer that keeps it */
    unsigned char check[4];
    int error = 0;

    if (evidence->extension.config_check == 0) {
        cellar_store_le32(check, cellar_config_hash(header));
        error = cellar_header_store(to, CELLAR_AT_CONFIG_CHECK, check, sizeof check);
    }
    if (error == 0 && evidence->extension.confirmed_next != confirmed)
        error = cellar_header_store_word(to, CELLAR_AT_CONFIRMED, confirmed);
    if (error == 0)
        error = cellar_header_change_flags(to, 0, passing);
    if (error == 0 && evidence->extension.boot_mark != to->incarnation)
        error = cellar_header_store_word(to, CELLAR_AT_BOOT_MARK, to->incarnation);
    return error;
}

/* Step 0. */
static int drop_records(struct cellar_header *header, const struct cellar_evidence *evidence,
                        const struct cellar_pick *pick)
{
    int error = 0;

    for (int place = 0; !pick->whole && place < CELLAR_RECORD_COUNT && error == 0; place++) {
        if (evidence->records[place].state.next_index > pick->disk.next_index)
            error = cellar_header_drop_record(header, place);
    }
    return error;
}

/* Step 6. Where the state is whole, and is a word, it is that word which is adopted. */
static int publish_adopted(const struct cellar_writer *writer, const struct cellar_pick *pick)
{
    struct cellar_header *to = &writer->ground->header;
    const struct cellar_state *adopted = &pick->adopted;
    bool binds_last = to->words && !writer->words && !pick->whole;
    int error;

    if (writer->words)
        cellar_header_commit_word(to, adopted->next_index, adopted->root_index);
    error = binds_last ? cellar_header_publish_unbound(to, adopted, &writer->key)
                       : cellar_header_publish(to, adopted, &writer->key);
    if (error == 0)
        error = cellar_header_switch_words(to, writer->words);
    return error == 0 && binds_last ? cellar_header_publish(to, adopted, &writer->key) : error;
}

int cellar_writer_recover(struct cellar_writer *writer, const unsigned char header[CELLAR_HEADER_BYTES],
                          const struct cellar_evidence *evidence, const struct cellar_pick *pick)
{
    struct cellar_header *to = &writer->ground->header;
    int error;

    cellar_header_start_marks(to, evidence->incarnation, evidence->extension.flags);
    cellar_header_start_words(to, evidence->extension.epoch);
    cellar_header_start_records(to, !writer->two_barriers, disk_target(pick));
    error = drop_records(to, evidence, pick);
    if (error == 0)
        error = rewrite_cells(writer, pick);
    if (error == 0 && !pick->whole && evidence->extension.binding != 0)
        error = cellar_header_store_word(to, CELLAR_AT_BINDING, 0);
    if (error == 0)
        error = rebind(writer, evidence, pick);
    if (error == 0)
        error = repair_process(writer, header, pick);
    if (error == 0)
        error = raise_disk(writer, header, evidence, pick);
    to->slots_true = error == 0;
    if (error == 0)
        error = store_marks(writer, header, evidence, pick);
    return error == 0 ? publish_adopted(writer, pick) : error;
}

void cellar_writer_report(struct cellar_writer *writer, const struct cellar_pick *pick)
{
    bool committed = pick->found == CELLAR_FOUND_COMMITTED;

    writer->recovery = (struct cellar_recovery){
        .found = pick->found,
        .disk_next_index = pick->disk.next_index,
        .disk_root_index = pick->disk.root_index,
        .process_next_index = pick->process.next_index,
        .process_root_index = pick->process.root_index,
        .skipped_cells = committed ? 0 : pick->adopted.next_index - pick->disk.next_index,
        .root_dropped = pick->found == CELLAR_FOUND_UNFLUSHED && pick->process.root_index != pick->disk.root_index,
        .next_index = pick->adopted.next_index,
        .root_index = pick->adopted.root_index,
        .repaired_slots = pick->repair,
        .suspect = pick->suspect,
        .rewritten_cells = pick->adopted.next_index - pick->rewrite_index,
    };
}
