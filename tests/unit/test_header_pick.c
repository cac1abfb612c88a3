/*
 * The recovery decision over every combination of four slots, a start and a file length, against the rules of
 * docs/format.md written down once more, one by one. The marks of the extension bytes: test_header_pick_marks.c.
 */
#include "support.h"

#include "cell/header_pick.h"

#include <string.h>

/* What one slot can be: broken, or one of these states. nexts lie round every border there is. */
enum { NEXTS = 6, ROOTS = 3, KINDS = NEXTS * ROOTS + 1 };

struct world {
    uint32_t start;
    uint64_t file_cells;
    struct cellar_slot kinds[KINDS];
};

static void make_kinds(struct world *world)
{
    const uint32_t nexts[NEXTS] = {world->start - 1, world->start,     world->start + 1,
                                   world->start + 2, world->start + 3, UINT32_MAX};
    const uint32_t roots[ROOTS] = {0, world->start, world->start + 1};

    for (int i = 0; i < NEXTS * ROOTS; i++)
        world->kinds[i] = (struct cellar_slot){
            .valid = true, .state = {.next_index = nexts[i / ROOTS], .root_index = roots[i % ROOTS]}};
    /* A broken slot says things, too; they must not count. */
    world->kinds[KINDS - 1] =
        (struct cellar_slot){.valid = false, .state = {.next_index = world->start + 1, .root_index = world->start}};
}

/* What the rules say. at: where a refusal points, 0 where the store opens. */
struct verdict {
    uint64_t at;
    enum cellar_found found;
    struct cellar_state adopted;
    unsigned repair;
};

