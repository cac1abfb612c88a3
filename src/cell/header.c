/*
 * header.c - publishing and reading slots, without a lock on the way of readers.
 *
 * Invariants:
 *  1. A pair is written #1 first, then #2, both with the same bytes, by one thread at a time for each pair. So at every
 *     moment at least one of the two is whole: while #1 changes #2 holds the state before, while #2 changes #1 holds
 *     the new one.
 *  2. Cells are stored before the slot that publishes them; they never change after.
 *  3. The next index of a pair never goes back.
 *
 * Why a torn slot can't pass, and cells are there when their slot is:
 *  - Slots are stored and loaded as four aligned 8-byte words, each store a release, each load an acquire. A reader
 *    that sees any word of a publication therefore sees everything that the writer did before it: the cells, and both
 *    slots of the publication before. So a reader that finds #1 half-written finds #2 no older than one publication.
 *  - The words of a slot that a reader collects may come from different publications. Its hash covers the state word;
 *    it holds only if hash and state belong together (12 bytes of BLAKE2b), and then that state was published, with all
 *    its cells, before the word was. A slot whose plain hash holds but whose keyed hash doesn't may be a mixture of two
 *    publications of the same state: another writer is concluded only from two identical reads in a row in which the
 *    other slot says the same, or from many.
 *  - Both slots broken in one look: the reader was overtaken between its two reads. It looks again; only what stays
 *    byte for byte the same, and broken, for a while is CORRUPT.
 */
#include "cell/header.h"

#include "base/bytes.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

enum {
    SLOT_WORDS = CELLAR_SLOT_BYTES / 8,
    LOOKS_MAX = 100000,
    BAD_LOOKS_MAX = 16,    /* so many looks in a row that hold but aren't the key's are another writer's */
    BROKEN_LOOKS_MIN = 16, /* so many looks in a row that are the same and broken are CORRUPT */
};

int cellar_header_open(struct cellar_header *header, struct cellar_device *device, void *window, bool compat)
{
    header->device = device;
    header->window = window;
    header->compat = compat;
    return pthread_mutex_init(&header->compat_lock, NULL) == 0 ? 0 : -ENOMEM;
}

void cellar_header_close(struct cellar_header *header)
{
    pthread_mutex_destroy(&header->compat_lock);
}

static uint64_t load_word(const unsigned char *at)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
}

static void store_word(unsigned char *at, const unsigned char *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
    atomic_store_explicit((_Atomic uint64_t *)(void *)at, word, memory_order_release);
}

static void store_half_word(unsigned char *at, const unsigned char *bytes)
{
    uint32_t half;

    memcpy(&half, bytes, sizeof half);
    atomic_store_explicit((_Atomic uint32_t *)(void *)at, half, memory_order_release);
}

/* length_bytes at offset, both multiples of 8, as they are now. */
static int load(const struct cellar_header *header, uint64_t offset, void *buffer, size_t length_bytes)
{
    unsigned char *to = buffer;

    if (header->window == NULL)
        return cellar_device_read(header->device, buffer, length_bytes, offset);
    for (size_t at = 0; at < length_bytes; at += 8) {
        uint64_t word = load_word(header->window + offset + at);

        memcpy(to + at, &word, sizeof word);
    }
    return 0;
}

int cellar_header_store(struct cellar_header *header, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    if (header->window == NULL) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length_bytes};

        return cellar_device_write(header->device, &part, 1, offset);
    }
    while (length_bytes > 0) {
        size_t step = (offset % 8 == 0 && length_bytes >= 8) ? 8 : 4;

        if (step == 8)
            store_word(header->window + offset, from);
        else
            store_half_word(header->window + offset, from);
        offset += step;
        from += step;
        length_bytes -= step;
    }
    return 0;
}

