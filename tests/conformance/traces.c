/* traces.c - replays the traces of the originals' cache and pipeline on every device, through every kind of cache, and
 * judges the answers. */
#include "traces.h"

#include <cellar/device.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The whole table. A difference applies by its condition (see judge), never by the name of a trace. */
static const struct {
    const char *id, *original, *cellar;
} differences[TRACE_DIFFERENCES] = {
    [TRACE_FAULT_ADDRESS] = {"fault-address",
                             "says out of bounds with the start of the access, or with a page or byte behind its fault",
                             "says it with the first byte of the access that isn't there"},
    [TRACE_EMPTY_ITER] = {"empty-iter", "finds iterating over no bytes out of bounds, outside the device",
                          "is done with it, as with every other access to no bytes"},
    [TRACE_SET_OUTSIDE] = {"set-outside", "takes a write past the end of the device, and fails at commit",
                           "refuses it at set; the trace is compared up to there"},
    [TRACE_PERSIST_OUTSIDE] = {"persist-outside", "calls persisting a range far past the end an invalid argument",
                               "is done with it: nothing is pending there"},
};

/*
 * Grounds.
 */

/* The stream of SplitMix64, little endian, as the traces' own generator made it. */
static unsigned char *generate(uint64_t seed, size_t length)
{
    unsigned char *bytes = malloc(length + 8);
    uint64_t state = seed;

    for (size_t at = 0; bytes != NULL && at < length; at += 8) {
        uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);

        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        for (unsigned i = 0; i < 8; i++)
            bytes[at + i] = (unsigned char)(z >> 8 * i);
    }
    return bytes;
}

static int map_bytes(void *user, uint64_t position, size_t length, const void **ret_bytes, size_t *ret_length)
{
    const struct trace_replay *replay = user;
    uint64_t there = position < replay->device_bytes ? replay->device_bytes - position : 0;

    *ret_bytes = replay->bytes + (there > 0 ? position : 0);
    *ret_length = there < length ? (size_t)there : length;
    return 0;
}

static int size_of_bytes(void *user, uint64_t *ret_size_bytes)
{
    const struct trace_replay *replay = user;

    *ret_size_bytes = replay->device_bytes;
    return 0;
}

static int write_bytes(void *user, uint64_t position, const struct iovec *parts, int part_count)
{
    struct trace_replay *replay = user;

    for (int i = 0; i < part_count; i++) {
        if (position > replay->device_bytes || parts[i].iov_len > replay->device_bytes - position)
            return -EIO;
        memcpy(replay->bytes + position, parts[i].iov_base, parts[i].iov_len);
        position += parts[i].iov_len;
    }
    return 0;
}

static const struct cellar_pipeline_functions functions = {
    .map = map_bytes,
    .size = size_of_bytes,
    .write = write_bytes,
};

/* The kinds of cache that it is replayed through on each of them; functions know the first only. */
static const struct kind {
    const char *name;
    struct cellar_cache_options cache;
    unsigned eager_writes;
} kinds[] = {
    {"sieve", {.eviction = CELLAR_EVICT_SIEVE}, 0},
    {"s3fifo", {.eviction = CELLAR_EVICT_S3FIFO}, 0},
    {"clock", {.eviction = CELLAR_EVICT_CLOCK}, 0},
    {"depth 4", {.depth = 4, .read_ahead_pages = 8}, 0},
    {"depth 4 on threads", {.depth = 4, .io = CELLAR_IO_THREADS, .read_ahead_pages = 2}, 2},
};

static int open_on_functions(struct trace_replay *replay, size_t page_bytes, size_t page_count)
{
    return replay->is_pipeline
               ? cellar_pipeline_open_functions(&functions, replay, page_bytes, page_count, &replay->pipeline)
               : cellar_cache_open_map(map_bytes, NULL, replay, page_bytes, page_count, &replay->cache);
}

static int open_on_device(struct trace_replay *replay, const struct kind *kind, size_t page_bytes, size_t page_count)
{
    struct cellar_pipeline_options options = {.cache = kind->cache, .eager_writes = kind->eager_writes};

    options.cache.page_bytes = page_bytes;
    options.cache.page_count = page_count;
    return replay->is_pipeline ? cellar_pipeline_open_with(replay->device, &options, &replay->pipeline)
                               : cellar_cache_open_with(replay->device, &options.cache, &replay->cache);
}

