/*
 * model_word - every reading of the published word that the C11 memory model allows.
 *
 * As in model.c the stores of real writers (trace.h) are release stores in one order, and an acquire load that finds
 * a store makes all before it visible. Where every load acquires that is the same as loads at moments that never go
 * back: a load at a moment finds the last store before it. So all moments are tried for each load, and looks follow on
 * looks until no new state of a reader comes. The reader here is the order of loads that docs/format.md asks for:
 * followed, the word and the epoch; else epoch, flags, slots, word, epoch.
 *
 * Asserted of every look: what is found was published, and begun before; it is no older than what was found before, nor
 * than what had been published when the look began; its cells were stored before the moment of its last load. From
 * every state the reader also looks when all has been stored, and finds the last state.
 *
 * The same program finds what is wrong with loads that don't acquire, with an epoch that is read after the slots, and
 * with one that is never looked at.
 */
#include "support.h"
#include "trace.h"

#include <stdlib.h>
#include <string.h>

enum {
    EPOCH = CELLAR_AT_EPOCH / 8,
    FLAGS = CELLAR_AT_FLAGS / 8,
    PUBLISHED = CELLAR_AT_WORD / 8,
    SLOT_WORDS = CELLAR_SLOT_BYTES / 8,
    NODES_MAX = 1 << 14,
    MARKS = 1 << 20,
};

/* What a look does next; SLOTS and the 7 after it are the words of the process-sync slots. */
enum { FOLLOW, FOLLOW_EPOCH, BEGIN, BEGIN_FLAGS, SLOTS, END = SLOTS + 2 * SLOT_WORDS, END_EPOCH };

/* What a reader is between two looks. */
struct node {
    int32_t moment;   /* so many stores have happened before what it does next */
    int32_t position; /* of its state, among those published */
    uint64_t word, epoch;
    uint64_t follows;
};

/* A look under way. */
struct look {
    int32_t next, moment;
    uint64_t epoch, word, follows;
    uint64_t slots[2 * SLOT_WORDS];
};

enum reader { READER_OF_THE_FORMAT, READER_RELAXED, READER_EPOCH_LATE, READER_NO_EPOCH };

struct model {
    const struct trace *trace;
    enum reader reader;
    uint64_t (*memory)[TRACE_WORDS]; /* after so many stores */
    struct node nodes[NODES_MAX];
    int node_count;
    struct node from;
    int published; /* the state that was published whole when the look began */
    uint64_t marks[MARKS];
    uint64_t steps;
    const char *wrong; /* the first thing that was */
};

static struct cellar_state state_of(uint64_t word)
{
    return (struct cellar_state){.next_index = (uint32_t)(word >> 32), .root_index = (uint32_t)word};
}

/* ---- judging ---- */

static int find_position(const struct model *model, struct cellar_state state, int at_least)
{
    for (int at = at_least; at < model->trace->state_count[1]; at++) {
        const struct cellar_state *published = &model->trace->states[1][at].state;

        if (published->next_index == state.next_index && published->root_index == state.root_index)
            return at;
    }
    return -1;
}

static int published_at(const struct model *model, int moment)
{
    int at = model->trace->state_count[1] - 1;

    while (model->trace->states[1][at].end >= moment)
        at--;
    return at;
}

static void add_node(struct model *model, const struct node *node)
{
    for (int i = 0; i < model->node_count; i++) {
        if (memcmp(&model->nodes[i], node, sizeof *node) == 0)
            return;
    }
    assert_true(model->node_count < NODES_MAX);
    model->nodes[model->node_count++] = *node;
}

static void finish(struct model *model, const struct look *look, struct cellar_state state)
{
    int least = model->from.position > model->published ? model->from.position : model->published;
    int position = find_position(model, state, least);
    struct node node = {.moment = look->moment,
                        .position = position,
                        .follows = look->follows,
                        .word = look->word,
                        .epoch = look->epoch};

    if (position < 0)
        model->wrong = "an old state, or one that was never published";
    else if (model->trace->states[1][position].begin >= look->moment)
        model->wrong = "a state before it was published";
    for (uint32_t cell = TRACE_START; model->wrong == NULL && cell < state.next_index; cell++) {
        if (model->trace->cell_stored[cell] >= look->moment)
            model->wrong = "a state without its cells";
    }
    if (!look->follows)
        node.word = node.epoch = 0;
    if (model->wrong == NULL)
        add_node(model, &node);
}

/* ---- looking ---- */

