/*
 * reader_key.c - readers that follow commits: whose key it is, and slots that nobody stands behind any more.
 *
 * What was committed and not flushed is in the system's caches alone. A power loss may leave the process-sync slots
 * that count it, and the published word, and not its cells; the next writer skips these, and goes back to disk sync's
 * root. So a reader that comes in between, and finds the mark of another boot, goes by disk sync for as long as process
 * sync says byte for byte what it found: a writer that opens the store publishes, and until it does nothing is new. (A
 * slot that a new writer published and the reader has for lost says what disk sync says: such a writer makes both the
 * same before it publishes.) The word says nothing until its epoch is another.
 */
#include "base/bytes.h"
#include "base/diagnose.h"
#include "device/device.h"
#include "store_internal.h"

#include <string.h>

/* The process-sync pair's verdict on a key, fresh. */
static int judge_key(struct cellar_reader *reader, const struct cellar_key *key)
{
    struct cellar_seen seen = {.any = false};
    enum cellar_key_verdict verdict;
    struct cellar_state state;
    int error;

    if (cellar_forked(reader->fork_page))
        return CELLAR_EFORKED;
    error = cellar_header_look(&reader->ground.header, CELLAR_PAIR_PROCESS, key, &seen, &state, &verdict);
    if (error == CELLAR_ECORRUPT)
        return cellar_diagnose(&reader->diagnostic, error, reader->path, cellar_slot_offset(CELLAR_PROCESS_1),
                               "found two broken process-sync slots, expected one whose hash holds");
    if (error == 0 && verdict != CELLAR_KEY_GOOD)
        return cellar_diagnose(&reader->diagnostic, CELLAR_EBADKEY, reader->path,
                               cellar_slot_offset(CELLAR_PROCESS_1) + CELLAR_SLOT_AT_KEYED_HASH,
                               "found the hash of another key, expected that of the one given");
    return error;
}

int cellar_reader_check_key(struct cellar_reader *reader, const struct cellar_key *key)
{
    return cellar_reader_note(reader, judge_key(reader, key));
}

/*
 * Notes what another boot left. Where the device can't tell that is taken as it stands, as without a mark. The mark is
 * read last: a writer that opens the store meanwhile stores its own before it publishes.
 */
static int find_lost(const struct cellar_reader *reader, struct cellar_lost *ret_lost)
{
    struct cellar_device *device = reader->ground.device;
    struct cellar_lost lost;
    unsigned char bytes[8];
    uint64_t now, marked;
    struct cellar_word word;
    uint32_t flags;
    int error = cellar_header_begin_look(&reader->ground.header, &flags, &word);

    if (error == 0)
        error = cellar_device_read(device, lost.slots, sizeof lost.slots, cellar_slot_offset(CELLAR_PROCESS_1));
    if (error == 0)
        error = cellar_device_read(device, bytes, sizeof bytes, CELLAR_AT_BOOT_MARK);
    if (error != 0)
        return error;
    lost.epoch = word.epoch;
    marked = cellar_load_le64(bytes);
    lost.any = marked != 0 && cellar_device_incarnation(device, &now) == 0 && now != 0 && marked >> 32 != now >> 32;
    *ret_lost = lost;
    return 0;
}

bool cellar_reader_is_lost(const struct cellar_reader *reader, const struct cellar_seen *seen)
{
    const struct cellar_lost *lost = &reader->lost;

    return lost->any && seen->any &&
           (memcmp(seen->words, lost->slots[0], CELLAR_SLOT_BYTES) == 0 ||
            memcmp(seen->words, lost->slots[1], CELLAR_SLOT_BYTES) == 0);
}

bool cellar_reader_is_lost_word(const struct cellar_reader *reader, const struct cellar_word *word)
{
    return reader->lost.any && word->epoch == reader->lost.epoch;
}

/* From the next refresh on. */
static void look_anew(struct cellar_reader *reader, bool has_key)
{
    reader->has_key = has_key;
    reader->seen.any = false;
    reader->quiet_slot = NULL;
    reader->word.followed = false;
    reader->floor_next = 0;
}

int cellar_reader_enable_process_sync(struct cellar_reader *reader, const struct cellar_key *key)
{
    struct cellar_lost lost;
    int error = judge_key(reader, key);

    if (error == 0)
        error = find_lost(reader, &lost);
    if (error != 0)
        return cellar_reader_note(reader, error);
    reader->key = *key;
    reader->lost = lost;
    look_anew(reader, true);
    return 0;
}

void cellar_reader_disable_process_sync(struct cellar_reader *reader)
{
    reader->lost.any = false;
    look_anew(reader, false);
}

bool cellar_reader_follows_another(const struct cellar_reader *reader)
{
    struct cellar_seen seen = {.any = false};
    enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;
    struct cellar_state state;

    if (!reader->has_key || !reader->seen.any || cellar_slot_has_key(reader->seen.words, &reader->key))
        return false;
    return cellar_header_look(&reader->ground.header, CELLAR_PAIR_PROCESS, &reader->key, &seen, &state, &verdict) ==
               0 &&
           verdict == CELLAR_KEY_BAD;
}
