/*
 * model - every reading of the lock-free header that the C11 memory model allows.
 *
 * The stores of a real writer (trace.h) are release stores of one thread: into each word they come in their order, and
 * an acquire load that finds a store makes all stores before it visible. So what a reader knows is, for each word, the
 * oldest store that it may still find; a load may find that one or any later one, and finding store s of a word raises
 * what is known of all words to the last store before s. The reader is cellar_header_look itself, over a device whose
 * words are chosen so. All choices of one look are tried, and looks follow on looks until no new state of a reader
 * (what it knows, and what it saw last) comes: any number of looks, at any speed, beside a writer at any speed. A look
 * that comes to a slot in a state in which one came there before is not followed any further.
 *
 * Asserted of every look:
 *  - it ends, and is never CORRUPT;
 *  - the state found was published, and begun before it was found;
 *  - its cells were stored, for the last time, before something that the look has found: plain loads of them race with
 *    nothing;
 *  - it is no older than the one found before, nor than one of which the reader knows that it was published whole;
 *  - its next index does not go back;
 *  - a reader with the writer's key is never told that another writer has come.
 *
 * The same program finds what is wrong with loads that do not acquire, with the two slots written at the same time, and
 * with slots written before the cells: it would notice.
 */
#include "support.h"
#include "trace.h"

#include "cell/header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAIR_WORDS = 8, TAPE_MAX = 4000, NODES_MAX = 1 << 16, BUCKETS = 1 << 17, MARKS = 1 << 22, LOADS_MAX = 32 };

/* What a reader is between two looks. */
struct node {
    int16_t known[PAIR_WORDS]; /* of each word of the pair, the oldest store that it may still find */
    int16_t position;          /* of the state seen last, among those published; -1: none yet */
    struct cellar_seen seen;
    struct cellar_state state;
};

/* The choices of one look, for a search in depth by doing it again. */
struct tape {
    uint16_t choice[TAPE_MAX], options[TAPE_MAX];
    int length, at;
};

struct model {
    const struct trace *trace;
    enum cellar_pair pair;
    const struct cellar_key *key;
    bool acquires;
    /* The stores into each word of the pair, in order; -1 stands for what was there before. */
    int16_t stores[PAIR_WORDS][TRACE_STORES_MAX + 1];
    int store_count[PAIR_WORDS];
    int cells_stored[TRACE_CELLS + 1]; /* the last store into a cell below this index */
    struct cellar_device *device;
    struct node now;  /* the reader in its look */
    struct node from; /* as it began it */
    struct tape tape;
    /* The look: the slots that were loaded, the last of them first, and whether it goes where one has been. */
    uint64_t loaded[4][CELLAR_SLOT_BYTES / 8];
    int slots_loaded, slots_loaded_max;
    bool is_known;
    uint64_t *marks; /* a set of hashes: the states in which looks have come to a slot; 0: free */
    int mark_count;
    uint64_t *random; /* choices are drawn instead of tried one after the other */
    struct node *nodes;
    int32_t *buckets;
    int node_count;
    unsigned long long looks;
    const char *wrong; /* the first thing that was */
};

/* ---- choosing ---- */

static uint16_t choose(struct model *model, int options)
{
    struct tape *tape = &model->tape;

    if (model->random != NULL) /* more often than not the next store, or none: then slots are torn */
        return (uint16_t)(support_random_below(model->random, 2) == 0
                              ? 0
                              : support_random_below(model->random, (uint64_t)options));
    if (tape->at == tape->length) {
        assert_true(tape->length < TAPE_MAX);
        tape->choice[tape->length] = 0;
        tape->options[tape->length++] = (uint16_t)options;
    }
    return tape->choice[tape->at++];
}

/* To the next way of doing it. False: that was the last one. */
static bool turn(struct tape *tape)
{
    tape->at = 0;
    while (tape->length > 0) {
        if (++tape->choice[tape->length - 1] < tape->options[tape->length - 1])
            return true;
        tape->length--;
    }
    return false;
}