/* Opens the device, unless it is the functions, and the cache or pipeline over it. bytes goes to the replay. */
static int open_ground(struct trace_replay *replay, const struct trace_ground *ground, const struct kind *kind,
                       unsigned char *bytes, size_t page_bytes, size_t page_count)
{
    int error = 0;

    replay->bytes = bytes;
    if (ground->open != NULL)
        error = ground->open(bytes, (size_t)replay->device_bytes, &replay->device);
    if (error == 0)
        error = ground->open != NULL ? open_on_device(replay, kind, page_bytes, page_count)
                                     : open_on_functions(replay, page_bytes, page_count);
    if (error == 0 && replay->is_pipeline)
        replay->cache = cellar_pipeline_cache(replay->pipeline);
    return error;
}

static void close_ground(struct trace_replay *replay)
{
    if (replay->is_pipeline)
        cellar_pipeline_close(replay->pipeline);
    else
        cellar_cache_close(replay->cache);
    cellar_device_close(replay->device);
    free(replay->bytes);
}

/*
 * Judging.
 */

static void mismatch(const struct trace_replay *replay, const char *operation, const char *what, const char *expected,
                     const char *got)
{
    printf("%s:%u %s: %s, expected %s, got %s [%s, %s]\n", replay->file_name, replay->line, operation, what, expected,
           got, replay->ground_name, replay->kind_name);
    replay->totals->mismatches++;
}

static void note(const struct trace_replay *replay, enum trace_difference difference)
{
    replay->differences[difference]++;
    replay->totals->listed_differences++;
}

/* "ok": a value, or the kind of error, as text. Owned by the caller. */
static char *text_of_expected(const json_t *expected)
{
    const char *kind = json_string_value(json_object_get(expected, "exn"));
    const json_t *value = json_object_get(expected, "ok");

    if (kind != NULL)
        return strdup(kind);
    return value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS) : strdup("nothing");
}

