/*
 * traces_replay.c - the operations of the traces, as calls of Cellar.
 *
 * The original takes native integers, and says Invalid_argument to negative ones when it runs; here the types rule them
 * out. So this file, which stands between, refuses them as -EINVAL and calls nothing. The same holds for the bounds of
 * the buffer that blit_to_bytes copies to: the caller of a C function has to know them.
 */
#include "traces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t length)
{
    void *bytes = malloc(length > 0 ? length : 1);

    if (bytes == NULL) {
        fprintf(stderr, "conformance: out of memory\n");
        exit(2);
    }
    return bytes;
}

void trace_hash(const void *bytes, size_t length, char ret_digits[17])
{
    const unsigned char *from = bytes;
    uint64_t hash = UINT64_C(0xCBF29CE484222325);

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ from[i]) * UINT64_C(0x100000001B3);
    snprintf(ret_digits, 17, "%016llx", (unsigned long long)hash);
}

static json_t *hex(const unsigned char *bytes, size_t length)
{
    char digits[2 * 64 + 1] = "";

    for (size_t i = 0; i < length; i++)
        snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
    return json_string(digits);
}

json_t *trace_bytes(const void *bytes, size_t length)
{
    char digits[17];

    if (length <= 64)
        return json_pack("{s:I, s:o}", "len", (json_int_t)length, "hex", hex(bytes, length));
    trace_hash(bytes, length, digits);
    return json_pack("{s:I, s:s}", "len", (json_int_t)length, "fnv", digits);
}

int trace_device_read(const struct trace_replay *replay, uint64_t address, void *buffer, size_t length)
{
    if (length == 0)
        return 0;
    if (replay->device != NULL)
        return cellar_device_read(replay->device, buffer, length, address);
    memcpy(buffer, replay->bytes + address, length);
    return 0;
}