/* ---- loads ---- */

static int first_word(const struct model *model)
{
    return (int)cellar_slot_offset((enum cellar_slot_name)model->pair) / 8;
}

/* The last store into the word that is not later than this one. */
static int16_t last_before(const struct model *model, int word, int store)
{
    int i = model->store_count[word] - 1;

    while (model->stores[word][i] > store)
        i--;
    return model->stores[word][i];
}

static uint64_t load_word(struct model *model, int word)
{
    int oldest = 0;
    int16_t found;
    uint64_t value;

    while (model->stores[word][oldest] < model->now.known[word])
        oldest++;
    found = model->stores[word][oldest + choose(model, model->store_count[word] - oldest)];
    model->now.known[word] = found;
    for (int other = 0; model->acquires && other < PAIR_WORDS; other++) {
        int16_t visible = last_before(model, other, found);

        if (model->now.known[other] < visible)
            model->now.known[other] = visible;
    }
    if (found >= 0)
        return model->trace->stores[found].value;
    memcpy(&value, model->trace->before + 8 * (first_word(model) + word), sizeof value);
    return value;
}

static int reader_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = TRACE_BYTES;
    return 0;
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    for (size_t i = 0; i < length_bytes; i++)
        hash = (hash ^ from[i]) * 1099511628211u;
    return support_random(&hash);
}

/*
 * Whether a look was here before: it began the same, knows the same, and has loaded as many slots. What it loaded
 * before decides nothing any more without a key, while it is not so often that a pair counts as broken; with one it
 * does. 64 bits stand for all of it.
 */
static bool was_here(struct model *model, uint64_t offset)
{
    uint64_t hash = hash_bytes(offset + 14695981039346656037u, &model->from, sizeof model->from), at;

    hash = hash_bytes(hash + (uint64_t)model->slots_loaded, model->now.known, sizeof model->now.known);
    if (model->key != NULL)
        hash = hash_bytes(hash, model->loaded, sizeof model->loaded);
    hash += hash == 0;
    for (at = hash % MARKS; model->marks[at] != 0; at = (at + 1) % MARKS) {
        if (model->marks[at] == hash)
            return true;
    }
    assert_true(++model->mark_count < MARKS / 2);
    model->marks[at] = hash;
    return false;
}

/* A slot: four words, from front to back, as header.c loads them from a window. */
static ssize_t reader_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct model *model = state;
    unsigned char *to = buffer;

    model->is_known = model->random == NULL && model->tape.at == model->tape.length && was_here(model, offset);
    if (model->slots_loaded > LOADS_MAX && model->random == NULL)
        return -ETIME;
    if (model->is_known)
        return -ECANCELED;
    for (size_t at = 0; at < length_bytes; at += 8) {
        uint64_t value = load_word(model, (int)((offset + at) / 8) - first_word(model));

        memcpy(to + at, &value, sizeof value);
    }
    memmove(model->loaded[1], model->loaded[0], sizeof model->loaded - sizeof model->loaded[0]);
    memcpy(model->loaded[0], buffer, sizeof model->loaded[0]);
    model->slots_loaded++;
    return (ssize_t)length_bytes;
}

static int reader_close(void *state)
{
    (void)state;
    return 0;
}

static const struct cellar_device_ops reader_ops = {
    .name = "model", .size = reader_size, .read = reader_read, .close = reader_close};

/* ---- judging ---- */

/* The last store that the reader knows of: all before it happened before what it does next. */
static int known_to(const struct model *model)
{
    int to = -1;

    for (int word = 0; word < PAIR_WORDS; word++)
        to = model->now.known[word] > to ? model->now.known[word] : to;
    return to;
}

static bool same(const struct cellar_state *a, const struct cellar_state *b)
{
    return a->next_index == b->next_index && a->root_index == b->root_index;
}