static bool states_equal(struct cellar_state a, struct cellar_state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

static uint64_t next_field_of(const struct cellar_slot *slots, const struct cellar_slot *slot)
{
    return 32 + 32 * (uint64_t)(slot - slots) + 28;
}

/* Every slot that is not what the slot in force of its pair is gets repaired. */
static unsigned repair_of_pair(const struct cellar_slot *pair, const struct cellar_slot *in_force, unsigned first_bit)
{
    unsigned bits = 0;

    for (unsigned i = 0; i < 2; i++) {
        if (in_force == NULL || !pair[i].valid || !states_equal(pair[i].state, in_force->state))
            bits |= first_bit << i;
    }
    return bits;
}

static struct verdict judge_disk(const struct world *world, const struct cellar_slot *slots,
                                 const struct cellar_slot **ret_disk)
{
    const struct cellar_slot *disk = slots[0].valid ? &slots[0] : slots[1].valid ? &slots[1] : NULL;
    struct verdict verdict = {.at = 0};

    *ret_disk = disk;
    if (disk == NULL) {
        verdict.at = 32; /* both disk-sync slots broken: never a guess */
        return verdict;
    }
    if (disk->state.next_index < world->start || disk->state.next_index > world->file_cells) {
        verdict.at = next_field_of(slots, disk);
        return verdict;
    }
    verdict.found = CELLAR_FOUND_CLEAN;
    verdict.adopted = disk->state;
    verdict.repair = repair_of_pair(slots, disk, 1);
    return verdict;
}

/* Cells that a whole slot counts are not used again, whether it is in force or not. */
static void skip_cells(uint64_t file_cells, const struct cellar_slot *slots, struct verdict *verdict)
{
    for (int i = 2; i < 4; i++) {
        if (slots[i].valid && slots[i].state.next_index <= file_cells &&
            slots[i].state.next_index > verdict->adopted.next_index) {
            verdict->adopted.next_index = slots[i].state.next_index;
            verdict->repair = (verdict->repair & 3) | repair_of_pair(slots + 2, &slots[i], 4); /* from this one */
            if (verdict->found == CELLAR_FOUND_CLEAN)
                verdict->found = CELLAR_FOUND_UNFLUSHED;
        }
    }
}

static struct verdict judge_writer(const struct world *world, const struct cellar_slot *slots)
{
    const struct cellar_slot *disk, *process = slots[2].valid ? &slots[2] : slots[3].valid ? &slots[3] : NULL;
    struct verdict verdict = judge_disk(world, slots, &disk);

    if (verdict.at != 0)
        return verdict;
    verdict.repair |= repair_of_pair(slots + 2, process, 4);
    if (process == NULL) {
        verdict.found = CELLAR_FOUND_PROCESS_BROKEN; /* opens on the disk-sync state */
        return verdict;
    }
    if (process->state.next_index < world->start || process->state.next_index > world->file_cells) {
        verdict.at = next_field_of(slots, process);
        return verdict;
    }
    if (process->state.next_index < disk->state.next_index) {
        verdict.found = CELLAR_FOUND_DISK_NEWER; /* what is durable counts: the disk-sync state */
    } else if (!states_equal(process->state, disk->state)) {
        verdict.found = CELLAR_FOUND_UNFLUSHED; /* next: the larger one, root: the durable one */
        verdict.adopted.next_index = process->state.next_index;
        verdict.adopted.root_index = disk->state.root_index;
    }
    skip_cells(world->file_cells, slots, &verdict);
    return verdict;
}

static void expect_state(struct cellar_state got, struct cellar_state expected)
{
    if (!states_equal(got, expected))
        fail_msg("state %u %u, expected %u %u", got.next_index, got.root_index, expected.next_index,
                 expected.root_index);
}

static void compare(const struct verdict *verdict, int result, const struct cellar_pick *pick,
                    const struct cellar_pick_problem *problem, const struct cellar_slot *slots)
{
    uint64_t slot = (verdict->at - 32) / 32;

    if (result != (verdict->at == 0 ? 0 : CELLAR_ECORRUPT))
        fail_msg("result %d, expected a refusal at %llu (0: none)", result, (unsigned long long)verdict->at);
    if (result != 0) {
        if (problem->file_offset != verdict->at || problem->expected == NULL ||
            problem->broken != (verdict->at == 32) ||
            (!problem->broken && problem->found != slots[slot].state.next_index))
            fail_msg("the problem is said to be at %llu, expected %llu", (unsigned long long)problem->file_offset,
                     (unsigned long long)verdict->at);
        return;
    }
    if (pick->found != verdict->found || pick->repair != verdict->repair)
        fail_msg("found %d repair %u, expected %d %u", (int)pick->found, pick->repair, (int)verdict->found,
                 verdict->repair);
    expect_state(pick->adopted, verdict->adopted);
    expect_state(pick->disk, slots[pick->disk_in_force].state);
    if (!slots[pick->disk_in_force].valid || (pick->disk_in_force == 1 && slots[0].valid))
        fail_msg("disk-sync #%d is said to be in force", pick->disk_in_force + 1);
}

static void check(const struct world *world, const struct cellar_slot *slots)
{
    struct cellar_pick pick = {.disk_in_force = -7};
    struct cellar_pick_problem problem = {.found = 0};
    const struct cellar_slot *disk;
    struct verdict verdict = judge_writer(world, slots);
    struct cellar_evidence evidence = {.start_index = world->start, .file_cells = world->file_cells};
    int result;

    memcpy(evidence.slots, slots, sizeof evidence.slots);
    result = cellar_pick_writer(&evidence, &pick, &problem);

    compare(&verdict, result, &pick, &problem, slots);
    if (result == 0) {
        int in_force = slots[2].valid ? 0 : slots[3].valid ? 1 : -1;

        if (in_force == 0 && slots[3].valid && slots[3].state.next_index == verdict.adopted.next_index &&
            slots[2].state.next_index < slots[3].state.next_index && slots[3].state.next_index > pick.disk.next_index)
            in_force = 1; /* the one whose cells are skipped: the other is mended from it */

        if (pick.process_in_force != in_force)
            fail_msg("process-sync %d is said to be in force, expected %d", pick.process_in_force, in_force);
        expect_state(pick.process, in_force < 0 ? (struct cellar_state){0} : slots[2 + in_force].state);
        /* No order of crashes makes a writer use a cell again that any reader may have seen. */
        if (pick.adopted.next_index < pick.disk.next_index || pick.adopted.next_index < pick.process.next_index)
            fail_msg("next goes back");
    } else if (pick.disk_in_force != -7) {
        fail_msg("a refusal set the result");
    }
    verdict = judge_disk(world, slots, &disk);
    result = cellar_pick_disk(&evidence, &pick, &problem);
    compare(&verdict, result, &pick, &problem, slots);
}

static void check_all_slots(const struct world *world)
{
    struct cellar_slot slots[CELLAR_SLOT_COUNT];

    for (int number = 0; number < KINDS * KINDS * KINDS * KINDS; number++) {
        int rest = number;

        for (int i = 0; i < CELLAR_SLOT_COUNT; i++) {
            slots[i] = world->kinds[rest % KINDS];
            rest /= KINDS;
        }
        check(world, slots);
    }
}

static void test_every_combination(void **state)
{
    static const uint32_t starts[] = {1, 8};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(starts); i++) {
        const uint64_t lengths[] = {0, starts[i], starts[i] + 2, starts[i] + 3, UINT32_MAX, UINT64_C(1) << 32};

        for (size_t j = 0; j < SUPPORT_COUNT(lengths); j++) {
            struct world world = {.start = starts[i], .file_cells = lengths[j]};

            make_kinds(&world);
            check_all_slots(&world);
        }
    }
}

