/*
 * header_pick.c - the recovery decision.
 *
 *   disk-sync state  process-sync pair             a writer opens with            found
 *   broken           any                           CORRUPT                        -
 *   next outside start..file                       CORRUPT                        -
 *   good             broken                        the disk-sync state            PROCESS_BROKEN
 *   good             next outside start..file      CORRUPT                        -
 *   good             next below disk's             the disk-sync state            DISK_NEWER
 *   good             the same state                that state                     CLEAN
 *   good             ahead, or another root        the process-sync state         COMMITTED    where it is whole
 *                                                  next of process, root of disk  UNFLUSHED    elsewhere
 *
 * The disk-sync state is that of the pair, or of a record of a checked flush that holds and has a larger next index
 * (cell/record.h has the rules).
 *
 * The process-sync state is whole where the boot mark is the device's incarnation now, the binding is the keyed hash of
 * a process-sync slot, and the file is not SUSPECT: then the page cache that the last writer stored into is still the
 * one that is read, with every cell that was committed. The sequences that would break this, and why they can't:
 *   - the machine loses power: the incarnation is another one;
 *   - the next writer dies between marking and publishing: it voids the binding first, and binds what it published;
 *   - the original publishes in between: its keyed hashes are of another key, the binding is no slot's;
 *   - a sync fails, and the pages that it was about are evicted and read again as they are on the disk: SUSPECT. The
 *     root falls back to disk sync's, whose cells had been confirmed before its slot was stored. (To write the pages
 *     again and then adopt what was committed would adopt whatever was read again.)
 *   - a writer dies between such a failure and storing SUSPECT: SYNCING stands there, from before the sync. The cells
 *     from the confirmed next index on are written once more, so that they are dirty, and made durable. That helps
 *     where their pages are still cached; if they have been evicted in between, what was read again is adopted. To
 *     fall back here, too, would lose what was committed at every death in a sync, of which hardly one is such a one.
 *     The same where a record is adopted whose cells may come from caches (another mount of the file).
 * A SUSPECT file's cells from the confirmed next index on are written once more for the same reason: the next flush
 * must not take clean pages for durable ones. A confirmed next index counts only where the file is whole, or SUSPECT.
 *
 * A process-sync next below the disk-sync next is left by a power loss that takes the slots and leaves the record of
 * the flush under way, and by no other crash of Cellar's: flush publishes process sync first. The disk-sync state is
 * there with all its cells, whoever made it durable, and the larger next is safe. A next beyond the end of the file
 * can't be left by a crash either: growth is durable before anything in the new cells is published.
 *
 * Where the flag WORD stands the process-sync state is the published word's (cell/word.h), unless the slots count more.
 *
 * In a pair #1 is in force where its hash holds, else #2; they are not compared, because #1 is always written first.
 * The other slot is in need of repair where it is broken or says something else.
 */
#include "cell/header_pick.h"

static const char in_file[] = "a next index from the first usable cell to the end of the file";

static int fail(struct cellar_pick_problem *ret_problem, uint64_t file_offset, uint32_t found)
{
    if (ret_problem != NULL)
        *ret_problem = (struct cellar_pick_problem){.file_offset = file_offset, .found = found, .expected = in_file};
    return CELLAR_ECORRUPT;
}

static int fail_broken(struct cellar_pick_problem *ret_problem)
{
    if (ret_problem != NULL)
        *ret_problem = (struct cellar_pick_problem){
            .file_offset = cellar_slot_offset(CELLAR_DISK_1), .broken = true, .expected = "one whose hash holds"};
    return CELLAR_ECORRUPT;
}

static bool same_state(const struct cellar_state *a, const struct cellar_state *b)
{
    return a->next_index == b->next_index && a->root_index == b->root_index;
}

/* The bits of the slots of a pair that don't say this state. */
static unsigned pair_repair(const struct cellar_slot slots[CELLAR_SLOT_COUNT], enum cellar_slot_name first,
                            const struct cellar_state *state)
{
    unsigned repair = 0;

    for (int name = (int)first; name <= (int)first + 1; name++) {
        if (!slots[name].valid || !same_state(&slots[name].state, state))
            repair |= 1u << name;
    }
    return repair;
}

static bool is_broken(const struct cellar_evidence *evidence, enum cellar_slot_name first)
{
    return cellar_slot_pick(&evidence->slots[first], &evidence->slots[first + 1]) < 0;
}

/*
 * A record in the caches of a live writer may not be durable. A writer that finds one is alone, and waits for a barrier
 * before it goes by it; so all it must know is that its mark is not this one. A reader must not show what may still be
 * lost: for it all caches must be others, and where it can't tell, or where only the mount is another, slots are true.
 * Two broken slots of a pair are left by no process, in whatever order it stores: they come from a disk. So do two of
 * process sync under the mark of now, where a sync failed and the header was read again: its disk-sync slots may be
 * those of the flush before the last, and nothing that was committed stands beside them.
 */
