/*
 * header.c - publishing and reading slots, without a lock on the way of readers.
 *
 * Invariants:
 *  1. A pair is written #1 first, then #2, both with the same bytes, by one thread at a time for each pair. So at every
 *     moment at least one of the two is whole: while #1 changes #2 holds the state before, while #2 changes #1 holds
 *     the new one. Of the disk-sync pair that is true of what is on the disk, too.
 *  2. Cells are stored before the slot that publishes them; they never change after.
 *  3. The next index of a pair never goes back.
 *
 * What is stored and loaded, in the words of C11 (5.1.2.4, 7.17.3):
 *     a publication   cells: plain stores; then the words 0 1 2 3 of #1, (the binding,) the words 0 1 2 3 of #2:
 *                     atomic stores of 8 aligned bytes, memory_order_release, in this order
 *     a look          the words 0 1 2 3 of #1, and where that slot does not do, of #2: atomic loads of the same 8
 *                     bytes, memory_order_acquire, in this order; then cells: plain loads
 * Words 0 and 3 and half of word 1 are the plain hash and the state, word 2 and the rest of word 1 the keyed hash.
 *
 * (a) The stores into a pair have one order: one thread at a time stores there, and each store happens before the
 *     next (the same thread; the flush lock; another process: the writer's lock, which is free only when the process
 *     that had it is gone). So each word's modification order is that order. An acquire load that finds a store
 *     synchronizes with it, and all that came before that store happens before what the reader does next. If s is
 *     the last store of all that a reader has found, in any word, then of every word it finds the last store before s,
 *     or a later one, and never again an older one (coherence).
 * (b) Cells. A slot is taken only if its plain hash is that of its state: then its words 0, 1 and 3, from whatever
 *     publications they come, come from ones of that state, but for a chance of 2^-96. The cells below its next were
 *     stored before any of these words; with (a) the plain stores happen before the plain loads. No cell below a
 *     published next is stored to again, and the cells beside it are other memory locations, also in the same word or
 *     cache line: there is no data race. (Recovery's atomic stores of what is there, which dirty a page, change no
 *     value.)
 * (c) No way back. Whoever has taken publication k has found a word of it: by (a) every word of #1 is of k or later
 *     from then on. If #1 is then found torn, one of its words is of some k' > k; both slots of k' - 1 were stored
 *     before that, and #2 is found as k' - 1, as later, or torn.
 * (d) Both torn. #1 torn showed a word of k', #2 torn then a word of k' or later: so #1 of k' is complete, and the next
 *     look finds it, or is overtaken by one more publication. Each look that fails costs the writer a publication. Two
 *     slots that stay broken, byte for byte the same, for a while are CORRUPT.
 * (e) Keys. A slot whose plain hash holds and whose keyed hash doesn't may be a mixture, of two publications of the
 *     same state or of words 0, 1 of one, 2 of the next and 3 of the first. By (a) a reader can't find the latter twice
 *     without another publication in between, and the former has a twin that differs. So another writer is concluded
 *     only from two identical reads in a row in which #2 says the same, or from many.
 *
 * Between processes. C11 knows the threads of one program. What it takes for more: atomics that are lock-free, and so
 * address-free (7.17.5, recommended practice; asserted below); one page of the page cache behind all shared mappings of
 * a file, and caches that are coherent by physical address. A killed process has done every store before some point of
 * its program and none after it (interrupts are precise), and what it has done all others come to see.
 * Without a window a slot is one write and one read: any mixture may come of it, which the hash finds; the system calls
 * keep the order of cells, #1 and #2.
 *
 * The flags are stored as 4 bytes and loaded as 8 of which 4 are used: on the machines at hand that is one access, too,
 * though C11 doesn't say so. A reader looks at RETIRED, and at WORD, of which cell/word.h says what it orders.
 *
 * tests/threads/model.c tries every load that (a) allows, tests/threads/litmus.c the machine, tests/threads/deaths.c
 * every death between two stores.
 */
#include "cell/header.h"

#include "base/bytes.h"
#include "base/check.h"
#include "cell/header_store.h"
#include "device/device.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a word of the header is stored and loaded without a lock");

enum {
    SLOT_WORDS = CELLAR_SLOT_BYTES / 8,
    LOOKS_MAX = 100000,
    BAD_LOOKS_MAX = 16,    /* so many looks in a row that hold but aren't the key's are another writer's */
    BROKEN_LOOKS_MIN = 16, /* so many looks in a row that are the same and broken are CORRUPT */
};

CELLAR_COLD int cellar_header_open(struct cellar_header *header, struct cellar_device *device, void *window,
                                   bool compat)
{
    *header = (struct cellar_header){.device = device};
    header->window = window;
    header->compat = compat;
    if (pthread_mutex_init(&header->compat_lock, NULL) != 0)
        return -ENOMEM;
    if (pthread_mutex_init(&header->sync_lock, NULL) == 0) {
        if (pthread_mutex_init(&header->flags_lock, NULL) == 0)
            return 0;
        pthread_mutex_destroy(&header->sync_lock);
    }
    pthread_mutex_destroy(&header->compat_lock);
    return -ENOMEM;
}

