#include "scenarios.h"

/* What a writer that died has left: committed, and some of it flushed. */
#define DIED                                                                                                           \
    {OP_CREATE, 0}, {OP_APPEND, 10}, {OP_VALUE, 300}, {OP_ROOT, 0}, {OP_FLUSH, 0}, {OP_APPEND, 20}, {OP_ROOT, 0},      \
        {OP_COMMIT, 0},                                                                                                \
    {                                                                                                                  \
        OP_ABANDON, 0                                                                                                  \
    }
enum { DIED_STEPS = 9 };

const struct scenario scenarios[] = {
    {"create", 0, {{OP_CREATE, 0}, {OP_APPEND, 5}, {OP_CLOSE, 0}}},
    {"make", 0, {{OP_OPEN_OR_CREATE, 0}, {OP_VALUE, 70000}, {OP_CLOSE, 0}}},
    {"append",
     2,
     {{OP_CREATE, 0},
      {OP_APPEND, 10},
      {OP_APPEND_BYTES, 1234},
      {OP_VALUE, 300},
      {OP_VALUE, 0},
      {OP_VALUE_PARTS, 70000},
      {OP_RESERVE, 12},
      {OP_REWRITE, 0},
      {OP_ROOT, 0},
      {OP_SNAPSHOT, 0},
      {OP_COMMIT, 0},
      {OP_APPEND, 300},
      {OP_SNAPSHOT, 0},
      {OP_CLOSE, 0}}},
    {"flush",
     2,
     {{OP_CREATE, 0},
      {OP_APPEND, 10},
      {OP_ROOT, 0},
      {OP_FLUSH, 0},
      {OP_APPEND, 20},
      {OP_ROOT, 0},
      {OP_COMMIT, 0},
      {OP_FLUSH_COMMITTED, 0},
      {OP_VALUE, 5000},
      {OP_FLUSH, 0},
      {OP_APPEND, 3},
      {OP_ROOT_NONE, 0},
      {OP_COMMIT, 0},
      {OP_VERSION, 9},
      {OP_FLUSH, 0},
      {OP_CLOSE, 0}}},
    {"back",
     3,
     {{OP_CREATE, 0},
      {OP_APPEND, 10},
      {OP_FLUSH, 0},
      {OP_VALUE, 3000},
      {OP_ROLLBACK, 0},
      {OP_APPEND, 150},
      {OP_ROOT, 0},
      {OP_COMMIT, 0},
      {OP_RESERVE, 4},
      {OP_ROLLBACK, 0},
      {OP_ABANDON, 0}}},
    {"again", DIED_STEPS, {DIED, {OP_OPEN, 0}, {OP_APPEND, 30}, {OP_ROOT, 0}, {OP_FLUSH, 0}, {OP_CLOSE, 0}}},
    {"repair", DIED_STEPS + 2, {DIED, {OP_BREAK, 0}, {OP_BREAK, 3}, {OP_OPEN, 0}, {OP_APPEND, 3}, {OP_CLOSE, 0}}},
    {"truncate",
     4,
     {{OP_CREATE, 0},
      {OP_APPEND, 10},
      {OP_ROOT, 0},
      {OP_FLUSH, 0},
      {OP_READER, 1},
      {OP_APPEND, 4},
      {OP_TRUNCATE, 0},
      {OP_REFRESH, 0},
      {OP_APPEND, 7},
      {OP_ROOT, 0},
      {OP_READER_CLOSE, 0},
      {OP_CLOSE, 0}}},
    {"read", 6, {{OP_CREATE, 0}, {OP_APPEND, 10},  {OP_VALUE, 9000},     {OP_FLUSH, 0},   {OP_APPEND, 3},
                 {OP_COMMIT, 0}, {OP_READER, 0},   {OP_LOOK, 0},         {OP_FOLLOW, 0},  {OP_REFRESH, 0},
                 {OP_LOOK, 0},   {OP_APPEND, 200}, {OP_COMMIT, 0},       {OP_REFRESH, 0}, {OP_CHECK, 0},
                 {OP_FOLLOW, 1}, {OP_REFRESH, 0},  {OP_READER_CLOSE, 0}, {OP_READER, 1},  {OP_READER_CLOSE, 0},
                 {OP_CLOSE, 0}}},
    {"keys", 3, {{OP_CREATE, 0}, {OP_APPEND, 3}, {OP_CLOSE, 0}, {OP_KEYS, 0}}},
    {"cache", 0, {{OP_CACHE, 0}}},
    {"pipeline", 0, {{OP_PIPELINE, 0}}},
    {"eager",
     2,
     {{OP_CREATE, 0},
      {OP_APPEND, 3},
      {OP_VALUE, 270000},
      {OP_ROLLBACK, 0},
      {OP_VALUE, 270000},
      {OP_ROOT, 0},
      {OP_CLOSE, 0}}},
};

