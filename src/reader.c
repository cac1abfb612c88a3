/*
 * reader.c - a reader stands at a state and moves when it is asked to. Nothing here writes, locks, or waits for a
 * writer.
 */
#include "base/diagnose.h"
#include "device/file.h"
#include "store_internal.h"
#include "sum/sum_look.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* So often a reader looks when writers begin and end word mode one after the other; each look costs them an opening. */
enum { WORD_LOOKS_MAX = 1000 };

CELLAR_COLD int cellar_reader_note(struct cellar_reader *reader, int error)
{
    if (error < 0 && reader->diagnostic.error != error)
        cellar_diagnose(&reader->diagnostic, error, reader->path, CELLAR_OFFSET_NONE, "can't read the store: %s",
                        cellar_strerror(error));
    return error;
}

static enum cellar_pair pair_of(const struct cellar_reader *reader)
{
    return reader->has_key ? CELLAR_PAIR_PROCESS : CELLAR_PAIR_DISK;
}

static uint64_t needed_bytes(const struct cellar_reader *reader, uint32_t next_index)
{
    return (uint64_t)next_index * reader->config.bytes_per_cell;
}

/* Asks for the file's size where it doesn't reach by what is known. */
static int learn_size(struct cellar_reader *reader, uint64_t needed)
{
    if (needed <= reader->file_bytes)
        return 0;
    return cellar_ground_file_bytes(reader->ground.device, &reader->config, &reader->file_bytes);
}

/* Whether the cells of a state are where they can be read. */
static int check_reach(struct cellar_reader *reader, const struct cellar_state *state)
{
    uint64_t needed = needed_bytes(reader, state->next_index);
    int error;

    if (state->next_index < cellar_start_index(reader->config.bytes_per_cell))
        return cellar_diagnose(&reader->diagnostic, CELLAR_ECORRUPT, reader->path, CELLAR_OFFSET_NONE,
                               "found next index %" PRIu32 ", expected at least the first usable cell, %" PRIu32,
                               state->next_index, cellar_start_index(reader->config.bytes_per_cell));
    error = learn_size(reader, needed);
    if (error != 0)
        return error;
    if (needed > reader->file_bytes)
        return cellar_diagnose(&reader->diagnostic, CELLAR_ECORRUPT, reader->path, reader->file_bytes,
                               "found the end of the file, expected cells up to next index %" PRIu32,
                               state->next_index);
    if (reader->ground.window != NULL && needed > reader->ground.window_bytes)
        return cellar_diagnose(&reader->diagnostic, CELLAR_EWINDOW, reader->path, CELLAR_OFFSET_NONE,
                               "next index %" PRIu32 " lies beyond the window of %" PRIu64 " bytes", state->next_index,
                               reader->ground.window_bytes);
    return 0;
}

/* A look at everything begins: *ret_word is how the writer publishes. CELLAR_ERETIRED. */
static int begin_look(struct cellar_reader *reader, struct cellar_word *ret_word)
{
    struct cellar_word word;
    uint32_t flags = 0;
    int error = cellar_header_begin_look(&reader->ground.header, &flags, &word);

    if (error != 0)
        return error;
    if ((flags & CELLAR_FLAG_RETIRED) == 0)
        reader->retired_before = false;
    else if (!reader->retired_before)
        return cellar_diagnose(&reader->diagnostic, CELLAR_ERETIRED, reader->path, CELLAR_AT_FLAGS,
                               "the store was truncated: another file is in its place, open it again");
    *ret_word = word;
    return 0;
}

/*
 * The look ends, with a writer that publishes by the word: *state, which is what the slots say, becomes what it says. A
 * word beyond the file is of no writer that is there: a power loss left it, and the slots count. -EAGAIN: look again.
 */
static int end_look(struct cellar_reader *reader, struct cellar_word *word, struct cellar_state *state)
{
    struct cellar_state published;
    int result = cellar_header_end_look(&reader->ground.header, word, &published);

    if (result == -ENOTSUP)
        return cellar_diagnose(
            &reader->diagnostic, result, reader->path, CELLAR_AT_FLAGS,
            "found a writer that publishes by the word, or died while it did; a reader without a window "
            "can't follow that");
    if (result == 0)
        result = learn_size(reader, needed_bytes(reader, published.next_index));
    if (result != 0)
        return result;
    word->followed = needed_bytes(reader, published.next_index) <= reader->file_bytes;
    if (word->followed && published.next_index >= state->next_index)
        *state = published;
    return 0;
}