void cellar_header_close(struct cellar_header *header)
{
    pthread_mutex_destroy(&header->flags_lock);
    pthread_mutex_destroy(&header->sync_lock);
    pthread_mutex_destroy(&header->compat_lock);
}

static uint64_t load_word(const unsigned char *at)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
}

CELLAR_COLD void cellar_header_start_marks(struct cellar_header *header, uint64_t incarnation, uint32_t flags)
{
    header->incarnation = incarnation;
    header->through_cache = !cellar_device_is_direct(header->device);
    header->flags = flags;
    header->disk_pending = true;
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
    if (header->window == NULL) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length_bytes};

        return cellar_device_write(header->device, &part, 1, offset);
    }
    cellar_header_store_window(header->window, offset, bytes, length_bytes);
    return 0;
}

/* In compat mode: the original's lock, which is one for all threads of a handle. */
static int enter(struct cellar_header *header)
{
    int error;

    if (!header->compat)
        return 0;
    pthread_mutex_lock(&header->compat_lock);
    error = cellar_device_lock(header->device, CELLAR_LOCK_HEADER_EXCLUSIVE);
    if (error != 0)
        pthread_mutex_unlock(&header->compat_lock);
    return error;
}

static void leave(struct cellar_header *header)
{
    if (!header->compat)
        return;
    cellar_device_unlock(header->device, CELLAR_LOCK_HEADER_EXCLUSIVE);
    pthread_mutex_unlock(&header->compat_lock);
}

static int store_slot(struct cellar_header *header, enum cellar_slot_name name, const void *slot)
{
    return cellar_header_store(header, cellar_slot_offset(name), slot, CELLAR_SLOT_BYTES);
}

/*
 * The first word last. A writer that died in the middle of a slot left a part of its hash there; a slot that is mended
 * from its beginning would for a moment have a plain hash that holds beside half of a keyed one, and whoever dies then
 * leaves a slot that is of no key.
 */
CELLAR_COLD int cellar_header_repair(struct cellar_header *header, enum cellar_slot_name name, const void *slot)
{
    const unsigned char *bytes = slot;
    uint64_t offset = cellar_slot_offset(name);
    int error = enter(header);

    if (error != 0)
        return error;
    if (header->window == NULL) {
        error = store_slot(header, name, slot);
    } else {
        cellar_header_store_window(header->window, offset + 8, bytes + 8, CELLAR_SLOT_BYTES - 8);
        cellar_header_store_window(header->window, offset, bytes, 8);
    }
    leave(header);
    return error;
}

static int publish(struct cellar_header *header, const struct cellar_state *state, const struct cellar_key *key,
                   bool binds)
{
    unsigned char slot[CELLAR_SLOT_BYTES];
    int error;

    cellar_slot_encode(state, key, slot);
    error = enter(header);
    if (error != 0)
        return error;
    error = store_slot(header, CELLAR_PROCESS_1, slot);
    if (error == 0 && binds)
        error = cellar_header_store(header, CELLAR_AT_BINDING, slot + CELLAR_SLOT_AT_KEYED_HASH, sizeof(uint64_t));
    if (error == 0)
        error = store_slot(header, CELLAR_PROCESS_2, slot);
    leave(header);
    return error;
}

int cellar_header_publish(struct cellar_header *header, const struct cellar_state *state, const struct cellar_key *key)
{
    return publish(header, state, key, header->incarnation != 0);
}

int cellar_header_publish_unbound(struct cellar_header *header, const struct cellar_state *state,
                                  const struct cellar_key *key)
{
    return publish(header, state, key, false);
}

static CELLAR_COLD int put_flags(struct cellar_header *header, uint32_t flags)
{
    unsigned char bytes[4];

    cellar_store_le32(bytes, flags);
    return cellar_header_store(header, CELLAR_AT_FLAGS, bytes, sizeof bytes);
}

/* Under flags_lock. */
static CELLAR_COLD int store_flags(struct cellar_header *header, uint32_t flags)
{
    int error = flags != header->flags ? put_flags(header, flags) : 0;

    if (error == 0)
        header->flags = flags;
    return error;
}

CELLAR_COLD int cellar_header_change_flags(struct cellar_header *header, uint32_t set, uint32_t clear)
{
    int error;

    pthread_mutex_lock(&header->flags_lock);
    error = store_flags(header, (header->flags | set) & ~clear);
    pthread_mutex_unlock(&header->flags_lock);
    return error;
}

int cellar_header_store_word(struct cellar_header *header, uint64_t offset, uint64_t word)
{
    unsigned char bytes[8];

    cellar_store_le64(bytes, word);
    return cellar_header_store(header, offset, bytes, sizeof bytes);
}

CELLAR_COLD int cellar_header_touch(struct cellar_header *header)
{
    int error;

    pthread_mutex_lock(&header->flags_lock);
    error = put_flags(header, header->flags);
    pthread_mutex_unlock(&header->flags_lock);
    return error;
}