const unsigned scenario_count = sizeof scenarios / sizeof scenarios[0];

const struct way ways[] = {
    {.name = "mapped", .choice = CELLAR_DEVICE_MAPPED, .file = true},
    {.name = "auto", .variant = true, .choice = CELLAR_DEVICE_AUTO, .file = true},
    {.name = "pages", .choice = CELLAR_DEVICE_PAGES, .file = true},
    {.name = "ring", .variant = true, .choice = CELLAR_DEVICE_PAGES, .file = true, .ring = true},
    {.name = "direct", .choice = CELLAR_DEVICE_DIRECT, .file = true},
    {.name = "compat", .variant = true, .choice = CELLAR_DEVICE_AUTO, .file = true, .compat = true},
    {.name = "memory-mapped", .choice = CELLAR_DEVICE_MAPPED, .traits = {.window = true}},
    {.name = "memory-auto", .variant = true, .choice = CELLAR_DEVICE_AUTO, .traits = {.window = true}},
    {.name = "memory-pages", .choice = CELLAR_DEVICE_PAGES},
    {.name = "memory-durable", .variant = true, .choice = CELLAR_DEVICE_PAGES, .traits = {.durable_writes = true}},
    {.name = "block",
     .choice = CELLAR_DEVICE_PAGES,
     .traits = {.block_bytes = 512, .durable_writes = true, .fixed_bytes = 1 << 20}},
    {.name = "block-4096", .variant = true, .choice = CELLAR_DEVICE_AUTO, .traits = {.block_bytes = 4096}},
};

const unsigned way_count = sizeof ways / sizeof ways[0];

static uint32_t below(uint64_t *random, uint32_t limit)
{
    return (uint32_t)(model_random(random) % limit);
}

/* An operation with the likelihood of its place here. */
static struct step random_step(uint64_t *random)
{
    static const enum operation likely[] = {
        OP_APPEND,          OP_APPEND, OP_APPEND, OP_APPEND_BYTES, OP_VALUE,     OP_VALUE,   OP_VALUE_PARTS,
        OP_RESERVE,         OP_ROOT,   OP_ROOT,   OP_ROOT,         OP_ROOT_NONE, OP_COMMIT,  OP_COMMIT,
        OP_FLUSH_COMMITTED, OP_FLUSH,  OP_FLUSH,  OP_ROLLBACK,     OP_SNAPSHOT,  OP_REWRITE, OP_REFRESH,
        OP_REFRESH,         OP_LOOK,   OP_FOLLOW, OP_CHECK,        OP_VERSION,   OP_KEYS,
    };
    struct step step = {.operation = likely[below(random, sizeof likely / sizeof likely[0])]};

    switch (step.operation) {
    case OP_APPEND:
    case OP_RESERVE:
        step.amount = 1 + below(random, below(random, 5) == 0 ? 400 : 30);
        break;
    case OP_APPEND_BYTES:
    case OP_VALUE:
    case OP_VALUE_PARTS:
        step.amount = 1 + below(random, below(random, 6) == 0 ? 80000 : 700);
        break;
    case OP_VERSION:
        step.amount = below(random, 100);
        break;
    case OP_FOLLOW:
        step.amount = below(random, 2);
        break;
    default:
        break;
    }
    return step;
}

void scenario_random(uint64_t seed, const struct way *way, struct scenario *ret_scenario)
{
    uint64_t random = seed;
    unsigned count = 0, generations = 1 + below(&random, 3);

    *ret_scenario = (struct scenario){.name = "random"};
    for (unsigned generation = 0; generation < generations; generation++) {
        unsigned steps = 4 + below(&random, 10);

        ret_scenario->steps[count++] = (struct step){generation > 0           ? OP_OPEN
                                                     : below(&random, 2) == 0 ? OP_CREATE
                                                                              : OP_OPEN_OR_CREATE,
                                                     0};
        if (below(&random, 2) == 0)
            ret_scenario->steps[count++] = (struct step){OP_READER, below(&random, 2)};
        while (steps-- > 0)
            ret_scenario->steps[count++] = random_step(&random);
        if (way->file && below(&random, 4) == 0)
            ret_scenario->steps[count++] = (struct step){OP_TRUNCATE, 0};
        ret_scenario->steps[count++] = (struct step){OP_READER_CLOSE, 0};
        ret_scenario->steps[count++] = (struct step){below(&random, 2) == 0 ? OP_CLOSE : OP_ABANDON, 0};
    }
}