/* Stores slot at the names from first to last, one after the other; in compat mode under the original's lock. */
static int store_slots(struct cellar_header *header, int first, int last, const void *slot)
{
    int error = 0;

    if (header->compat) {
        pthread_mutex_lock(&header->compat_lock);
        error = cellar_device_lock(header->device, CELLAR_LOCK_HEADER_EXCLUSIVE);
        if (error != 0) {
            pthread_mutex_unlock(&header->compat_lock);
            return error;
        }
    }
    for (int name = first; error == 0 && name <= last; name++)
        error = cellar_header_store(header, cellar_slot_offset((enum cellar_slot_name)name), slot, CELLAR_SLOT_BYTES);
    if (header->compat) {
        cellar_device_unlock(header->device, CELLAR_LOCK_HEADER_EXCLUSIVE);
        pthread_mutex_unlock(&header->compat_lock);
    }
    return error;
}

int cellar_header_publish(struct cellar_header *header, enum cellar_pair pair, const struct cellar_state *state,
                          const struct cellar_key *key)
{
    unsigned char slot[CELLAR_SLOT_BYTES];

    cellar_slot_encode(state, key, slot);
    return store_slots(header, (int)pair, (int)pair + 1, slot);
}

/*
 * Without a window one barrier less is needed where the device has durable writes: #1 is stored, then both in one
 * durable write. Why #1 goes out twice:
 *   - Only #2 in the durable write: nobody made #1 durable. A power loss after the flush has returned may find #1 old
 *     and #2 new; #1 is the one that counts, so the flush is undone.
 *   - Both in one write and nothing before it: while it is under way, neither may be whole; and a writer that dies in
 *     it may leave it so.
 * As it is, the second write stores into #1 what it holds. What a power loss finds before that is done: both slots lie
 * in one sector, which a disk writes from its beginning, so #1 is old or broken and #2 old, or #1 new. The cells of
 * either state are durable. The process-sync slots lie in the same sector; a device that makes less than that durable
 * may lose them, and the next writer then finds disk sync ahead, which is no loss.
 */
int cellar_header_persist(struct cellar_header *header, const struct cellar_state *state)
{
    unsigned char pair[2 * CELLAR_SLOT_BYTES];
    struct iovec part = {.iov_base = pair, .iov_len = sizeof pair};
    int error;

    if (header->window != NULL || header->compat) {
        error = cellar_header_publish(header, CELLAR_PAIR_DISK, state, NULL);
        return error == 0 ? cellar_header_sync(header) : error;
    }
    cellar_slot_encode(state, NULL, pair);
    memcpy(pair + CELLAR_SLOT_BYTES, pair, CELLAR_SLOT_BYTES);
    error = cellar_header_store(header, cellar_slot_offset(CELLAR_DISK_1), pair, CELLAR_SLOT_BYTES);
    if (error == 0)
        error = cellar_device_write_durable(header->device, &part, 1, cellar_slot_offset(CELLAR_DISK_1));
    return error;
}

int cellar_header_repair(struct cellar_header *header, enum cellar_slot_name name, const void *slot)
{
    return store_slots(header, (int)name, (int)name, slot);
}

int cellar_header_sync(struct cellar_header *header)
{
    return cellar_device_sync(header->device, 0, CELLAR_HEADER_BYTES);
}

int cellar_header_flags(const struct cellar_header *header, uint32_t *ret_flags)
{
    unsigned char bytes[8];
    int error = load(header, CELLAR_AT_FLAGS, bytes, sizeof bytes);

    if (error == 0)
        *ret_flags = cellar_load_le32(bytes);
    return error;
}

static int load_slot(const struct cellar_header *header, enum cellar_pair pair, int which, uint64_t words[SLOT_WORDS])
{
    return load(header, cellar_slot_offset((enum cellar_slot_name)((int)pair + which)), words, CELLAR_SLOT_BYTES);
}

/* Whether the slot holds, which its plain hash decides alone, and what it says of the key. */
static bool judge(const uint64_t words[SLOT_WORDS], const struct cellar_key *key, enum cellar_key_verdict *ret_verdict)
{
    *ret_verdict = CELLAR_KEY_UNKNOWN;
    if (!cellar_slot_decode(words).valid)
        return false;
    if (key != NULL)
        *ret_verdict = cellar_slot_has_key(words, key) ? CELLAR_KEY_GOOD : CELLAR_KEY_BAD;
    return true;
}