/* Its own failure is nobody's business any more. */
static CELLAR_COLD void suspect(struct cellar_header *header)
{
    pthread_mutex_lock(&header->flags_lock);
    header->flags |= CELLAR_FLAG_SUSPECT;
    (void)!put_flags(header, header->flags);
    pthread_mutex_unlock(&header->flags_lock);
}

int cellar_header_begin_sync(struct cellar_header *header)
{
    int error;

    if (header->incarnation == 0 || !header->through_cache)
        return 0;
    pthread_mutex_lock(&header->flags_lock);
    error = store_flags(header, header->flags | CELLAR_FLAG_SYNCING);
    if (error == 0)
        header->syncs++;
    pthread_mutex_unlock(&header->flags_lock);
    return error;
}

int cellar_header_end_sync(struct cellar_header *header)
{
    int error = 0;

    pthread_mutex_lock(&header->flags_lock);
    if (header->syncs > 0)
        header->syncs--;
    if (header->syncs == 0)
        error = store_flags(header, header->flags & ~(uint32_t)CELLAR_FLAG_SYNCING);
    pthread_mutex_unlock(&header->flags_lock);
    return error;
}

int cellar_header_confirm(struct cellar_header *header, uint32_t confirmed_next)
{
    return header->incarnation != 0 ? cellar_header_store_word(header, CELLAR_AT_CONFIRMED, confirmed_next) : 0;
}

/* The first error stays. */
static int keep_error(struct cellar_header *header, int error)
{
    if (header->sync_error == 0)
        header->sync_error = error;
    return header->sync_error;
}

/* What came of a sync: its own error, or that of any before it, or of one that ran beside it. It leaves SUSPECT. */
static int settle_sync(struct cellar_header *header, int error)
{
    pthread_mutex_lock(&header->sync_lock);
    error = keep_error(header, error);
    pthread_mutex_unlock(&header->sync_lock);
    if (error != 0) {
        suspect(header);
        cellar_header_restore_slots(header);
    }
    return error;
}

CELLAR_COLD void cellar_header_fail(struct cellar_header *header, int error)
{
    pthread_mutex_lock(&header->sync_lock);
    (void)keep_error(header, error);
    pthread_mutex_unlock(&header->sync_lock);
    suspect(header);
}

CELLAR_COLD int cellar_header_begin_growth(struct cellar_header *header)
{
    int error = cellar_header_begin_sync(header);

    if (error == 0)
        pthread_mutex_lock(&header->sync_lock);
    return error;
}

CELLAR_COLD int cellar_header_end_growth(struct cellar_header *header, int error)
{
    (void)keep_error(header, error);
    pthread_mutex_unlock(&header->sync_lock);
    if (error == 0)
        return cellar_header_end_sync(header);
    suspect(header);
    return 0;
}

int cellar_header_barrier(struct cellar_header *header, uint64_t end_bytes)
{
    int error = cellar_device_sync(header->device, 0, end_bytes);

    error = settle_sync(header, error);
    if (error == 0)
        header->disk_pending = false;
    return error;
}

CELLAR_COLD int cellar_header_settle(struct cellar_header *header)
{
    int error = cellar_header_begin_sync(header);

    if (error == 0)
        error = cellar_header_barrier(header, CELLAR_HEADER_BYTES);
    return error == 0 ? cellar_header_end_sync(header) : error;
}

/*
 * #1 and #2 are never on their way to the disk at once. A page that is written back while it is stored into may reach
 * the disk as any mixture of what it held meanwhile, and a power loss may leave any part of it; were both slots stored
 * between two barriers, both could be found broken. As it is:
 *   - before #1 is stored, #2 is durable: barrier() of this flush was after #2 was stored by the flush before;
 *   - before #2 is stored, #1 is durable.
 * A power loss finds #1 old, new or broken while #2 is old and whole; or #1 new and whole, whatever #2 is. It costs no
 * barrier: #2 goes with the cells of the next flush. If there never is one, #1 is in force.
 */
int cellar_header_persist(struct cellar_header *header, const struct cellar_state *state)
{
    unsigned char slot[CELLAR_SLOT_BYTES];
    struct iovec part = {.iov_base = slot, .iov_len = sizeof slot};
    bool durable = header->window == NULL && !header->compat;
    int error;

    cellar_slot_encode(state, NULL, slot);
    if (durable) { /* one call, and on some devices no barrier */
        error = cellar_device_write_durable(header->device, &part, 1, cellar_slot_offset(CELLAR_DISK_1));
        error = settle_sync(header, error);
    } else {
        error = cellar_header_repair(header, CELLAR_DISK_1, slot);
        if (error == 0)
            error = cellar_header_barrier(header, CELLAR_HEADER_BYTES);
    }
    if (error != 0)
        return error;
    header->disk_pending = true;
    header->disk = *state;
    error = cellar_header_repair(header, CELLAR_DISK_2, slot);
    return error == 0 ? cellar_header_drop_records(header) : error;
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
