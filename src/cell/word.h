/*
 * word.h - the published word: commits by one store.
 *
 * A process-sync slot is two hashes and eight stores, twice. Next and root together are 64 bits, which one store
 * publishes whole: a writer in word mode stores the word at every commit, and the slots at flush and close. The flag
 * WORD in the file says that the word is ahead of the slots, or the same; the epoch changes whenever a reader that
 * goes by the word alone must look at everything again. The sequences that would break it, and why they can't:
 *   - a writer dies, and the next one knows the slots alone: cells that readers have seen would be used again. WORD is
 *     one of the flags that a writer must know; the word is adopted where the slots would be, under the same
 *     conditions (mark, binding, no SUSPECT), and its next index counts where they don't hold.
 *   - the next writer falls back to the disk-sync root, and dies between binding its slots and taking back WORD: the
 *     word would bring the root back. In word mode the adopted state is stored as the word before anything is bound.
 *     A writer by slots publishes it unbound, takes back WORD, changes the epoch, and binds. It never stores the word:
 *     without a window that is a write, of which a reader that maps the file might find a part.
 *   - a reader goes by a word that nobody will store to again: the next writer publishes by slots; the file was
 *     replaced; the writer closed. Each ends with another epoch. A reader loads the word, then the epoch, both with
 *     acquire: if it finds a word of a new writer it finds that one's epoch, or a later one, because the epoch is
 *     stored before.
 *   - a reader looks at flags, slots and word while a writer closes, dies and is followed by another, or truncates: it
 *     reads the epoch before them all and goes by the word only where it is the same after. So RETIRED, whose key the
 *     slots have, and the word are of one epoch, or what has changed since changes the epoch, too, and the reader looks
 *     again: now, or when it looks at the word. WORD is cleared before the epoch changes and set after: whoever finds
 *     WORD set with a new epoch found a word that is stored to. Whoever finds it clear reads the slots after that, and
 *     they say what the last word said.
 *   - a writer dies between clearing WORD and changing the epoch: a file whose epoch is not 0 gets another one at
 *     every opening.
 *   - the power fails: the word on the disk may be older or newer than the slots there, or of another time than the
 *     flag. Then it only counts cells, as far as the file has them.
 *   - the original opens the file after a death: it knows the slots alone and may use the cells of later words again.
 *     A writer in word mode is for files that Cellar opens first; a clean close leaves the slots at the last word.
 *
 * What is stored and loaded, as header.c has it for slots: word, epoch and flags are stored with memory_order_release
 * and loaded with memory_order_acquire. Epoch and flags are stored by who opens, closes or truncates, when nobody
 * commits or flushes; the word by the appending thread, the slots of a flush by any other, beside it.
 *   - Cells. They are stored before the word that counts them, by one thread: whoever has found the word reads them
 *     after that.
 *   - Slots. Who flushes has loaded the committed state, with acquire, which was stored after the word: whoever has
 *     found a slot of that state finds its word, or a later one. So the word that is read after the slots says no less
 *     than they do; what else the two threads store has no order, and needs none.
 *   - No way back. Stores into the word have one order, and a reader that has found one finds no older one after it. It
 *     goes from the word to the slots only when it has found another epoch, or WORD clear: they are stored after slots
 *     that say what the last word said. And from slots to a word: see above.
 * tests/threads/model_word.c tries every moment for every load.
 *
 * A key that was the last writer's would let the binding hold for what another program did in between: word mode wants
 * a fresh one.
 */
#ifndef CELLAR_CELL_WORD_H
#define CELLAR_CELL_WORD_H

#include "base/check.h"
#include "cell/header.h"
#include "cell/header_store.h"
#include "format/format.h"

#include <stdatomic.h>

/* A writer begins, after its marks; the epoch as it stands in the file. */
void cellar_header_start_words(struct cellar_header *header, uint32_t epoch);

/* The slots say what the word says, or what counts more. wanted: word mode begins, or goes on with another writer; else
 * it ends. Under the writer's flush lock. */
int cellar_header_switch_words(struct cellar_header *header, bool wanted);

/* The file was replaced, and RETIRED says so: readers that go by the word look again. */
int cellar_header_end_epoch(struct cellar_header *header);

/* What a reader goes by. */
struct cellar_word {
    uint64_t word, epoch; /* as they stand in the file */
    bool followed;        /* the writer is in word mode, in that epoch */
};

/*
 * A reader looks at everything: begin_look, the slots, end_look. begin: the flags, and in *ret_word whether they say
 * that there is a word to follow, with the epoch from before them. Errors of the device.
 */
int cellar_header_begin_look(const struct cellar_header *header, uint32_t *ret_flags, struct cellar_word *ret_word);

/* Where the word is to be followed. 0: *ret_state is the word's, at least as new as the slots. -EAGAIN: the epoch is
 * another one, flags and slots may be of before. -ENOTSUP: without a window eight bytes may be read in two pieces. */
int cellar_header_end_look(const struct cellar_header *header, struct cellar_word *word,
                           struct cellar_state *ret_state);

/* Root, then next, in the file's order of bytes; and the other way. */
static inline uint64_t cellar_word_turn(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return word;
#else
    return __builtin_bswap64(word);
#endif
}

static inline uint64_t cellar_word_of(uint32_t next_index, uint32_t root_index)
{
    return cellar_word_turn((uint64_t)next_index << 32 | root_index);
}

static inline struct cellar_state cellar_word_state(uint64_t word)
{
    uint64_t turned = cellar_word_turn(word);

    return (struct cellar_state){.next_index = (uint32_t)(turned >> 32), .root_index = (uint32_t)turned};
}

/* The commit of a writer in word mode, cells before: one store. No system call, no hash. With a window. */
static inline void cellar_header_commit_word(const struct cellar_header *header, uint32_t next_index,
                                             uint32_t root_index)
{
    uint64_t word = cellar_word_of(next_index, root_index);

    cellar_header_store_window(header->window, CELLAR_AT_WORD, &word, sizeof word);
}

static inline uint64_t cellar_word_load(const unsigned char *at)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
}

/* Looks at the word. 0: it is another one, *ret_state and *word are set. CELLAR_NONE: the same. CELLAR_ERETIRED:
 * another epoch, look at everything. With a window, and only where followed. */
static inline int cellar_header_look_at_word(const struct cellar_header *header, struct cellar_word *word,
                                             struct cellar_state *ret_state)
{
    uint64_t now = cellar_word_load(header->window + CELLAR_AT_WORD);

    if (CELLAR_UNLIKELY(cellar_word_load(header->window + CELLAR_AT_EPOCH) != word->epoch))
        return CELLAR_ERETIRED;
    if (now == word->word)
        return CELLAR_NONE;
    word->word = now;
    *ret_state = cellar_word_state(now);
    return 0;
}

/* Whether a slot of a window is still what was seen there, byte for byte, and these flags are clear. */
static inline bool cellar_header_is_quiet(const struct cellar_header *header, const unsigned char *slot,
                                          const struct cellar_seen *seen, uint32_t flags)
{
    uint64_t found = cellar_word_load(header->window + CELLAR_AT_FLAGS);
    uint64_t differs = cellar_load_le32(&found) & flags;

    for (int i = 0; i < CELLAR_SLOT_BYTES / 8; i++)
        differs |= seen->words[i] ^ cellar_word_load(slot + 8 * (size_t)i);
    return differs == 0;
}

#endif