/* The first place that the state has, from at_least on, among those published; -1: none. */
static int find_position(const struct model *model, const struct cellar_state *state, int at_least)
{
    int pair = model->pair == CELLAR_PAIR_PROCESS;

    for (int at = at_least < 0 ? 0 : at_least; at < model->trace->state_count[pair]; at++) {
        if (same(&model->trace->states[pair][at].state, state))
            return at;
    }
    return -1;
}

/* The last state that is published whole, as far as one knows who knows all stores up to this one. */
static int published_at(const struct model *model, int store)
{
    int pair = model->pair == CELLAR_PAIR_PROCESS, at = model->trace->state_count[pair] - 1;

    while (model->trace->states[pair][at].end > store)
        at--;
    return at;
}

static const char *judge(struct model *model, int published, int result, enum cellar_key_verdict verdict)
{
    const struct node *before = &model->from;
    int pair = model->pair == CELLAR_PAIR_PROCESS;
    int at_least = before->position > published ? before->position : published, position;

    if (result == -ETIME)
        return "a look goes on and on";
    if (result < 0)
        return "a look failed";
    if (result != 0 && !before->seen.any)
        return "the first look found nothing";
    position = find_position(model, &model->now.state, at_least);
    if (position < 0)
        return "an old state, or one that was never published";
    if (model->trace->states[pair][position].begin > known_to(model))
        return "a state before it was published";
    if (model->acquires && model->cells_stored[model->now.state.next_index] > known_to(model))
        return "a state without its cells";
    if (before->seen.any && model->now.state.next_index < before->state.next_index)
        return "the next index went back";
    if (result == 0 && model->key != NULL && model->random == NULL && verdict != CELLAR_KEY_GOOD)
        return "another writer, where there was none";
    model->now.position = (int16_t)position;
    return NULL;
}

/* ---- looking ---- */