/* What disk sync says now: cellar_header_look. After a power loss the pair may say less than a record. */
static int look_at_disk(const struct cellar_reader *reader, struct cellar_seen *seen, struct cellar_state *ret_state)
{
    enum cellar_key_verdict verdict;
    int result = cellar_header_look(&reader->ground.header, CELLAR_PAIR_DISK, NULL, seen, ret_state, &verdict);

    if (reader->recorded.next_index == 0)
        return result;
    if (result == CELLAR_ECORRUPT ||
        (result == 0 && reader->recorded_over && ret_state->next_index < reader->recorded.next_index)) {
        *ret_state = reader->recorded;
        return 0;
    }
    return result;
}

/* What its pair says now, in the same way; or disk sync where the pair's slots are lost. */
static int look(const struct cellar_reader *reader, struct cellar_seen *seen, struct cellar_state *ret_state)
{
    struct cellar_seen disk = {.any = false};
    enum cellar_key_verdict verdict;
    int result;

    if (!reader->has_key)
        return look_at_disk(reader, seen, ret_state);
    result = cellar_header_look(&reader->ground.header, CELLAR_PAIR_PROCESS, NULL, seen, ret_state, &verdict);
    return result == 0 && cellar_reader_is_lost(reader, seen) ? look_at_disk(reader, &disk, ret_state) : result;
}

/* Takes the state that its pair says now, or the word, which is followed where word says so. See
 * cellar_reader_refresh. -EAGAIN: look again. */
static int move_on(struct cellar_reader *reader, struct cellar_word word)
{
    struct cellar_seen seen = reader->seen;
    struct cellar_state state;
    int result;

    if (word.followed || reader->word.followed || cellar_reader_is_lost(reader, &seen))
        seen.any = false; /* the state is wanted, also where the slots are the same */
    result = look(reader, &seen, &state);
    if (cellar_reader_is_lost(reader, &seen) || cellar_reader_is_lost_word(reader, &word))
        word.followed = false;
    if (result == CELLAR_ECORRUPT)
        return cellar_diagnose(
            &reader->diagnostic, result, reader->path, cellar_slot_offset((enum cellar_slot_name)pair_of(reader)),
            "found two broken %s-sync slots, expected one whose hash holds", reader->has_key ? "process" : "disk");
    if (result == CELLAR_NONE)
        reader->seen = seen; /* the same state, perhaps in the other slot */
    if (result == 0 && word.followed)
        result = end_look(reader, &word, &state);
    if (result != 0)
        return result;
    result = check_reach(reader, &state);
    if (result != 0)
        return result;
    if (state.next_index < reader->floor_next)
        return cellar_diagnose(&reader->diagnostic, CELLAR_ECORRUPT, reader->path,
                               cellar_slot_offset((enum cellar_slot_name)pair_of(reader)) + CELLAR_SLOT_AT_NEXT,
                               "found next index %" PRIu32 ", expected at least %" PRIu32 ": it never goes back",
                               state.next_index, reader->floor_next);
    if (state.next_index > reader->cached_next) {
        cellar_cells_forget(&reader->ground.cells, needed_bytes(reader, reader->cached_next));
        reader->cached_next = state.next_index;
    }
    reader->seen = seen;
    reader->word = word;
    reader->floor_next = state.next_index;
    if (!reader->has_key)
        reader->flushed_next = state.next_index;
    if (state.next_index == reader->state.next_index && state.root_index == reader->state.root_index)
        return CELLAR_NONE;
    reader->state = state;
    return 0;
}

/* The same by the word alone. CELLAR_ERETIRED: look at everything. */
static int follow_word(struct cellar_reader *reader)
{
    struct cellar_word word = reader->word;
    struct cellar_state state;
    int result = cellar_header_look_at_word(&reader->ground.header, &word, &state);
    uint64_t needed;

    if (result != 0)
        return result;
    needed = needed_bytes(reader, state.next_index);
    if (state.next_index < reader->floor_next || needed > reader->file_bytes || needed > reader->ground.window_bytes)
        return CELLAR_ERETIRED;
    reader->word = word;
    reader->floor_next = state.next_index;
    reader->state = state;
    return 0;
}

static int refresh(struct cellar_reader *reader)
{
    int result = -EAGAIN;

    for (int look = 0; look < WORD_LOOKS_MAX && result == -EAGAIN; look++) {
        struct cellar_word word;

        result = begin_look(reader, &word);
        if (result != 0)
            break;
        word.followed = word.followed && reader->has_key;
        result = move_on(reader, word);
    }
    return result;
}