static char *text_of_answer(const struct trace_answer *answer)
{
    if (answer->error == CELLAR_EBOUNDS)
        return strdup("Out_of_bounds");
    if (answer->error == -EINVAL)
        return strdup("Invalid_argument");
    if (answer->error != 0)
        return strdup(cellar_strerror(answer->error));
    return json_dumps(answer->value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
}

/* The address in out of bounds: it must be the first that isn't there. The original's may be another one. */
static void judge_address(const struct trace_replay *replay, const json_t *operation, const char *name,
                          const json_t *expected)
{
    uint64_t address = (uint64_t)json_integer_value(json_object_get(operation, "addr"));
    uint64_t first = address > replay->device_bytes ? address : replay->device_bytes;
    uint64_t got = replay->is_pipeline ? cellar_pipeline_fault_address(replay->pipeline)
                                       : cellar_cache_fault_address(replay->cache);
    const json_t *theirs = json_object_get(expected, "addr");
    char expected_text[24], got_text[24];

    if (got != first) {
        snprintf(expected_text, sizeof expected_text, "%llu", (unsigned long long)first);
        snprintf(got_text, sizeof got_text, "%llu", (unsigned long long)got);
        mismatch(replay, name, "address out of bounds", expected_text, got_text);
    } else if (json_is_integer(theirs) && (uint64_t)json_integer_value(theirs) != first) {
        note(replay, TRACE_FAULT_ADDRESS);
    }
}

/* Which difference of the table explains that an answer isn't the expected one. */
static enum trace_difference find_difference(const struct trace_replay *replay, const json_t *operation,
                                             const char *name, const char *expected, const struct trace_answer *answer)
{
    uint64_t address = (uint64_t)json_integer_value(json_object_get(operation, "addr"));
    uint64_t offset = (uint64_t)json_integer_value(json_object_get(operation, "off"));
    const json_t *length = json_object_get(operation, "len");

    if (strcmp(name, "iter") == 0 && json_is_integer(length) && json_integer_value(length) == 0 &&
        address >= replay->device_bytes && answer->error == 0 && strcmp(expected, "Out_of_bounds") == 0)
        return TRACE_EMPTY_ITER;
    if (strncmp(name, "set_", 4) == 0 && answer->error == CELLAR_EBOUNDS && strcmp(expected, "null") == 0 &&
        address + 16 > replay->device_bytes)
        return TRACE_SET_OUTSIDE;
    if (strcmp(name, "persist") == 0 && answer->error == 0 && strcmp(expected, "Invalid_argument") == 0 &&
        offset >= replay->device_bytes)
        return TRACE_PERSIST_OUTSIDE;
    return TRACE_SAME;
}

/* Compares the answer with the trace. False: nothing that follows in this trace can be compared. */
static bool judge(const struct trace_replay *replay, const json_t *operation, const char *name,
                  const struct trace_answer *answer)
{
    const json_t *model = json_object_get(operation, "model");
    const json_t *expected = model != NULL ? model : json_object_get(operation, "out");
    char *expected_text = text_of_expected(expected), *got_text = text_of_answer(answer);
    enum trace_difference difference = TRACE_SAME;

    if (expected_text == NULL || got_text == NULL || strcmp(expected_text, got_text) != 0) {
        difference = find_difference(replay, operation, name, expected_text != NULL ? expected_text : "", answer);
        if (difference != TRACE_SAME)
            note(replay, difference);
        else
            mismatch(replay, name, "answer", expected_text != NULL ? expected_text : "nothing",
                     got_text != NULL ? got_text : "nothing");
    } else if (answer->error == CELLAR_EBOUNDS) {
        judge_address(replay, operation, name, expected);
    }
    free(expected_text);
    free(got_text);
    return difference != TRACE_SET_OUTSIDE;
}

/* What the trace says of the device itself, after persist and commit: the hash of all of it, and a range. */
static void judge_device(const struct trace_replay *replay, const json_t *operation, const char *name)
{
    static const char *const hashes[] = {"dev_model", "mdev", "dev"};
    size_t length = (size_t)replay->device_bytes;
    const json_t *range = json_object_get(operation, "range_model");
    const char *expected = NULL;
    unsigned char *bytes = malloc(length + 1);
    char hash[17] = "unreadable";

    if (range == NULL)
        range = json_object_get(operation, "range");
    for (size_t i = 0; expected == NULL && i < sizeof hashes / sizeof hashes[0]; i++)
        expected = json_string_value(json_object_get(operation, hashes[i]));
    if (bytes != NULL && trace_device_read(replay, 0, bytes, length) == 0)
        trace_hash(bytes, length, hash);
    if (expected != NULL && strcmp(expected, hash) != 0)
        mismatch(replay, name, "hash of the device", expected, hash);
    if (range != NULL && bytes != NULL) {
        uint64_t from = (uint64_t)json_integer_value(json_object_get(operation, "off"));
        uint64_t asked = (uint64_t)json_integer_value(json_object_get(operation, "len"));
        uint64_t there = from < length ? length - from : 0;
        json_t *got = trace_bytes(bytes + (there > 0 ? from : 0), (size_t)(asked < there ? asked : there));

        if (!json_equal(got, range)) {
            char *expected_text = json_dumps(range, JSON_COMPACT), *got_text = json_dumps(got, JSON_COMPACT);

            mismatch(replay, name, "range of the device", expected_text, got_text);
            free(expected_text);
            free(got_text);
        }
        json_decref(got);
    }
    free(bytes);
}

/*
 * Traces.
 */

/* The lines of a trace as an array of objects; NULL and a word on standard error if it isn't one. */
static json_t *read_trace(const char *path)
{
    FILE *stream = fopen(path, "re");
    json_t *lines = json_array();
    char *text = NULL;
    size_t room = 0;
    bool good = stream != NULL;

    while (good && getline(&text, &room, stream) > 0) {
        json_error_t problem;
        json_t *line = json_loads(text, 0, &problem);

        good = json_is_object(line) && json_array_append_new(lines, line) == 0;
        if (!good)
            fprintf(stderr, "conformance: %s:%zu: not a JSON object\n", path, json_array_size(lines) + 1);
    }
    if (stream == NULL)
        fprintf(stderr, "conformance: %s: %s\n", path, strerror(errno));
    free(text);
    if (stream != NULL)
        fclose(stream);
    if (!good || json_array_size(lines) == 0) {
        json_decref(lines);
        return NULL;
    }
    return lines;
}

static void replay_lines(struct trace_replay *replay, const json_t *lines)
{
    bool going_on = true;

    for (size_t i = 1; i < json_array_size(lines); i++) {
        const json_t *operation = json_array_get(lines, i);
        const char *name = json_string_value(json_object_get(operation, "op"));
        struct trace_answer answer;

        if (!going_on) {
            replay->totals->skipped++;
            continue;
        }
        replay->line = (unsigned)i + 1;
        replay->totals->operations++;
        answer = trace_run(replay, operation);
        if (!answer.skip)
            going_on = judge(replay, operation, name != NULL ? name : "?", &answer);
        if (going_on && replay->is_pipeline && answer.error == 0)
            judge_device(replay, operation, name);
        json_decref(answer.value);
    }
}

/* One trace on one ground. 0, or -1 where the header makes no sense or the ground can't be made. */
static int replay_trace(const char *file_name, const json_t *lines, const struct trace_ground *ground,
                        const struct kind *through, unsigned long *difference_counts, struct conformance_totals *totals)
{
    const json_t *header = json_array_get(lines, 0);
    const char *kind = json_string_value(json_object_get(header, "trace"));
    const char *device_hash = json_string_value(json_object_get(header, "device_fnv"));
    json_int_t length = json_integer_value(json_object_get(header, "device_len"));
    struct trace_replay replay = {.file_name = file_name,
                                  .line = 1,
                                  .ground_name = ground->name,
                                  .kind_name = through->name,
                                  .differences = difference_counts,
                                  .totals = totals};
    char hash[17] = "";
    unsigned char *bytes;
    int error;

    if (kind == NULL || length < 0 || (strcmp(kind, "read") != 0 && strcmp(kind, "wr") != 0)) {
        fprintf(stderr, "conformance: %s: no header of a trace\n", file_name);
        return -1;
    }
    replay.is_pipeline = strcmp(kind, "wr") == 0;
    replay.device_bytes = (uint64_t)length;
    bytes = generate((uint64_t)json_integer_value(json_object_get(header, "seed")), (size_t)length);
    if (bytes != NULL)
        trace_hash(bytes, (size_t)length, hash);
    if (device_hash != NULL && strcmp(device_hash, hash) != 0)
        mismatch(&replay, "header", "hash of the device", device_hash, hash);
    error = bytes == NULL ? -ENOMEM
                          : open_ground(&replay, ground, through, bytes,
                                        (size_t)json_integer_value(json_object_get(header, "pagesize")),
                                        (size_t)json_integer_value(json_object_get(header, "cachesize")));
    if (error == 0)
        replay_lines(&replay, lines);
    else if (error != CELLAR_NONE)
        fprintf(stderr, "conformance: %s on %s, %s: %s\n", file_name, replay.ground_name, replay.kind_name,
                cellar_strerror(error));
    close_ground(&replay);
    return error >= 0 ? 0 : -1;
}

/* One trace on every ground, through every kind of cache. */
static int replay_everywhere(const char *file_name, const json_t *lines, unsigned long *difference_counts,
                             struct conformance_totals *totals)
{
    int result = 0;

    for (const struct trace_ground *ground = trace_grounds; ground->name != NULL; ground++) {
        size_t kind_count = ground->open != NULL ? sizeof kinds / sizeof kinds[0] : 1;

        for (size_t kind = 0; kind < kind_count; kind++) {
            if (replay_trace(file_name, lines, ground, &kinds[kind], difference_counts, totals) != 0)
                result = -1;
        }
    }
    return result;
}

static int is_trace(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return length > 6 && strcmp(entry->d_name + length - 6, ".jsonl") == 0;
}

int conformance_traces(const char *folder, struct conformance_totals *totals)
{
    unsigned long difference_counts[TRACE_DIFFERENCES] = {0};
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_trace, alphasort), result = count > 0 ? 0 : -1;

    if (count <= 0)
        fprintf(stderr, "conformance: %s: %s\n", folder, count < 0 ? strerror(errno) : "no traces (*.jsonl)");
    for (int i = 0; i < count; i++) {
        char path[4096];
        json_t *lines;

        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        lines = read_trace(path);
        if (lines == NULL)
            result = -1;
        else
            totals->files++;
        if (lines != NULL && replay_everywhere(entries[i]->d_name, lines, difference_counts, totals) != 0)
            result = -1;
        json_decref(lines);
        free(entries[i]);
    }
    free(entries);
    trace_grounds_end();
    for (size_t i = TRACE_SAME + 1; i < TRACE_DIFFERENCES; i++) {
        if (difference_counts[i] > 0)
            printf("difference %s, %lu times: the original %s; Cellar %s\n", differences[i].id, difference_counts[i],
                   differences[i].original, differences[i].cellar);
    }
    return result;
}
