/*
 * traces.h - the inside of the trace replayer: what traces.c (files, judging), traces_grounds.c (devices) and
 * traces_replay.c (the operations) share.
 *
 * A trace is a JSONL file: a header line that says how to make a device and a cache over it (trace "read") or a
 * pipeline (trace "wr"), then one operation a line with what the original answered ("out") and, where that was a
 * mistake of the original, what is right ("model").
 */
#ifndef CONFORMANCE_TRACES_H
#define CONFORMANCE_TRACES_H

#include "conformance.h"
#include <cellar/cache.h>
#include <cellar/pipeline.h>
#include <jansson.h>
#include <stdbool.h>

/* Where Cellar answers something else than the traces, on purpose. Each is counted where it is met. */
enum trace_difference {
    TRACE_SAME,
    TRACE_FAULT_ADDRESS,
    TRACE_EMPTY_ITER,
    TRACE_SET_OUTSIDE,
    TRACE_PERSIST_OUTSIDE,
    TRACE_DIFFERENCES,
};

/* What a trace is replayed on: a device of exactly these bytes, that can be written. */
struct trace_ground {
    const char *name;
    /* CELLAR_NONE: not on this machine. NULL: no device, bare functions over memory. */
    int (*open)(const unsigned char *bytes, size_t length, struct cellar_device **ret_device);
};

/* All of them; the last has no name. */
extern const struct trace_ground trace_grounds[];

/* Ends what they share, and says which of them are not here. */
void trace_grounds_end(void);

struct trace_replay {
    const char *file_name;
    unsigned line;
    const char *ground_name;      /* what it is replayed on: a device, or functions over memory */
    const char *kind_name;        /* and through which kind of cache */
    struct cellar_device *device; /* NULL on functions */
    unsigned char *bytes;         /* the device on functions */
    uint64_t device_bytes;
    bool is_pipeline;
    struct cellar_cache *cache; /* the pipeline's where there is one */
    struct cellar_pipeline *pipeline;
    unsigned long *differences; /* counts, by enum trace_difference */
    struct conformance_totals *totals;
};

/* What an operation gave. */
struct trace_answer {
    int error;     /* 0, or of Cellar's */
    json_t *value; /* for 0: as the "ok" of a trace. Owned. */
    bool skip;     /* can't be asked, or isn't compared */
};

/* Runs one operation through Cellar. */
struct trace_answer trace_run(struct trace_replay *replay, const json_t *operation);

/* {"len", "hex"}, or {"len", "fnv"} for more than 64 bytes. */
json_t *trace_bytes(const void *bytes, size_t length);

/* FNV-1a of 64 bits, as 16 hexadecimal digits and a zero. */
void trace_hash(const void *bytes, size_t length, char ret_digits[17]);

/* Copies a range of the device, past cache and pipeline. 0 or an error. */
int trace_device_read(const struct trace_replay *replay, uint64_t address, void *buffer, size_t length);

#endif