/* By what the next refresh can tell at once that there is nothing new. */
static void learn_quiet(struct cellar_reader *reader)
{
    const unsigned char *window = reader->ground.window;
    bool known = window != NULL && !reader->retired_before && !reader->word.followed && reader->seen.any &&
                 reader->seen.slot == 0 && !cellar_reader_is_lost(reader, &reader->seen);

    reader->quiet_slot = known ? window + cellar_slot_offset((enum cellar_slot_name)pair_of(reader)) : NULL;
    reader->quiet_flags = CELLAR_FLAG_RETIRED | (reader->has_key ? CELLAR_FLAG_WORD : 0u);
}

int cellar_reader_refresh(struct cellar_reader *reader)
{
    int error;

    if (CELLAR_UNLIKELY(cellar_forked(reader->fork_page)))
        return cellar_reader_note(reader, CELLAR_EFORKED);
    if (reader->quiet_slot != NULL) {
        if (CELLAR_LIKELY(
                cellar_header_is_quiet(&reader->ground.header, reader->quiet_slot, &reader->seen, reader->quiet_flags)))
            return CELLAR_NONE;
    } else if (reader->word.followed) {
        int result = follow_word(reader);

        if (CELLAR_LIKELY(result != CELLAR_ERETIRED))
            return result;
    }
    error = cellar_reader_note(reader, refresh(reader));
    learn_quiet(reader);
    return error;
}

/* A writer that died in a truncate may have left no mark: the new store has the name all the same. */
static CELLAR_COLD int check_name(struct cellar_reader *reader)
{
    int error = cellar_file_check_name(reader->ground.device, reader->real_path);

    if (error == CELLAR_NONE)
        return cellar_diagnose(&reader->diagnostic, CELLAR_ERETIRED, reader->path, CELLAR_OFFSET_NONE,
                               "another file is in the store's place, open it again");
    return error;
}

static CELLAR_COLD int check(struct cellar_reader *reader)
{
    struct cellar_word word;
    uint64_t file_bytes;
    int error;

    if (cellar_forked(reader->fork_page))
        return CELLAR_EFORKED;
    error = cellar_ground_file_bytes(reader->ground.device, &reader->config, &file_bytes);
    if (error != 0)
        return error;
    if (file_bytes < needed_bytes(reader, reader->state.next_index))
        return cellar_diagnose(&reader->diagnostic, CELLAR_ECORRUPT, reader->path, file_bytes,
                               "found the end of the file, expected cells up to next index %" PRIu32
                               ": the file was cut",
                               reader->state.next_index);
    error = begin_look(reader, &word);
    return error == 0 && reader->real_path != NULL ? check_name(reader) : error;
}

CELLAR_COLD int cellar_reader_check(struct cellar_reader *reader)
{
    return cellar_reader_note(reader, check(reader));
}

/* ---- opening ---- */

static CELLAR_COLD void free_reader(struct cellar_reader *reader, bool forked)
{
    cellar_ground_close(&reader->ground, forked);
    cellar_sum_close(reader->sums, forked);
    free(reader->path);
    free(reader->real_path);
    free(reader);
}

CELLAR_COLD void cellar_reader_close(struct cellar_reader *reader)
{
    if (reader != NULL)
        free_reader(reader, cellar_forked(reader->fork_page));
}

static CELLAR_COLD int new_reader(const char *path, const struct cellar_reader_options *options,
                                  struct cellar_reader **ret_reader)
{
    struct cellar_reader *reader;
    int error = cellar_ground_check_choice(options->device);