/* One look at both slots: *ret_which is the one in force, -1 if neither holds. words keeps both as read. */
static int look_once(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_key *key,
                     uint64_t words[2][SLOT_WORDS], int *ret_which, enum cellar_key_verdict *ret_verdict)
{
    enum cellar_key_verdict verdict;
    int error;

    *ret_which = -1;
    *ret_verdict = CELLAR_KEY_UNKNOWN;
    for (int which = 0; which < 2; which++) {
        error = load_slot(header, pair, which, words[which]);
        if (error != 0)
            return error;
        if (!judge(words[which], key, &verdict))
            continue;
        *ret_which = which;
        *ret_verdict = verdict;
        /* Doubts about the key of #1 want #2 as a witness: see is_settled. */
        return which == 0 && verdict == CELLAR_KEY_BAD ? load_slot(header, pair, 1, words[1]) : 0;
    }
    return 0;
}

static int unchanged(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_seen *seen)
{
    uint64_t words[SLOT_WORDS];
    int error;

    if (!seen->any || seen->slot != 0)
        return 0;
    error = load_slot(header, pair, 0, words);
    if (error != 0)
        return error;
    return memcmp(words, seen->words, sizeof words) == 0 ? CELLAR_NONE : 0;
}

/* Takes over what was seen; CELLAR_NONE where it is the same as before. */
static int take(struct cellar_seen *seen, const uint64_t words[SLOT_WORDS], int which, struct cellar_state *ret_state)
{
    if (seen->any && memcmp(seen->words, words, sizeof seen->words) == 0) {
        seen->slot = which;
        return CELLAR_NONE;
    }
    memcpy(seen->words, words, sizeof seen->words);
    seen->slot = which;
    seen->any = true;
    *ret_state = cellar_slot_state(words);
    return 0;
}

/*
 * Whether what was seen can be taken for true: a slot that holds, and is the key's or needs none, at once. One of
 * another key, when it was seen twice the same and its twin says the same too (a writer may be standing still in the
 * middle of #1), or so often that no writer can be behind it. Two broken slots, when they stay the same for a while.
 */
struct patience {
    int looks, bad_looks, same_looks;
};

static bool is_settled(struct patience *patience, int which, enum cellar_key_verdict verdict, bool same, bool twins)
{
    bool bad = which >= 0 && verdict == CELLAR_KEY_BAD;

    patience->looks++;
    patience->bad_looks = bad ? patience->bad_looks + 1 : 0;
    patience->same_looks = same ? patience->same_looks + 1 : 0;
    if (which < 0)
        return patience->same_looks >= BROKEN_LOOKS_MIN;
    return !bad || (same && twins) || patience->bad_looks >= BAD_LOOKS_MAX;
}

int cellar_header_look(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_key *key,
                       struct cellar_seen *seen, struct cellar_state *ret_state, enum cellar_key_verdict *ret_verdict)
{
    uint64_t now[2][SLOT_WORDS] = {{0}}, before[2][SLOT_WORDS] = {{0}};
    struct patience patience = {.looks = 0};
    int result = unchanged(header, pair, seen);

    if (result != 0)
        return result;
    while (patience.looks < LOOKS_MAX) {
        enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;
        int which, error = look_once(header, pair, key, now, &which, &verdict);

        if (error != 0)
            return error;
        if (is_settled(&patience, which, verdict, patience.looks > 0 && memcmp(now, before, sizeof now) == 0,
                       memcmp(now[0], now[1], sizeof now[0]) == 0)) {
            if (which < 0)
                break;
            *ret_verdict = verdict;
            return take(seen, now[which], which, ret_state);
        }
        memcpy(before, now, sizeof before);
        if (patience.looks > 4)
            sched_yield();
    }
    return CELLAR_ECORRUPT;
}