enum {
    CLEAN = CELLAR_FOUND_CLEAN,
    UNFLUSHED = CELLAR_FOUND_UNFLUSHED,
    PROCESS_BROKEN = CELLAR_FOUND_PROCESS_BROKEN,
    DISK_NEWER = CELLAR_FOUND_DISK_NEWER,
};

/* A slot of the table below: whether its hash holds, next, root. */
struct row_slot {
    bool valid;
    uint32_t next, root;
};

/* The states that matter most, by name: a table that people can read. */
static void test_named_states(void **state)
{
    static const struct {
        const char *name;
        struct row_slot slots[4];
        int result;
        int found;
        uint32_t next, root;
        unsigned repair;
    } rows[] = {
        {"new store", {{1, 8, 0}, {1, 8, 0}, {1, 8, 0}, {1, 8, 0}}, 0, CLEAN, 8, 0, 0},
        {"committed, crash", {{1, 8, 0}, {1, 8, 0}, {1, 12, 9}, {1, 12, 9}}, 0, UNFLUSHED, 12, 0, 0},
        {"root back, crash", {{1, 12, 9}, {1, 12, 9}, {1, 12, 0}, {1, 12, 0}}, 0, UNFLUSHED, 12, 9, 0},
        {"in process #1", {{1, 8, 0}, {1, 8, 0}, {0, 13, 11}, {1, 8, 0}}, 0, CLEAN, 8, 0, 4},
        {"between process slots", {{1, 8, 0}, {1, 8, 0}, {1, 12, 9}, {1, 8, 0}}, 0, UNFLUSHED, 12, 0, 8},
        {"in disk #1", {{0, 13, 11}, {1, 8, 0}, {1, 12, 9}, {1, 12, 9}}, 0, UNFLUSHED, 12, 0, 1},
        {"between disk slots", {{1, 12, 9}, {1, 8, 0}, {1, 12, 9}, {1, 12, 9}}, 0, CLEAN, 12, 9, 2},
        {"process pair broken", {{1, 12, 9}, {1, 12, 9}, {0, 13, 11}, {0, 13, 11}}, 0, PROCESS_BROKEN, 12, 9, 12},
        {"disk pair broken", {{0, 13, 11}, {0, 13, 11}, {1, 12, 9}, {1, 12, 9}}, CELLAR_ECORRUPT, 0, 0, 0, 0},
        {"disk newer", {{1, 12, 9}, {1, 12, 9}, {1, 8, 0}, {1, 8, 0}}, 0, DISK_NEWER, 12, 9, 0},
        {"disk newer, process torn", {{1, 12, 9}, {1, 12, 9}, {0, 13, 11}, {1, 8, 0}}, 0, DISK_NEWER, 12, 9, 4},
        {"past the file", {{1, 8, 0}, {1, 8, 0}, {1, 21, 0}, {1, 21, 0}}, CELLAR_ECORRUPT, 0, 0, 0, 0},
        {"in the header", {{1, 7, 0}, {1, 7, 0}, {1, 8, 0}, {1, 8, 0}}, CELLAR_ECORRUPT, 0, 0, 0, 0},
        {"process in the header", {{1, 8, 0}, {1, 8, 0}, {1, 7, 0}, {1, 7, 0}}, CELLAR_ECORRUPT, 0, 0, 0, 0},

    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_evidence evidence = {.start_index = 8, .file_cells = 20};
        struct cellar_pick pick = {.repair = 0};
        int result;

        for (int j = 0; j < CELLAR_SLOT_COUNT; j++)
            evidence.slots[j] = (struct cellar_slot){
                .valid = rows[i].slots[j].valid,
                .state = {.next_index = rows[i].slots[j].next, .root_index = rows[i].slots[j].root}};
        result = cellar_pick_writer(&evidence, &pick, NULL);

        if (result != rows[i].result || (int)pick.found != rows[i].found || pick.adopted.next_index != rows[i].next ||
            pick.adopted.root_index != rows[i].root || pick.repair != rows[i].repair)
            fail_msg("%s: result %d found %d next %u root %u repair %u", rows[i].name, result, (int)pick.found,
                     pick.adopted.next_index, pick.adopted.root_index, pick.repair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_named_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