static bool was_here(struct model *model, const struct look *look)
{
    uint64_t hash = 14695981039346656037u, at;
    const unsigned char *bytes = (const unsigned char *)look;

    for (size_t i = 0; i < sizeof *look; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    hash = support_random(&hash);
    hash += hash == 0;
    for (at = hash % MARKS; model->marks[at] != 0; at = (at + 1) % MARKS) {
        if (model->marks[at] == hash)
            return true;
    }
    assert_true(++model->steps < MARKS * UINT64_C(1000));
    model->marks[at] = hash;
    return false;
}

/* After the slots, the first of them that holds: where it is not followed the look is at its end. */
static void judge_slots(struct model *model, struct look *look)
{
    bool second = look->next == SLOTS + 2 * SLOT_WORDS;
    const uint64_t *slot = look->slots + (second ? SLOT_WORDS : 0);

    if (!cellar_slot_decode(slot).valid) {
        if (second) { /* both are torn: once more */
            look->next = SLOTS;
            memset(look->slots, 0, sizeof look->slots);
        }
        return;
    }
    if (!second)
        memset(look->slots + SLOT_WORDS, 0, sizeof look->slots / 2);
    look->next = END;
    if (look->follows)
        return;
    finish(model, look, cellar_slot_state(slot));
    look->next = -1;
}

static void judge_end(struct model *model, struct look *look, uint64_t epoch)
{
    const uint64_t *slot = look->slots + (cellar_slot_decode(look->slots).valid ? 0 : SLOT_WORDS);
    struct cellar_state state = state_of(look->word), said = cellar_slot_state(slot);

    if (model->reader != READER_EPOCH_LATE && epoch != look->epoch) {
        *look = (struct look){.next = BEGIN, .moment = look->moment};
        return;
    }
    look->epoch = epoch;
    finish(model, look, state.next_index >= said.next_index ? state : said);
    look->next = -1;
}

/* What a load has found. look->next: what is loaded then; -1: nothing. */
static void take(struct model *model, struct look *look, uint64_t value)
{
    switch (look->next++) {
    case FOLLOW:
        look->word = value;
        break;
    case FOLLOW_EPOCH:
        if (value == model->from.epoch || model->reader == READER_NO_EPOCH) {
            look->epoch = model->from.epoch;
            finish(model, look, state_of(look->word));
            look->next = -1;
        } else {
            *look = (struct look){.next = BEGIN, .moment = look->moment};
        }
        break;
    case BEGIN:
        look->epoch = value;
        break;
    case BEGIN_FLAGS:
        look->follows = (value & CELLAR_FLAG_WORD) != 0;
        break;
    case END:
        look->word = value;
        break;
    case END_EPOCH:
        judge_end(model, look, value);
        break;
    default:
        look->slots[look->next - 1 - SLOTS] = value;
        if (look->next == SLOTS + SLOT_WORDS || look->next == SLOTS + 2 * SLOT_WORDS)
            judge_slots(model, look);
        break;
    }
}

static int word_of(const struct look *look)
{
    static const int words[] = {[FOLLOW] = PUBLISHED, [FOLLOW_EPOCH] = EPOCH, [BEGIN] = EPOCH, [BEGIN_FLAGS] = FLAGS};

    if (look->next < SLOTS)
        return words[look->next];
    if (look->next >= END)
        return look->next == END ? PUBLISHED : EPOCH;
    return (int)cellar_slot_offset(CELLAR_PROCESS_1) / 8 + look->next - SLOTS;
}

static void go_on(struct model *model, const struct look *look)
{
    int word = word_of(look);

    for (int moment = look->moment; moment <= model->trace->store_count && model->wrong == NULL; moment++) {
        struct look after = *look;

        if (moment > look->moment && model->trace->stores[moment - 1].word != word)
            continue; /* the same as at the moment before */
        if (model->reader != READER_RELAXED)
            after.moment = moment;
        take(model, &after, model->memory[moment][word]);
        if (after.next >= 0 && model->wrong == NULL && !was_here(model, &after))
            go_on(model, &after);
    }
}

static void look_from(struct model *model, const struct node *node, int moment)
{
    struct look look = {.next = node->follows ? FOLLOW : BEGIN, .moment = moment, .follows = node->follows};

    model->from = *node;
    model->published = published_at(model, moment);
    memset(model->marks, 0, sizeof model->marks);
    go_on(model, &look);
}

/* A reader looks on its own, and when it is told that all has been stored. */
static void explore(struct model *model)
{
    for (int i = 0; i < model->node_count && model->wrong == NULL; i++) {
        struct node node = model->nodes[i];

        look_from(model, &node, node.moment);
        if (model->wrong == NULL)
            look_from(model, &node, model->trace->store_count);
    }
}

/* What is wrong with reading the trace, or NULL. */
static const char *read_in_every_way(const struct trace *trace, enum reader reader)
{
    struct model *model = calloc(1, sizeof *model);
    const char *wrong;

    assert_non_null(model);
    model->trace = trace;
    model->reader = reader;
    model->memory = calloc((size_t)trace->store_count + 1, sizeof *model->memory);
    assert_non_null(model->memory);
    memcpy(model->memory[0], trace->before, CELLAR_HEADER_BYTES);
    for (int i = 0; i < trace->store_count; i++) {
        memcpy(model->memory[i + 1], model->memory[i], sizeof *model->memory);
        if (trace->stores[i].word >= 0)
            model->memory[i + 1][trace->stores[i].word] = trace->stores[i].value;
    }
    model->node_count = 1; /* nothing seen yet */
    explore(model);
    wrong = model->wrong;
    if (reader != READER_OF_THE_FORMAT || wrong != NULL)
        print_message("%d stores, %d states of a reader, %llu steps%s%s\n", trace->store_count, model->node_count,
                      (unsigned long long)model->steps, wrong != NULL ? ": " : "", wrong != NULL ? wrong : "");
    free(model->memory);
    free(model);
    return wrong;
}

/* ---- the tests ---- */

static struct cellar_key key_of(unsigned char number)
{
    struct cellar_key key = {{number}};

    return key;
}

/* Writers one after the other, each with a script and a key of its own; the first one dies after so many stores, or
 * (negative) at its end. Returns what is wrong. */
static const char *read_writers(const char *const scripts[], int count, int cut, enum reader reader)
{
    struct trace_disk *disk = trace_open(true);
    const char *wrong;

    for (int i = 0; i < count; i++) {
        struct cellar_key key = key_of((unsigned char)(i + 1));

        trace_write(disk, &key, scripts[i]);
        if (i == 0 && cut >= 0)
            trace_cut(disk, cut);
    }
    wrong = read_in_every_way(trace_of(disk), reader);
    trace_close(disk);
    return wrong;
}

static void check(const char *first, const char *second, const char *third)
{
    const char *const scripts[] = {first, second, third};
    int count = third != NULL ? 3 : second != NULL ? 2 : 1;

    assert_null(read_writers(scripts, count, -1, READER_OF_THE_FORMAT));
}

static void check_deaths(const char *first, const char *second)
{
    const char *const scripts[] = {first, second};
    struct trace_disk *disk = trace_open(true);
    struct cellar_key key = key_of(1);
    int store_count;

    trace_write(disk, &key, first);
    store_count = trace_of(disk)->store_count;
    trace_close(disk);
    for (int cut = 0; cut <= store_count; cut++)
        assert_null(read_writers(scripts, 2, cut, READER_OF_THE_FORMAT));
}

static void test_commits(void **state)
{
    (void)state;
    check("wacacac", NULL, NULL);
    check("wacncbcncac", NULL, NULL);
    check("wacafncf", NULL, NULL);
}

static void test_closes(void **state)
{
    (void)state;
    check("wacx", "ac", NULL);
    check("wacx", "wac", "ac");
    check("acx", "wacncx", "acnc");
}

static void test_writers_that_leave_the_word(void **state)
{
    (void)state;
    check("wac", "ac", "wac");
    check("wac", "wacnc", "ac");
}

static void test_deaths(void **state)
{
    (void)state;
    check_deaths("wacx", "ac");
    check_deaths("wac", "wac");
    check_deaths("wafx", "wac");
}

/* ---- what it would notice ---- */

static void test_notices(void **state)
{
    static const char *const scripts[] = {"wacacx", "acac"};

    (void)state;
    assert_null(read_writers(scripts, 2, -1, READER_OF_THE_FORMAT));
    assert_non_null(read_writers(scripts, 2, -1, READER_RELAXED));
    assert_non_null(read_writers(scripts, 2, -1, READER_EPOCH_LATE));
    assert_non_null(read_writers(scripts, 2, -1, READER_NO_EPOCH));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commits),
        cmocka_unit_test(test_closes),
        cmocka_unit_test(test_writers_that_leave_the_word),
        cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_notices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