static json_int_t number(const json_t *operation, const char *name, json_int_t otherwise)
{
    const json_t *value = json_object_get(operation, name);

    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

static uint64_t unsigned_number(const json_t *operation, const char *name)
{
    return (uint64_t)number(operation, name, 0);
}

static struct trace_answer answer(int error, json_t *value)
{
    if (error != 0) {
        json_decref(value);
        value = NULL;
    }
    return (struct trace_answer){.error = error, .value = value};
}

static json_t *slice_value(int error, const struct cellar_slice *slice)
{
    if (error == CELLAR_NONE)
        return json_null();
    return error != 0
               ? NULL
               : json_pack("{s:I, s:I}", "offset", (json_int_t)slice->address, "length", (json_int_t)slice->length);
}

/* CELLAR_NONE is the None of the original: an answer. */
static struct trace_answer slice_answer(int error, const struct cellar_slice *slice)
{
    return answer(error == CELLAR_NONE ? 0 : error, slice_value(error, slice));
}

/*
 * Integers. The traces write those of 64 bits as decimal strings, 128 bits in hexadecimal digits.
 */

static json_t *integer_value(int64_t value, size_t width)
{
    char digits[24];

    if (width < 8)
        return json_integer(value);
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    return json_string(digits);
}

static int64_t integer_of(const json_t *value)
{
    return json_is_string(value) ? strtoll(json_string_value(value), NULL, 10) : json_integer_value(value);
}

#define INTEGERS(X)                                                                                                    \
    X(i8, int8_t, "int8")                                                                                              \
    X(u8, uint8_t, "uint8")                                                                                            \
    X(i16_le, int16_t, "int16_le")                                                                                     \
    X(i16_be, int16_t, "int16_be")                                                                                     \
    X(i16_ne, int16_t, "int16_ne")                                                                                     \
    X(u16_le, uint16_t, "uint16_le")                                                                                   \
    X(u16_be, uint16_t, "uint16_be")                                                                                   \
    X(u16_ne, uint16_t, "uint16_ne")                                                                                   \
    X(i32_le, int32_t, "int32_le")                                                                                     \
    X(i32_be, int32_t, "int32_be")                                                                                     \
    X(i32_ne, int32_t, "int32_ne")                                                                                     \
    X(i64_le, int64_t, "int64_le")                                                                                     \
    X(i64_be, int64_t, "int64_be")                                                                                     \
    X(i64_ne, int64_t, "int64_ne")

#define DEFINE(name, type, text)                                                                                       \
    static struct trace_answer get_##name(const struct trace_replay *replay, uint64_t address)                         \
    {                                                                                                                  \
        type value = 0;                                                                                                \
        int error = replay->is_pipeline ? cellar_pipeline_get_##name(replay->pipeline, address, &value)                \
                                        : cellar_cache_get_##name(replay->cache, address, &value);                     \
        return answer(error, integer_value((int64_t)value, sizeof value));                                             \
    }                                                                                                                  \
    static struct trace_answer set_##name(const struct trace_replay *replay, uint64_t address, const json_t *value)    \
    {                                                                                                                  \
        return answer(cellar_pipeline_set_##name(replay->pipeline, address, (type)integer_of(value)), json_null());    \
    }

INTEGERS(DEFINE)

static struct trace_answer get_128(const struct trace_replay *replay, uint64_t address)
{
    uint8_t bytes[16] = {0};
    int error = replay->is_pipeline ? cellar_pipeline_get_128(replay->pipeline, address, bytes)
                                    : cellar_cache_get_128(replay->cache, address, bytes);

    return answer(error, hex(bytes, sizeof bytes));
}

static struct trace_answer set_128(const struct trace_replay *replay, uint64_t address, const json_t *value)
{
    const char *digits = json_is_string(value) ? json_string_value(value) : "";
    uint8_t bytes[16];
    unsigned byte;

    for (size_t i = 0; i < sizeof bytes; i++) {
        if (strlen(digits) != 32 || sscanf(digits + 2 * i, "%2x", &byte) != 1)
            return answer(-EBADMSG, NULL);
        bytes[i] = (uint8_t)byte;
    }
    return answer(cellar_pipeline_set_128(replay->pipeline, address, bytes), json_null());
}

static const struct integer {
    const char *name;
    struct trace_answer (*get)(const struct trace_replay *replay, uint64_t address);
    struct trace_answer (*set)(const struct trace_replay *replay, uint64_t address, const json_t *value);
} integers[] = {
#define ENTRY(name, type, text) {text, get_##name, set_##name},
    INTEGERS(ENTRY){"int128", get_128, set_128},
};

static const struct integer *find_integer(const char *name)
{
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        if (strcmp(integers[i].name, name) == 0)
            return &integers[i];
    }
    return NULL;
}

/*
 * The cache.
 */

static struct trace_answer run_load(struct trace_replay *replay, const json_t *operation)
{
    struct cellar_slice slice;
    int error = cellar_cache_load(replay->cache, unsigned_number(operation, "addr"),
                                  (size_t)number(operation, "len", 1), &slice);

    return slice_answer(error, &slice);
}

static struct trace_answer run_next(struct trace_replay *replay, const json_t *operation)
{
    struct cellar_slice slice = {.address = unsigned_number(operation, "slice_offset")}, next;
    int error = cellar_cache_next(replay->cache, &slice, &next);

    return slice_answer(error, &next);
}

/* The address is optional in the original, and 0 stands for its absence: then the whole slice is meant. */
static struct trace_answer run_bstr_of_slice(struct trace_replay *replay, const json_t *operation)
{
    uint64_t address = unsigned_number(operation, "addr");
    struct cellar_slice slice, rest;
    int error = cellar_cache_load(replay->cache, unsigned_number(operation, "slice_offset"), 0, &slice);

    if (error == 0)
        error = cellar_slice_rest(&slice, address != 0 ? address : slice.address, &rest);
    return answer(error, error == 0 ? trace_bytes(rest.bytes, rest.length) : NULL);
}

static struct trace_answer run_get_string(struct trace_replay *replay, const json_t *operation)
{
    size_t length = (size_t)unsigned_number(operation, "len");
    void *buffer = allocate(length);
    int error = cellar_cache_read(replay->cache, unsigned_number(operation, "addr"), buffer, length);
    struct trace_answer result = answer(error, error == 0 ? trace_bytes(buffer, length) : NULL);

    free(buffer);
    return result;
}

static struct trace_answer run_blit_to_bytes(struct trace_replay *replay, const json_t *operation)
{
    size_t length = (size_t)unsigned_number(operation, "len");
    size_t to = (size_t)unsigned_number(operation, "dst_off"),
           to_length = (size_t)unsigned_number(operation, "dst_len");
    struct trace_answer result;
    unsigned char *buffer;
    int error;

    if (length > to_length || to > to_length - length)
        return answer(-EINVAL, NULL);
    buffer = allocate(to_length);
    memset(buffer, 0xee, to_length);
    error = cellar_cache_read(replay->cache, unsigned_number(operation, "addr"), buffer + to, length);
    result = answer(error, error == 0 ? trace_bytes(buffer, to_length) : NULL);
    free(buffer);
    return result;
}

static struct trace_answer run_get_seq(struct trace_replay *replay, const json_t *operation)
{
    uint64_t address = unsigned_number(operation, "addr");
    json_t *parts = json_array();
    bool end = false;
    int error = 0;

    while (error == 0 && !end && (json_int_t)json_array_size(parts) < number(operation, "take", 0)) {
        struct cellar_slice slice;

        error = cellar_cache_walk(replay->cache, &address, &slice);
        if (error == 0)
            json_array_append_new(parts, trace_bytes(slice.bytes, slice.length));
        end = error == CELLAR_NONE;
        if (end)
            error = 0;
    }
    return answer(error, json_pack("{s:o, s:b}", "parts", parts, "end", (int)end));
}

/* The bytes that an iteration has delivered so far. */
struct delivery {
    unsigned char *bytes;
    size_t length, room;
};

static int deliver_run(void *user, uint64_t address, const void *bytes, size_t length)
{
    struct delivery *delivery = user;

    (void)address;
    if (length > delivery->room - delivery->length)
        return -EOVERFLOW;
    memcpy(delivery->bytes + delivery->length, bytes, length);
    delivery->length += length;
    return 0;
}

static int deliver_byte(void *user, uint8_t byte)
{
    return deliver_run(user, 0, &byte, 1);
}

/* Out of bounds is only the answer if everything up to the end was delivered, and as the device has it. */
static int check_delivery(struct trace_replay *replay, uint64_t address, const struct delivery *delivery)
{
    size_t there = address < replay->device_bytes ? (size_t)(replay->device_bytes - address) : 0;
    unsigned char *bytes = allocate(there);
    int error = trace_device_read(replay, address, bytes, there);
    bool same = error == 0 && delivery->length == there && memcmp(bytes, delivery->bytes, there) == 0;

    free(bytes);
    return same ? CELLAR_EBOUNDS : -EIO;
}

/* Runs and bytes take turns. */
static struct trace_answer run_iter(struct trace_replay *replay, const json_t *operation)
{
    uint64_t address = unsigned_number(operation, "addr"), length = CELLAR_CACHE_TO_END;
    struct delivery delivery = {.room = (size_t)replay->device_bytes};
    struct trace_answer result;
    int error;

    if (json_object_get(operation, "len") != NULL)
        length = unsigned_number(operation, "len");
    delivery.bytes = allocate(delivery.room);
    if (replay->line % 2 == 0)
        error = cellar_cache_iterate(replay->cache, address, length, deliver_run, &delivery);
    else
        error = cellar_cache_iterate_bytes(replay->cache, address, length, deliver_byte, &delivery);
    if (error == CELLAR_EBOUNDS)
        error = check_delivery(replay, address, &delivery);
    result = answer(error, error == 0 ? trace_bytes(delivery.bytes, delivery.length) : NULL);
    free(delivery.bytes);
    return result;
}

static struct trace_answer run_map(struct trace_replay *replay, const json_t *operation)
{
    struct cellar_fixed fixed;
    struct trace_answer result;
    int error = cellar_cache_map(replay->cache, unsigned_number(operation, "pos"),
                                 (size_t)unsigned_number(operation, "len"), &fixed);

    if (error != 0)
        return answer(error, NULL);
    result = answer(0, trace_bytes(fixed.slice.bytes, fixed.slice.length));
    cellar_cache_unfix(replay->cache, &fixed);
    return result;
}

static struct trace_answer run_copy(struct trace_replay *replay, const json_t *operation)
{
    struct cellar_cache *copy;
    int error = cellar_cache_copy(replay->cache, &copy);

    (void)operation;
    if (error == 0 && replay->is_pipeline) {
        cellar_cache_close(copy); /* the pipeline keeps its own */
    } else if (error == 0) {
        cellar_cache_close(replay->cache);
        replay->cache = copy;
    }
    return answer(error, json_null());
}

/* Which pages are cached depends on the original's hash: asked, not compared. */
static struct trace_answer run_is_cached(struct trace_replay *replay, const json_t *operation)
{
    struct trace_answer result = answer(0, NULL);

    cellar_cache_is_cached(replay->cache, unsigned_number(operation, "addr"));
    result.skip = true;
    return result;
}

static struct trace_answer run_invalidate(struct trace_replay *replay, const json_t *operation)
{
    cellar_cache_invalidate(replay->cache, unsigned_number(operation, "off"), unsigned_number(operation, "len"));
    return answer(0, json_null());
}

static struct trace_answer run_syscalls(struct trace_replay *replay, const json_t *operation)
{
    return answer(0, json_integer((json_int_t)cellar_cache_loads_needed(
                         replay->cache, unsigned_number(operation, "addr"), unsigned_number(operation, "len"))));
}

/*
 * The pipeline.
 */

static struct trace_answer run_persist(struct trace_replay *replay, const json_t *operation)
{
    return answer(
        cellar_pipeline_persist(replay->pipeline, unsigned_number(operation, "off"), unsigned_number(operation, "len")),
        json_null());
}

static struct trace_answer run_commit(struct trace_replay *replay, const json_t *operation)
{
    int error = cellar_pipeline_commit(replay->pipeline);

    (void)operation;
    if (error == 0 && cellar_pipeline_pending_bytes(replay->pipeline) != 0)
        error = -EIO;
    return answer(error, json_null());
}

static const struct {
    const char *name;
    bool pipeline; /* needs one */
    struct trace_answer (*run)(struct trace_replay *replay, const json_t *operation);
} operations[] = {
    {"load", false, run_load},
    {"next", false, run_next},
    {"bstr_of_slice", false, run_bstr_of_slice},
    {"get_string", false, run_get_string},
    {"blit_to_bytes", false, run_blit_to_bytes},
    {"get_seq", false, run_get_seq},
    {"iter", false, run_iter},
    {"map", false, run_map},
    {"copy", false, run_copy},
    {"is_cached", false, run_is_cached},
    {"invalidate", false, run_invalidate},
    {"syscalls", false, run_syscalls},
    {"persist", true, run_persist},
    {"commit", true, run_commit},
};

static bool any_negative(const json_t *operation)
{
    static const char *const names[] = {"addr", "len", "off", "pos", "dst_off", "dst_len", "slice_offset"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (number(operation, names[i], 0) < 0)
            return true;
    }
    return false;
}

/* Whether the original looks at the sign at all: a map before the start is empty; reading nothing may be fine anywhere.
 */
static struct trace_answer answer_negative(const json_t *operation, const char *name)
{
    struct trace_answer result = answer(-EINVAL, NULL);

    if (strcmp(name, "map") == 0)
        return answer(0, trace_bytes("", 0));
    result.skip = strcmp(name, "is_cached") == 0 || strcmp(name, "syscalls") == 0 || number(operation, "len", 1) == 0 ||
                  number(operation, "take", 1) == 0;
    return result;
}

struct trace_answer trace_run(struct trace_replay *replay, const json_t *operation)
{
    const char *name = json_string_value(json_object_get(operation, "op"));
    const struct integer *integer;

    if (name == NULL)
        return answer(-EBADMSG, NULL);
    if (any_negative(operation))
        return answer_negative(operation, name);
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(operations[i].name, name) == 0 && (replay->is_pipeline || !operations[i].pipeline))
            return operations[i].run(replay, operation);
    }
    integer = strlen(name) > 4 ? find_integer(name + 4) : NULL;
    if (integer != NULL && strncmp(name, "get_", 4) == 0)
        return integer->get(replay, unsigned_number(operation, "addr"));
    if (integer != NULL && strncmp(name, "set_", 4) == 0 && replay->is_pipeline)
        return integer->set(replay, unsigned_number(operation, "addr"), json_object_get(operation, "value"));
    return answer(-EBADMSG, NULL);
}