    if (error != 0 || options->access < CELLAR_ACCESS_DEFAULT || options->access > CELLAR_ACCESS_RANDOM)
        return -EINVAL;
    reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return -ENOMEM;
    reader->diagnostic.file_offset = CELLAR_OFFSET_NONE;
    if (path != NULL && (reader->path = strdup(path)) == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = cellar_fork_page_take(&reader->fork_page);
    reader->ground.fork_page = reader->fork_page;
    if (error != 0) {
        free(reader->path);
        free(reader);
        return error;
    }
    *ret_reader = reader;
    return 0;
}

/* The reader stands at the disk-sync state, and with a key at the process-sync one. */
static CELLAR_COLD int settle(struct cellar_reader *reader, const struct cellar_reader_options *options)
{
    struct cellar_word word;
    int error = begin_look(reader, &word);

    cellar_reader_disable_process_sync(reader); /* nothing is left of a file that was replaced while it was opened */
    reader->state.next_index = reader->cached_next = 0;
    /* A mark on the file that the path names is of an old truncate of another name: this is the store that is meant. */
    if (error == CELLAR_ERETIRED &&
        (!reader->ground.owned || cellar_file_is_at(reader->ground.device, reader->path) == 0)) {
        reader->retired_before = true;
        error = 0;
    }
    if (error == 0)
        error = move_on(reader, (struct cellar_word){.followed = false});
    if (error == 0 && options->key != NULL)
        error = cellar_reader_enable_process_sync(reader, options->key);
    if (error == 0 && options->key != NULL)
        error = refresh(reader);
    return error > 0 ? 0 : error;
}

/* Looks at a page that was loaded; on any thread. */
static int validate(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct cellar_reader *reader = user;

    (void)version;
    return cellar_sum_verify(reader->sums, reader->ground.device, page_address, bytes, length);
}

/* Finds the checksums, before the first page is loaded. */
static CELLAR_COLD int begin_verify(struct cellar_reader *reader)
{
    static const struct cellar_cache_hooks hooks = {.validate = validate};
    struct cellar_sum_look look;
    int error;

    if (reader->path == NULL)
        return cellar_diagnose(&reader->diagnostic, -ENOTSUP, NULL, CELLAR_OFFSET_NONE,
                               "a store on a device has no checksums beside it");
    error = cellar_sum_look(reader->path, reader->ground.device, false, &reader->diagnostic, &look);
    if (error != 0)
        return error;
    if (look.state == CELLAR_SUMS_NONE)
        return cellar_diagnose(&reader->diagnostic, -ENOTSUP, reader->path, CELLAR_OFFSET_NONE,
                               "the store was made without checksums");
    if (look.file == NULL) {
        reader->diagnostic = look.why;
        return look.why.error;
    }
    reader->sums = look.file;
    reader->sums_state = look.state;
    reader->ground.hooks = &hooks;
    reader->ground.hooks_user = reader;
    return 0;
}

/* The state of a checked flush that no slot says, after a power loss. */
static CELLAR_COLD int find_recorded(struct cellar_reader *reader, const unsigned char header[CELLAR_HEADER_BYTES])
{
    struct cellar_evidence evidence;
    struct cellar_pick pick;
    int error = cellar_evidence_gather(reader->ground.device, header, reader->config.bytes_per_cell,
                                       reader->file_bytes / reader->config.bytes_per_cell, true, &evidence);

    reader->recorded = (struct cellar_state){.next_index = 0};
    if (error == 0 && cellar_pick_disk(&evidence, &pick, NULL) == 0 && pick.record >= 0) {
        reader->recorded = pick.disk;
        reader->recorded_over = pick.disk_in_force >= 0;
    }
    return error;
}

/* What lies on reader->ground.device. CELLAR_NONE: no window, and the caller wants another device then. */
static CELLAR_COLD int adopt(struct cellar_reader *reader, const struct cellar_reader_options *options,
                             bool pages_allowed)
{
    unsigned char header[CELLAR_HEADER_BYTES];
    int error = cellar_ground_examine(reader->ground.device, reader->path, header, &reader->config, &reader->file_bytes,
                                      &reader->diagnostic);

    if (error == 0)
        error = find_recorded(reader, header);
    if (error == 0)
        error = cellar_ground_map(&reader->ground, &reader->config, options->window_bytes, options->device, false);
    if (error == 0 && reader->ground.window == NULL && !pages_allowed)
        error = CELLAR_NONE;
    if (error == 0 && options->verify)
        error = begin_verify(reader);
    if (error == 0)
        error =
            cellar_ground_open(&reader->ground, reader->config.bytes_per_cell, options->cache_bytes, false, 0, false);
    return error == 0 ? settle(reader, options) : error;
}

static CELLAR_COLD int open_as(struct cellar_reader *reader, const struct cellar_reader_options *options)
{
    enum cellar_file_kind kind = cellar_ground_kind(options->device);
    int flags = CELLAR_OPEN_READ | (options->access == CELLAR_ACCESS_RANDOM ? CELLAR_OPEN_RANDOM : 0);
    struct cellar_device *device;
    int error = cellar_file_open(reader->path, flags, 0, kind, &device);

    if (error != 0)
        return cellar_ground_refuse_file(error, reader->path, kind, &reader->diagnostic);
    error = cellar_ground_place(&reader->ground, device, true);
    if (error != 0)
        return error;
    error = adopt(reader, options, kind != CELLAR_FILE_MAPPED || options->device == CELLAR_DEVICE_MAPPED);
    if (error == CELLAR_ERETIRED)
        error = -ESTALE; /* replaced between our open and now: the path names the new store */
    if (error == 0 && (reader->real_path = realpath(reader->path, NULL)) == NULL && errno == ENOMEM)
        error = -ENOMEM; /* where it can't be told, check looks at no name */
    if (error != 0) {
        cellar_ground_close(&reader->ground, false);
        cellar_sum_close(reader->sums, false);
        reader->sums = NULL;
    }
    return error;
}

/* Ends an opening that failed: the diagnostic goes to the caller. */
static CELLAR_COLD int refuse(struct cellar_reader *reader, int error, const char *path,
                              const struct cellar_reader_options *options)
{
    struct cellar_diagnostic diagnostic = {.file_offset = CELLAR_OFFSET_NONE};

    if (reader != NULL) {
        diagnostic = reader->diagnostic;
        free_reader(reader, false);
    }
    if (diagnostic.error != error)
        cellar_diagnose(&diagnostic, error, path, CELLAR_OFFSET_NONE, "can't open for read: %s",
                        cellar_strerror(error));
    if (options->diagnostic != NULL)
        *options->diagnostic = diagnostic;
    return error;
}

static const struct cellar_reader_options default_options;

CELLAR_COLD int cellar_reader_open(const char *path, const struct cellar_reader_options *options,
                                   struct cellar_reader **ret_reader)
{
    struct cellar_reader *reader = NULL;
    struct cellar_reader_options wanted = options != NULL ? *options : default_options;
    int error = new_reader(path, &wanted, &reader);

