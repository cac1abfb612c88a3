/* fuzz_pipeline.h - what the parts of the fuzzer of the pipeline share: a device that may answer wrongly, a pipeline
 * over it with its snapshots, and plain arrays of what they should show. */
#ifndef CELLAR_TESTS_FUZZ_PIPELINE_H
#define CELLAR_TESTS_FUZZ_PIPELINE_H

#include "fuzz_device.h"

#include <cellar/pipeline.h>

enum {
    PIPE_BYTES_MAX = 1024,
    PIPE_SNAPSHOTS_MAX = 3,
    PIPE_FRAMES_MAX = 2,
    PIPE_PLACES_MAX = 128,
    PIPE_PLACES_BYTES = 1 << 14,
};

struct pipe_snapshot {
    struct cellar_cache *cache; /* NULL: none */
    uint64_t version, limit_bytes;
    unsigned char image[PIPE_BYTES_MAX];
};

/* Where the page of a version lies in the second device. */
struct pipe_place {
    uint64_t version, page_address, offset;
};

struct pipe_world {
    struct fuzz_input *input;
    struct fuzz_device fuzz, second;
    struct cellar_device *device, *second_device;
    struct cellar_pipeline_options options;
    struct cellar_pipeline *pipeline;
    bool eager, placed;
    bool lies; /* wrong answers may come: results need not be the expected ones */
    bool lost; /* an error after which it is not known what is where: from here on only crashes are looked for */

    uint64_t size_bytes, version;
    unsigned char seen[PIPE_BYTES_MAX]; /* by who reads through the pipeline */
    bool known[PIPE_BYTES_MAX];         /* false: seen is not known */
    unsigned char held[PIPE_BYTES_MAX]; /* in the version of now */
    struct pipe_snapshot snapshots[PIPE_SNAPSHOTS_MAX];
    struct cellar_write_frame frames[PIPE_FRAMES_MAX];

    struct pipe_place places[PIPE_PLACES_MAX];
    int place_count;
    uint64_t next_offset;
};

static inline uint32_t pipe_below(struct pipe_world *world, uint64_t limit)
{
    return fuzz_below(world->input, (uint32_t)limit);
}

/* ---- fuzz_pipeline_world.c ---- */

void pipe_open(struct pipe_world *world, struct fuzz_input *input);
void pipe_close(struct pipe_world *world);

/* Whether the call did what it should: without wrong answers it gives the expected result. */
bool pipe_went_well(struct pipe_world *world, int result, int expected);

bool pipe_is_pending(const struct pipe_world *world, uint64_t address);
bool pipe_is_fixed(const struct pipe_world *world);

/* Whether every frame of the cache may be pinned: each handle keeps the page that it used last. */
bool pipe_may_be_pinned(const struct pipe_world *world);

/* got is what is seen from address on. */
void pipe_check_seen(const struct pipe_world *world, uint64_t address, const unsigned char *got, size_t length);

/* What the device holds is what is seen, where nothing is pending, and what it held before, where that is. */
void pipe_check_device(struct pipe_world *world);

/* After commit and persist, done or not: what the version of now holds. */
void pipe_note_sent(struct pipe_world *world);

/* What a commit that failed has asked for is in no version. */
void pipe_drop_places(struct pipe_world *world);

/* Everything, through the pipeline and all snapshots. */
void pipe_check_all(struct pipe_world *world);

#endif