static uint32_t hash_of(const struct node *node)
{
    const unsigned char *bytes = (const unsigned char *)node;
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < sizeof *node; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

/* Nodes are made of zeroed memory, so that they can be compared as bytes. */
static void add_node(struct model *model, const struct node *node)
{
    uint32_t at = hash_of(node) % BUCKETS;

    while (model->buckets[at] >= 0) {
        if (memcmp(&model->nodes[model->buckets[at]], node, sizeof *node) == 0)
            return;
        at = (at + 1) % BUCKETS;
    }
    assert_true(model->node_count < NODES_MAX);
    model->nodes[model->node_count] = *node;
    model->buckets[at] = model->node_count++;
}

/* One look from model->from on, with the choices that the tape says. False: it went where one has been. */
static bool look(struct model *model, const struct cellar_header *header)
{
    enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;
    int published, result;

    memcpy(&model->now, &model->from, sizeof model->now);
    memset(model->loaded, 0, sizeof model->loaded);
    model->slots_loaded = 0;
    published = published_at(model, known_to(model));
    result = cellar_header_look(header, model->pair, model->key, &model->now.seen, &model->now.state, &verdict);
    model->looks++;
    if (model->slots_loaded > model->slots_loaded_max)
        model->slots_loaded_max = model->slots_loaded;
    if (model->is_known)
        return false;
    model->wrong = judge(model, published, result, verdict);
    return model->wrong == NULL;
}

static void explore(struct model *model, const struct cellar_header *header)
{
    for (int i = 0; i < model->node_count && model->wrong == NULL; i++) {
        memcpy(&model->from, &model->nodes[i], sizeof model->from);
        model->tape.length = 0;
        model->tape.at = 0;
        do {
            if (look(model, header))
                add_node(model, &model->now);
        } while (model->wrong == NULL && turn(&model->tape));
    }
}

/* Readers who look until they know the last store, with choices that are drawn. */
static void sample(struct model *model, const struct cellar_header *header, unsigned readers)
{
    for (unsigned i = 0; i < readers && model->wrong == NULL; i++) {
        memcpy(&model->from, &model->nodes[0], sizeof model->from);
        for (int looks = 0; looks < 12 && look(model, header); looks++)
            memcpy(&model->from, &model->now, sizeof model->from);
    }
}

static void prepare(struct model *model)
{
    struct node *first;
    int stored = -1;

    for (int word = 0; word < PAIR_WORDS; word++) {
        model->stores[word][0] = -1;
        model->store_count[word] = 1;
    }
    for (int i = 0; i < model->trace->store_count; i++) {
        int word = model->trace->stores[i].word - first_word(model);

        if (word >= 0 && word < PAIR_WORDS && model->trace->stores[i].word >= 0)
            model->stores[word][model->store_count[word]++] = (int16_t)i;
    }
    for (int index = 0; index <= TRACE_CELLS; index++) {
        model->cells_stored[index] = stored;
        if (index < TRACE_CELLS && model->trace->cell_stored[index] > stored)
            stored = model->trace->cell_stored[index];
    }
    model->nodes = calloc(NODES_MAX, sizeof *model->nodes);
    model->buckets = malloc(BUCKETS * sizeof *model->buckets);
    model->marks = calloc(MARKS, sizeof *model->marks);
    assert_non_null(model->marks);
    assert_non_null(model->nodes);
    assert_non_null(model->buckets);
    memset(model->buckets, 0xff, BUCKETS * sizeof *model->buckets);
    first = calloc(1, sizeof *first);
    assert_non_null(first);
    memset(first->known, 0xff, sizeof first->known);
    first->position = -1;
    add_node(model, first);
    free(first);
}

/* What is wrong with reading the trace, or NULL. readers > 0: so many samples instead of everything. */
static const char *read_in_every_way(struct model *model, unsigned readers)
{
    struct cellar_header header;

    prepare(model);
    assert_done(cellar_device_open(&reader_ops, model, &model->device));
    assert_done(cellar_header_open(&header, model->device, NULL, false));
    if (readers > 0)
        sample(model, &header, readers);
    else
        explore(model, &header);
    print_message("%d stores, %d states of a reader, %llu looks of up to %d loads of a slot%s%s\n",
                  model->trace->store_count, model->node_count, model->looks, model->slots_loaded_max,
                  model->wrong != NULL ? ": " : "", model->wrong != NULL ? model->wrong : "");
    cellar_header_close(&header);
    assert_done(cellar_device_close(model->device));
    free(model->nodes);
    free(model->buckets);
    free(model->marks);
    return model->wrong;
}

static const char *read_all(const struct trace *trace, enum cellar_pair pair, const struct cellar_key *key)
{
    static struct model model;

    model = (struct model){.trace = trace, .pair = pair, .key = key, .acquires = true};
    return read_in_every_way(&model, 0);
}

/* ---- the tests ---- */

static struct cellar_key key_of(unsigned char number)
{
    struct cellar_key key = {{number}};

    return key;
}

/* Scripts of one writer; its own opening comes first. */
static void check_script(const char *script)
{
    struct cellar_key key = key_of(1);
    struct trace_disk *disk = trace_open(true);

    trace_write(disk, &key, script);
    assert_null(read_all(trace_of(disk), CELLAR_PAIR_PROCESS, NULL));
    assert_null(read_all(trace_of(disk), CELLAR_PAIR_DISK, NULL));
    trace_close(disk);
}

static void test_commits(void **state)
{
    (void)state;
    check_script("acacac");
    check_script("aacbcnc");
}

/* The same states come again: A, B, A, B. */
static void test_roots_back_and_forth(void **state)
{
    (void)state;
    check_script("acncacbc");
    check_script("acncbcncbc");
}

static void test_flushes(void **state)
{
    (void)state;
    check_script("afacaf");
    check_script("acfafnf");
}

/* A writer that dies after any store, and the next one, with the same key or another. */
static void check_deaths(const char *script, unsigned char second_key)
{
    struct cellar_key keys[2] = {key_of(1), key_of(second_key)};
    struct trace_disk *disk = trace_open(true);
    int store_count;

    trace_write(disk, &keys[0], script);
    store_count = trace_of(disk)->store_count;
    for (int cut = 0; cut <= store_count; cut++) {
        trace_close(disk);
        disk = trace_open(true);
        trace_write(disk, &keys[0], script);
        trace_cut(disk, cut);
        trace_write(disk, &keys[1], "ac");
        assert_null(read_all(trace_of(disk), CELLAR_PAIR_PROCESS, NULL));
        assert_null(read_all(trace_of(disk), CELLAR_PAIR_DISK, NULL));
    }
    trace_close(disk);
}

static void test_deaths(void **state)
{
    (void)state;
    check_deaths("acac", 1);
    check_deaths("acf", 2);
}

/* With the writer's key: from its opening on there is one writer, and no look says otherwise. */
static void test_key(void **state)
{
    struct cellar_key key = {{0}}; /* that of the empty store */
    struct trace_disk *disk = trace_open(true);

    (void)state;
    trace_write(disk, &key, "acac");
    assert_null(read_all(trace_of(disk), CELLAR_PAIR_PROCESS, &key));
    trace_close(disk);
}

/* Where the key changes a look may go on for long; so these are samples. */
static void test_other_key(void **state)
{
    static struct model model;
    struct cellar_key keys[2] = {key_of(0), key_of(2)};
    struct trace_disk *disk = trace_open(true);
    uint64_t random = 1;

    (void)state;
    trace_write(disk, &keys[0], "acac");
    trace_write(disk, &keys[1], "acac");
    trace_write(disk, &keys[0], "ac");
    model = (struct model){
        .trace = trace_of(disk), .pair = CELLAR_PAIR_PROCESS, .key = &keys[1], .acquires = true, .random = &random};
    assert_null(read_in_every_way(&model, 20000));
    trace_close(disk);
}

/* ---- what it would notice ---- */

/* The stores of a writer that does it wrong: the same ones in another order, that order decides. */
static const char *read_reordered(const char *script, int (*order)(const void *a, const void *b), bool acquires)
{
    static struct model model;
    static struct trace trace;
    struct cellar_key key = key_of(1);
    struct trace_disk *disk = trace_open(true);

    trace_write(disk, &key, script);
    trace = *trace_of(disk);
    trace_close(disk);
    if (order != NULL) {
        const struct trace_state *last = &trace.states[1][trace.state_count[1] - 1];

        qsort(trace.stores + last->begin, (size_t)(last->end - last->begin + 1), sizeof *trace.stores, order);
    }
    model = (struct model){.trace = &trace, .pair = CELLAR_PAIR_PROCESS, .acquires = acquires};
    return read_in_every_way(&model, 0);
}

/* Word by word into both slots of the pair. */
static int in_turn(const void *a, const void *b)
{
    const struct trace_store *one = a, *two = b;
    int one_at = one->word % 4 * 64 + one->word, two_at = two->word % 4 * 64 + two->word;

    return one_at - two_at;
}

static void test_notices_relaxed_loads(void **state)
{
    (void)state;
    assert_non_null(read_reordered("acac", NULL, false));
}

static void test_notices_slots_in_turn(void **state)
{
    (void)state;
    assert_non_null(read_reordered("acac", in_turn, true));
}

static void test_notices_late_cells(void **state)
{
    static struct model model;
    static struct trace trace;
    struct cellar_key key = key_of(1);
    struct trace_disk *disk = trace_open(true);

    (void)state;
    trace_write(disk, &key, "acac");
    trace = *trace_of(disk);
    trace_close(disk);
    trace.cell_stored[TRACE_START + 1] = trace.store_count - 1;
    model = (struct model){.trace = &trace, .pair = CELLAR_PAIR_PROCESS, .acquires = true};
    assert_non_null(read_in_every_way(&model, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commits),
        cmocka_unit_test(test_roots_back_and_forth),
        cmocka_unit_test(test_flushes),
        cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_other_key),
        cmocka_unit_test(test_notices_relaxed_loads),
        cmocka_unit_test(test_notices_slots_in_turn),
        cmocka_unit_test(test_notices_late_cells),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