    if (error != 0)
        return refuse(reader, error, path, &wanted);
    if (wanted.verify && wanted.device == CELLAR_DEVICE_MAPPED)
        return refuse(reader, -EINVAL, path, &wanted);
    if (wanted.verify && wanted.device == CELLAR_DEVICE_AUTO)
        wanted.device = CELLAR_DEVICE_PAGES;
    for (int attempt = 0; attempt < CELLAR_OPEN_ATTEMPTS_MAX; attempt++) {
        error = open_as(reader, &wanted);
        if (error == CELLAR_NONE)
            wanted.device = CELLAR_DEVICE_PAGES;
        else if (error != -ESTALE)
            break;
    }
    if (error == 0) {
        *ret_reader = reader;
        return 0;
    }
    return refuse(reader, error, path, &wanted);
}

CELLAR_COLD int cellar_reader_open_on(struct cellar_device *device, const struct cellar_reader_options *options,
                                      struct cellar_reader **ret_reader)
{
    struct cellar_reader *reader = NULL;
    struct cellar_reader_options wanted = options != NULL ? *options : default_options;
    int error = new_reader(NULL, &wanted, &reader);

    if (error == 0)
        error = cellar_ground_place(&reader->ground, device, false);
    if (error == 0)
        error = adopt(reader, &wanted, true);
    if (error != 0)
        return refuse(reader, error, NULL, &wanted);
    *ret_reader = reader;
    return 0;
}

/* ---- accessors ---- */

const struct cellar_diagnostic *cellar_reader_diagnostic(const struct cellar_reader *reader)
{
    return &reader->diagnostic;
}

CELLAR_COLD void cellar_reader_info(const struct cellar_reader *reader, struct cellar_info *ret_info)
{
    *ret_info = (struct cellar_info){
        .mode = CELLAR_MODE_READER,
        .data_path = reader->ground.window != NULL ? CELLAR_PATH_WINDOW : CELLAR_PATH_PAGES,
        .device_name = cellar_device_name(reader->ground.device),
        .path = reader->path,
        .config = reader->config,
        .start_index = cellar_start_index(reader->config.bytes_per_cell),
        .next_index = reader->state.next_index,
        .root_index = reader->state.root_index,
        .flushed_next_index = reader->flushed_next,
        .size_bytes = needed_bytes(reader, reader->state.next_index),
        .file_bytes = reader->file_bytes,
        .window_bytes = reader->ground.window_bytes,
        .has_key = reader->has_key,
        .other_writer = cellar_reader_follows_another(reader),
        .publish = reader->word.followed ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS,
        .sums = reader->sums_state,
    };
    if (reader->sums != NULL) {
        ret_info->verified_pages = atomic_load_explicit(&reader->sums->verified, memory_order_relaxed);
        ret_info->unverified_pages = atomic_load_explicit(&reader->sums->unverified, memory_order_relaxed);
    }
}

struct cellar_snapshot cellar_reader_snapshot(struct cellar_reader *reader)
{
    return cellar_ground_snapshot(&reader->ground, reader->config.bytes_per_cell, &reader->state);
}