bool cellar_records_count(const struct cellar_evidence *evidence)
{
    uint64_t now = evidence->incarnation, marked = evidence->extension.boot_mark;

    if ((evidence->extension.flags & CELLAR_FLAG_CHECKED) == 0)
        return false;
    if (is_broken(evidence, CELLAR_DISK_1))
        return true;
    if (evidence->reads_only)
        return now != 0 && marked >> 32 != now >> 32;
    return now == 0 || marked != now || is_broken(evidence, CELLAR_PROCESS_1);
}

/* The record whose state is newer than that of a next index, -1: none. */
static int pick_record(const struct cellar_evidence *evidence, uint32_t next_index)
{
    int best = -1;

    if (!cellar_records_count(evidence))
        return -1;
    for (int place = 0; place < CELLAR_RECORD_COUNT; place++) {
        const struct cellar_witness *record = &evidence->records[place];

        if (record->holds && record->state.next_index > next_index) {
            best = place;
            next_index = record->state.next_index;
        }
    }
    return best;
}

int cellar_pick_disk(const struct cellar_evidence *evidence, struct cellar_pick *ret_pick,
                     struct cellar_pick_problem *ret_problem)
{
    const struct cellar_slot *slots = evidence->slots;
    int in_force = cellar_slot_pick(&slots[CELLAR_DISK_1], &slots[CELLAR_DISK_2]);
    struct cellar_pick pick = {.disk_in_force = in_force, .process_in_force = -1};

    if (in_force >= 0) {
        enum cellar_slot_name name = (enum cellar_slot_name)((int)CELLAR_DISK_1 + in_force);

        pick.disk = slots[name].state;
        if (pick.disk.next_index < evidence->start_index || pick.disk.next_index > evidence->file_cells)
            return fail(ret_problem, cellar_slot_offset(name) + CELLAR_SLOT_AT_NEXT, pick.disk.next_index);
    }
    pick.record = pick_record(evidence, pick.disk.next_index);
    if (pick.record >= 0)
        pick.disk = evidence->records[pick.record].state;
    else if (in_force < 0)
        return fail_broken(ret_problem);
    pick.adopted = pick.disk;
    pick.found = CELLAR_FOUND_CLEAN;
    pick.repair = pair_repair(slots, CELLAR_DISK_1, &pick.disk);
    *ret_pick = pick;
    return 0;
}

/* Whether who published last was the one that bound the mark, and not the original, which knows no marks. */
static bool is_bound(const struct cellar_evidence *evidence)
{
    for (int name = CELLAR_PROCESS_1; name <= CELLAR_PROCESS_2; name++) {
        if (evidence->slots[name].valid && evidence->slots[name].keyed == evidence->extension.binding)
            return true;
    }
    return false;
}

/* Whether the process-sync state in force is there with all its cells: the device has lost nothing since it was
 * marked. */
static bool is_whole(const struct cellar_evidence *evidence)
{
    return evidence->incarnation != 0 && evidence->extension.boot_mark == evidence->incarnation && is_bound(evidence);
}

/* Whether the device's caches are others than those that the last writer stored into: what is read is on the medium. */
static bool is_fresh(const struct cellar_evidence *evidence)
{
    uint64_t marked = evidence->extension.boot_mark;

    return marked != 0 && evidence->incarnation != 0 && marked >> 32 != evidence->incarnation >> 32 &&
           is_bound(evidence);
}

/* From where on cells are written once more. */
static void plan_rewrite(const struct cellar_evidence *evidence, struct cellar_pick *pick)
{
    uint32_t flags = evidence->extension.flags, confirmed = evidence->extension.confirmed_next;
    bool cached = pick->whole || (pick->record >= 0 && !pick->fresh); /* what is adopted may be in caches alone */
    bool doubtful = (flags & CELLAR_FLAG_SUSPECT) != 0 || (cached && (flags & CELLAR_FLAG_SYNCING) != 0);

    if (confirmed < evidence->start_index)
        confirmed = evidence->start_index;
    if (confirmed > pick->adopted.next_index)
        confirmed = pick->adopted.next_index;
    pick->rewrite_index = doubtful ? confirmed : pick->adopted.next_index;
    pick->confirmed_index = evidence->start_index;
    if (doubtful)
        pick->confirmed_index = pick->adopted.next_index;
    else if (pick->whole)
        pick->confirmed_index = confirmed;
}

/*
 * The state is not whole: cells that any slot counts are never used again, also where the slot in force says less.
 * After a power loss #1 may be the old one and #2 the new one; the file, which is cut to the adopted next index, must
 * not end before what #2 says, which stays on the disk for a while.
 */
