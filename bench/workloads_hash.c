/*
 * workloads_hash.c - the keyed hash of a slot, made in several ways. No store takes part: it is work of the machine.
 *
 * The hash is BLAKE2b with a digest of 12 bytes, of the writer's key and then 8 bytes of state: 40 bytes in one
 * compression, as a slot of the header has it. The rows show what a state that is prepared once for the key, or another
 * library, would save. All must make the same digest.
 */
#include "workload.h"

#include <blake2.h>
#include <errno.h>
#include <stdio.h>
#ifdef BENCH_HAVE_SODIUM
#include <sodium.h>
#endif

enum {
    DIGEST_BYTES = 12,
    KEY_BYTES = 32,
    HASHES_EACH = 4, /* times the commits of the scale, in one run */
};

static const unsigned char key[KEY_BYTES] = "the key of a writer: 32 bytes..";

/* What one row hashes with. */
struct bed {
    uint64_t count;                     /* of hashes, in one run */
    blake2b_state prepared;             /* after the key */
    unsigned char digest[DIGEST_BYTES]; /* of the run's last hash */
    unsigned char wanted[DIGEST_BYTES]; /* what that must be */
};

/* Makes the digest of each state from 1 to the bed's count. */
typedef int run_hashes(void *bed);

struct way {
    const char *mode;
    const char *library;
    run_hashes *run;
};

static inline void hash_whole(uint64_t state, unsigned char *ret_digest)
{
    blake2b_state hash;

    blake2b_init(&hash, DIGEST_BYTES);
    blake2b_update(&hash, key, sizeof key);
    blake2b_update(&hash, (const uint8_t *)&state, sizeof state);
    blake2b_final(&hash, ret_digest, DIGEST_BYTES);
}

/* As the library does. */
static int run_whole(void *context)
{
    struct bed *bed = context;

    for (uint64_t state = 1; state <= bed->count; state++)
        hash_whole(state, bed->digest);
    return 0;
}

static int run_prepared(void *context)
{
    struct bed *bed = context;

    for (uint64_t state = 1; state <= bed->count; state++) {
        blake2b_state hash = bed->prepared;

        blake2b_update(&hash, (const uint8_t *)&state, sizeof state);
        blake2b_final(&hash, bed->digest, DIGEST_BYTES);
    }
    return 0;
}

#ifdef BENCH_HAVE_SODIUM
static int run_sodium(void *context)
{
    struct bed *bed = context;
    int failed = 0;

    for (uint64_t state = 1; state <= bed->count; state++) {
        crypto_generichash_blake2b_state hash;

        failed |= crypto_generichash_blake2b_init(&hash, NULL, 0, DIGEST_BYTES);
        failed |= crypto_generichash_blake2b_update(&hash, key, sizeof key);
        failed |= crypto_generichash_blake2b_update(&hash, (const unsigned char *)&state, sizeof state);
        failed |= crypto_generichash_blake2b_final(&hash, bed->digest, DIGEST_BYTES);
    }
    return failed != 0 ? -EINVAL : 0;
}
#endif

static const struct way ways[] = {
    {"init, key, 8 bytes, final", "libb2 " BENCH_B2_VERSION, run_whole},
    {"copy of a state after the key, 8 bytes, final", "libb2 " BENCH_B2_VERSION, run_prepared},
#ifdef BENCH_HAVE_SODIUM
    {"crypto_generichash_blake2b: init, key, 8 bytes, final", "libsodium " SODIUM_VERSION_STRING, run_sodium},
#endif
};

enum { WAYS = sizeof ways / sizeof ways[0] };

static int check_digest(void *context)
{
    const struct bed *bed = context;

    return memcmp(bed->digest, bed->wanted, DIGEST_BYTES) == 0 ? 0 : -EBADMSG;
}

static int open_bed(const struct bench_session *session, struct bed *bed)
{
    *bed = (struct bed){.count = session->scale->commits * HASHES_EACH};
    blake2b_init(&bed->prepared, DIGEST_BYTES);
    blake2b_update(&bed->prepared, key, sizeof key);
#ifdef BENCH_HAVE_SODIUM
    if (sodium_init() < 0)
        return -ENOSYS;
#endif
    hash_whole(bed->count, bed->wanted);
    return 0;
}

static void add_row(struct bench_session *session, const struct bench_workload *workload, const struct way *way,
                    const struct bed *bed, const struct bench_figures *run)
{
    struct bench_row *row = bench_result_add_row(&session->result, &workload->heading, BENCH_NAME_LIMIT, way->mode);

    if (row == NULL)
        return;
    row->figures = bench_figures_each(run, bed->count);
    row->ops = bed->count * run->repetitions;
    snprintf(row->seen, sizeof row->seen, "%s", way->library);
}

static int measure_ways(struct bench_session *session, const struct bench_workload *workload)
{
    const struct way *chosen[WAYS];
    struct bench_subject subjects[WAYS];
    struct bench_figures figures[WAYS];
    struct bed bed;
    const struct bench_plan plan = {
        .repetitions_min = session->scale->repetitions_min,
        .repetitions_max = session->scale->repetitions_max,
        .budget_ns = session->scale->budget_ns,
    };
    size_t count = 0, failed = 0;
    int status;

    if (session->engine != NULL && strcmp(session->engine, BENCH_NAME_LIMIT) != 0)
        return 0;
    status = open_bed(session, &bed);
    for (size_t i = 0; i < WAYS; i++)
        if (session->mode == NULL || strcmp(session->mode, ways[i].mode) == 0) {
            chosen[count] = &ways[i];
            subjects[count++] = (struct bench_subject){.context = &bed, .run = ways[i].run, .after = check_digest};
        }
    for (size_t i = 0; i < count && status == 0; i++) /* one round that isn't counted */
        status = subjects[i].run(&bed);
    if (status == 0 && count > 0)
        status = bench_measure(subjects, count, &plan, figures, &failed);
    if (status != 0)
        fprintf(stderr, "bench: %s: %s\n", workload->heading.name,
                status == -EINTR ? "interrupted" : strerror(-status));
    for (size_t i = 0; i < count && status == 0; i++)
        add_row(session, workload, chosen[i], &bed, &figures[i]);
    return status;
}

const struct bench_workload bench_hash = {
    .heading = {"hash", "make the hash of a slot with its writer's key: BLAKE2b, 12 bytes of 40",
                "nothing is stored; the same digest in every row"},
    .measure = measure_ways,
};
