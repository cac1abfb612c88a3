/*
 * header_pick.c - the recovery decision.
 *
 *   disk-sync pair   process-sync pair             a writer opens with            found
 *   broken           any                           CORRUPT                        -
 *   next outside start..file                       CORRUPT                        -
 *   good             broken                        the disk-sync state            PROCESS_BROKEN
 *   good             next outside start..file      CORRUPT                        -
 *   good             next below disk's             the disk-sync state            DISK_NEWER
 *   good             the same state                that state                     CLEAN
 *   good             ahead, or another root        next of process, root of disk  UNFLUSHED
 *
 * A process-sync next below the disk-sync next is left by no crash of Cellar's: flush publishes process sync first. But
 * the disk-sync state was made durable by somebody, with all its cells, and the larger next is safe. A next beyond the
 * end of the file can't be left by a crash either: growth is durable before anything in the new cells is published.
 *
 * In a pair #1 is in force where its hash holds, else #2; they are not compared, because #1 is always written first.
 * The other slot is in need of repair where it is broken or says something else.
 */
#include "cell/header_pick.h"

static int fail(struct cellar_pick_problem *ret_problem, enum cellar_slot_name slot, uint32_t field, uint32_t found,
                const char *expected)
{
    if (ret_problem != NULL)
        *ret_problem = (struct cellar_pick_problem){
            .file_offset = cellar_slot_offset(slot) + field, .found = found, .expected = expected};
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

/* The bit of the slot of a pair that is not in force, where it needs repair. */
static unsigned pair_repair(const struct cellar_slot slots[CELLAR_SLOT_COUNT], enum cellar_slot_name first,
                            int in_force)
{
    enum cellar_slot_name other = (enum cellar_slot_name)((int)first + 1 - in_force);
    const struct cellar_slot *good = &slots[(int)first + in_force];

    if (slots[other].valid && same_state(&slots[other].state, &good->state))
        return 0;
    return 1u << other;
}

int cellar_pick_disk(const struct cellar_slot slots[CELLAR_SLOT_COUNT], uint32_t start_index, uint64_t file_cells,
                     struct cellar_pick *ret_pick, struct cellar_pick_problem *ret_problem)
{
    int in_force = cellar_slot_pick(&slots[CELLAR_DISK_1], &slots[CELLAR_DISK_2]);
    struct cellar_pick pick = {.disk_in_force = in_force, .process_in_force = -1};
    enum cellar_slot_name name;

    if (in_force < 0)
        return fail_broken(ret_problem);
    name = (enum cellar_slot_name)((int)CELLAR_DISK_1 + in_force);
    pick.disk = slots[name].state;
    if (pick.disk.next_index < start_index || pick.disk.next_index > file_cells)
        return fail(ret_problem, name, CELLAR_SLOT_AT_NEXT, pick.disk.next_index,
                    "a next index from the first usable cell to the end of the file");
    pick.adopted = pick.disk;
    pick.found = CELLAR_FOUND_CLEAN;
    pick.repair = pair_repair(slots, CELLAR_DISK_1, in_force);
    *ret_pick = pick;
    return 0;
}

int cellar_pick_writer(const struct cellar_slot slots[CELLAR_SLOT_COUNT], uint32_t start_index, uint64_t file_cells,
                       struct cellar_pick *ret_pick, struct cellar_pick_problem *ret_problem)
{
    struct cellar_pick pick;
    enum cellar_slot_name name;
    int in_force, error = cellar_pick_disk(slots, start_index, file_cells, &pick, ret_problem);

    if (error != 0)
        return error;
    in_force = cellar_slot_pick(&slots[CELLAR_PROCESS_1], &slots[CELLAR_PROCESS_2]);
    pick.process_in_force = in_force;
    if (in_force < 0) {
        pick.found = CELLAR_FOUND_PROCESS_BROKEN;
        pick.repair |= CELLAR_SLOT_PROCESS_1 | CELLAR_SLOT_PROCESS_2;
        *ret_pick = pick;
        return 0;
    }
    name = (enum cellar_slot_name)((int)CELLAR_PROCESS_1 + in_force);
    pick.process = slots[name].state;
    if (pick.process.next_index < start_index || pick.process.next_index > file_cells)
        return fail(ret_problem, name, CELLAR_SLOT_AT_NEXT, pick.process.next_index,
                    "a next index from the first usable cell to the end of the file");
    pick.repair |= pair_repair(slots, CELLAR_PROCESS_1, in_force);
    if (pick.process.next_index < pick.disk.next_index) {
        pick.found = CELLAR_FOUND_DISK_NEWER;
    } else if (!same_state(&pick.process, &pick.disk)) {
        pick.found = CELLAR_FOUND_UNFLUSHED;
        pick.adopted.next_index = pick.process.next_index;
    }
    *ret_pick = pick;
    return 0;
}