static void skip_cells(const struct cellar_evidence *evidence, struct cellar_pick *pick)
{
    for (int name = CELLAR_PROCESS_1; name <= CELLAR_PROCESS_2; name++) {
        const struct cellar_slot *slot = &evidence->slots[name];

        if (slot->valid && slot->state.next_index > pick->adopted.next_index &&
            slot->state.next_index <= evidence->file_cells) {
            pick->adopted.next_index = slot->state.next_index;
            /* The other is mended from this one: an opening that dies there must not leave the smaller index alone. */
            pick->process = slot->state;
            pick->process_in_force = name - CELLAR_PROCESS_1;
            pick->repair &= ~(unsigned)(CELLAR_SLOT_PROCESS_1 | CELLAR_SLOT_PROCESS_2);
            pick->repair |= pair_repair(evidence->slots, CELLAR_PROCESS_1, &pick->process);
            if (pick->found == CELLAR_FOUND_CLEAN)
                pick->found = CELLAR_FOUND_UNFLUSHED;
        }
    }
}

/*
 * The published word in place of the slots' state. Its next index is below start only where it was never stored. After
 * a power loss the flag may be there without the word that was stored before it: an older one, which may lie beyond a
 * file that was cut since.
 */
static int pick_word(const struct cellar_evidence *evidence, struct cellar_pick *pick,
                     struct cellar_pick_problem *ret_problem)
{
    const struct cellar_state *word = &evidence->extension.word;

    if ((evidence->extension.flags & CELLAR_FLAG_WORD) == 0 || word->next_index < evidence->start_index ||
        word->next_index < pick->process.next_index)
        return 0;
    if (word->next_index > evidence->file_cells)
        return is_whole(evidence) ? fail(ret_problem, CELLAR_AT_WORD + 4, word->next_index) : 0;
    pick->process = *word;
    pick->word = true;
    return 0;
}

static int pick_process(const struct cellar_evidence *evidence, struct cellar_pick *pick,
                        struct cellar_pick_problem *ret_problem)
{
    const struct cellar_slot *slots = evidence->slots;
    bool suspect = (evidence->extension.flags & CELLAR_FLAG_SUSPECT) != 0;
    enum cellar_slot_name name;
    int error, in_force = cellar_slot_pick(&slots[CELLAR_PROCESS_1], &slots[CELLAR_PROCESS_2]);

    pick->process_in_force = in_force;
    if (in_force < 0) {
        pick->found = CELLAR_FOUND_PROCESS_BROKEN;
        pick->repair |= CELLAR_SLOT_PROCESS_1 | CELLAR_SLOT_PROCESS_2;
        error = pick_word(evidence, pick, ret_problem);
        if (error == 0 && pick->process.next_index > pick->adopted.next_index)
            pick->adopted.next_index = pick->process.next_index;
        return error;
    }
    name = (enum cellar_slot_name)((int)CELLAR_PROCESS_1 + in_force);
    pick->process = slots[name].state;
    if (pick->process.next_index < evidence->start_index || pick->process.next_index > evidence->file_cells)
        return fail(ret_problem, cellar_slot_offset(name) + CELLAR_SLOT_AT_NEXT, pick->process.next_index);
    pick->repair |= pair_repair(slots, CELLAR_PROCESS_1, &pick->process);
    error = pick_word(evidence, pick, ret_problem);
    if (error != 0)
        return error;
    if (pick->process.next_index < pick->disk.next_index) {
        pick->found = CELLAR_FOUND_DISK_NEWER;
        skip_cells(evidence, pick);
        return 0;
    }
    pick->adopted.next_index = pick->process.next_index;
    pick->whole = is_whole(evidence) && !suspect;
    if (same_state(&pick->process, &pick->disk)) {
        pick->found = CELLAR_FOUND_CLEAN;
    } else if (pick->whole) {
        pick->found = CELLAR_FOUND_COMMITTED;
        pick->adopted.root_index = pick->process.root_index;
    } else {
        pick->found = CELLAR_FOUND_UNFLUSHED;
    }
    if (!pick->whole)
        skip_cells(evidence, pick);
    return 0;
}

int cellar_pick_writer(const struct cellar_evidence *evidence, struct cellar_pick *ret_pick,
                       struct cellar_pick_problem *ret_problem)
{
    struct cellar_pick pick;
    int error = cellar_pick_disk(evidence, &pick, ret_problem);

    if (error == 0)
        error = pick_process(evidence, &pick, ret_problem);
    if (error != 0)
        return error;
    pick.fresh = is_fresh(evidence);
    pick.suspect = (evidence->extension.flags & CELLAR_FLAG_SUSPECT) != 0;
    plan_rewrite(evidence, &pick);
    *ret_pick = pick;
    return 0;
}
