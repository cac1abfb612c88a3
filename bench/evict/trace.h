/*
 * trace.h - which pages are used, one after the other. The pages of a trace are numbered from 0 in the order of their
 * first use; that number stands for the page wherever the simulator looks something up.
 *
 * Functions return 0 or a negative error.
 */
#ifndef EVICT_TRACE_H
#define EVICT_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct evict_trace {
    const char *name, *what; /* what: a sentence for the report. Static strings */
    uint32_t *uses;          /* use_count of them: which page, 0 to page_count - 1 */
    size_t use_count;
    uint64_t *pages; /* page_count of them: the number that the page has on its device */
    size_t page_count;
};

/* How large generated traces are. */
struct evict_scale {
    uint32_t page_count; /* a multiple of 200 */
    uint32_t use_count;  /* a multiple of page_count */
};

/* How many traces evict_trace_generate knows, by index. */
extern const size_t evict_generator_count;

/* The same index and scale give the same trace, on every machine. */
int evict_trace_generate(size_t index, const struct evict_scale *scale, struct evict_trace *ret_trace);

/* How many recorded traces there are. */
extern const size_t evict_recorded_count;

/* Reads the recorded trace from FOLDER/NAME.trace. -EBADMSG: it is no trace. */
int evict_trace_read(const char *folder, size_t index, struct evict_trace *ret_trace);

/* Writes pages that lie page_bytes apart to FOLDER/NAME.trace. -ENOENT: there is no recorded trace of this name. */
int evict_trace_write(const char *folder, const char *name, uint32_t page_bytes, const uint64_t *numbers, size_t count);

/* A trace of these page numbers; uses of a page right after itself are kept. name and what are borrowed. */
int evict_trace_make(const char *name, const char *what, const uint64_t *numbers, size_t count,
                     struct evict_trace *ret_trace);

void evict_trace_free(struct evict_trace *trace);

/* The next number of a sequence that *state names (SplitMix64), from 0 to limit - 1. */
uint32_t evict_random(uint64_t *state, uint32_t limit);

#endif
