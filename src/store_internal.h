/* store_internal.h - what the files of the store share: its handles. */
#ifndef CELLAR_STORE_INTERNAL_H
#define CELLAR_STORE_INTERNAL_H

#include "base/fork.h"
#include "cell/ahead.h"
#include "cell/alloc.h"
#include "cell/cells.h"
#include "cell/header.h"
#include "cell/header_pick.h"
#include "cell/record.h"
#include "cell/word.h"
#include "device/file.h"
#include "format/format.h"
#include "sum/sum_file.h"

#include <cellar/store.h>
#include <pthread.h>
#include <stdatomic.h>

/* So often an opener looks again when the path names another file by the time it is locked. */
enum { CELLAR_OPEN_ATTEMPTS_MAX = 100 };

/* A file (or a device of the caller's) and the ways into it: what truncate replaces as a whole. */
struct cellar_ground {
    struct cellar_device *device; /* byte-addressed */
    bool owned;                   /* a file of the library's own */
    bool wrapped;                 /* a device in bytes over one of the caller's, which stays open */
    void *window;                 /* NULL: the pages path */
    uint64_t window_bytes;
    struct cellar_header header;
    struct cellar_cells cells;
    const struct cellar_fork_page *fork_page; /* the handle's */
    bool header_ready, cells_ready;
    bool locked;                            /* the writer's lock is this handle's */
    const struct cellar_cache_hooks *hooks; /* of the reader's cache; NULL: none */
    void *hooks_user;
};

/* Cells not yet committed that were lent for filling in place on the pages path. */
struct cellar_reservation {
    struct cellar_reservation *next;
    uint32_t first_index;
    size_t length_bytes;
    unsigned char bytes[];
};

struct cellar_writer {
    struct cellar_ground *ground; /* never moves: it holds mutexes */
    char *path;                   /* as given; NULL on a device of the caller's */
    char *real_path;              /* absolute, without links: what truncate renames over */
    const struct cellar_fork_page *fork_page;
    struct cellar_config config;
    struct cellar_key key;
    struct cellar_recovery recovery;
    struct cellar_alloc alloc; /* next is the appending thread's */
    struct cellar_ahead ahead;
    unsigned ahead_options; /* CELLAR_AHEAD_ bits */
    bool reads_around;      /* the system brings in pages before cells come to them; the appending thread's */
    int ahead_fd;           /* of the helper: an open file description of its own, or -1 */
    uint32_t root_index;
    uint32_t initial_cells;
    uint64_t resize_step_bytes, window_limit, cache_bytes;
    uint64_t gather_bytes; /* see struct cellar_writer_options; UINT64_MAX: never */
    unsigned eager_writes; /* on the pages path; 0: none */
    enum cellar_device_choice choice;
    unsigned file_mode;
    bool compat, two_barriers;
    bool words_wanted, words; /* publishes by word: wanted; and done, as there is a window */
    uint32_t sums_identity;   /* of the sums file; 0: the store has none */
    struct cellar_reservation *reservations;

    /* Between the appending thread and those that flush. */
    atomic_int poison;                 /* the first failed write or sync, or 0 */
    atomic_uint_fast64_t committed;    /* the state that readers with the key see: root << 32 | next */
    atomic_uint_fast64_t commits;      /* how many there were; stored after committed */
    atomic_uint_fast32_t flushed_next; /* cells below this are durable */
    pthread_mutex_t flush_lock;        /* over what follows */
    uint64_t flushed_commits;          /* the commit that is durable */
    uint32_t synced_next;              /* cells below this are durable */
    struct cellar_sum_file *sums;      /* NULL: none, or none that is extended */
    atomic_int sums_state, sums_error; /* see struct cellar_info */
    atomic_uint_fast64_t sums_renewed; /* the same */
};

/* Process sync as another boot left it: reader_key.c. */
struct cellar_lost {
    bool any;
    unsigned char slots[2][CELLAR_SLOT_BYTES];
    uint64_t epoch; /* of the word, as a load finds it */
};

struct cellar_reader {
    struct cellar_ground ground;
    char *path;      /* as given; NULL on a device of the caller's */
    char *real_path; /* absolute, without links: what truncate renames over; NULL: none, or it can't be told */
    const struct cellar_fork_page *fork_page;
    struct cellar_config config;
    struct cellar_key key;
    bool has_key;
    bool retired_before; /* the file was RETIRED when it was opened, and is what the path names: a second link to it */
    struct cellar_state state;
    struct cellar_state recorded; /* of a checked flush, what disk sync says at least; next 0: there is none */
    bool recorded_over;           /* also where a slot holds; else only where both are broken */
    uint32_t floor_next;          /* of the pair that is followed: it never goes back */
    uint32_t cached_next;         /* pages path: the highest next index that pages were cached under */
    uint32_t flushed_next;
    uint64_t file_bytes;
    struct cellar_lost lost;
    const unsigned char *quiet_slot; /* while it is what was seen, and these flags are clear, there is nothing new */
    uint32_t quiet_flags;
    struct cellar_seen seen;
    struct cellar_word word;      /* of a writer that publishes by it */
    struct cellar_sum_file *sums; /* with verify, else NULL */
    enum cellar_sums_state sums_state;
    struct cellar_diagnostic diagnostic;
};

/* ---- ground.c ---- */

/* An empty one, to be freed with free after its close. -ENOMEM. */
int cellar_ground_new(const struct cellar_fork_page *fork_page, struct cellar_ground **ret_ground);

/* Puts the ground on a device; one in blocks is made one in bytes. owned: it is closed with the ground, and where this
 * fails. -ENOMEM. */
int cellar_ground_place(struct cellar_ground *ground, struct cellar_device *device, bool owned);

/* True on devices whose size is not the store's: of fixed size, or in blocks. A file's length always is the store's. */
bool cellar_ground_has_slack(const struct cellar_device *device);

/* The bytes of the store's cells, as far as the device says: where it has slack, as many as it and max index allow. */
int cellar_ground_file_bytes(struct cellar_device *device, const struct cellar_config *config,
                             uint64_t *ret_file_bytes);

/* -EINVAL: no such choice. */
int cellar_ground_check_choice(enum cellar_device_choice choice);

/* What a choice opens files as. */
enum cellar_file_kind cellar_ground_kind(enum cellar_device_choice choice);

/* Says what is wrong with a file that could not be opened as that kind, where error alone does not. Returns error. */
int cellar_ground_refuse_file(int error, const char *path, enum cellar_file_kind kind,
                              struct cellar_diagnostic *diagnostic);

/* Header and cells over ground->device, with or without ground->window. */
int cellar_ground_open(struct cellar_ground *ground, uint32_t bytes_per_cell, uint64_t cache_bytes, bool writer,
                       unsigned eager_writes, bool compat);

/* Asks the device for the window that max_index needs, or as much as limit_bytes (0: no limit) and the system allow. 0,
 * also where there is none and choice allows that; -ENOTSUP where it doesn't; CELLAR_EWINDOW. */
int cellar_ground_map(struct cellar_ground *ground, const struct cellar_config *config, uint64_t limit_bytes,
                      enum cellar_device_choice choice, bool writable);

/* The cells below the state's next index, by whatever way the ground has. */
struct cellar_snapshot cellar_ground_snapshot(struct cellar_ground *ground, uint32_t bytes_per_cell,
                                              const struct cellar_state *state);

/* Ends all of it; the device too where it is owned. forked: leave the parent's locks alone. */
int cellar_ground_close(struct cellar_ground *ground, bool forked);

/* The header's 256 bytes and the file's length, checked as far as they say what a store is: length, config. Fills
 * *diagnostic. */
int cellar_ground_examine(struct cellar_device *device, const char *path, unsigned char header[CELLAR_HEADER_BYTES],
                          struct cellar_config *ret_config, uint64_t *ret_file_bytes,
                          struct cellar_diagnostic *diagnostic);

/* The text for a pick that failed. Returns CELLAR_ECORRUPT. */
int cellar_ground_refuse(const struct cellar_pick_problem *problem, const char *path,
                         struct cellar_diagnostic *diagnostic);

/* ---- writer_file.c ---- */

/* Writes the header of an empty store of the config to a device and makes it durable, then opens the ground over it.
 * *ret_file_bytes: its length. */
int cellar_ground_format(struct cellar_ground *ground, const struct cellar_writer *writer, uint32_t initial_cells,
                         uint64_t *ret_file_bytes);

/* A hidden file beside writer->real_path, formatted. */
int cellar_ground_create_hidden(struct cellar_ground *ground, const struct cellar_writer *writer,
                                uint32_t initial_cells, uint64_t *ret_file_bytes);

/* What the writer's options ask for; diagnostics are not kept. */
int cellar_writer_new(const char *path, const struct cellar_writer_options *options, struct cellar_writer **ret_writer);
void cellar_writer_free(struct cellar_writer *writer);

/* ---- writer_recover.c ---- */

/* Brings the ground's header, as it was found, to the state that was picked. */
int cellar_writer_recover(struct cellar_writer *writer, const unsigned char header[CELLAR_HEADER_BYTES],
                          const struct cellar_evidence *evidence, const struct cellar_pick *pick);

/* Fills writer->recovery. */
void cellar_writer_report(struct cellar_writer *writer, const struct cellar_pick *pick);

/* ---- writer_ahead.c ---- */

/* The handle stands at its alloc, on its ground: a helper may begin. */
void cellar_writer_ahead_begin(struct cellar_writer *writer);
/* It ends, and the handle knows all that it grew. Before the ground, or the file's length, becomes another. */
void cellar_writer_ahead_end(struct cellar_writer *writer, bool forked);

/* The appending thread has come to its mark: room for the next cell_count cells (> 0), and the next mark beyond them.
 * Errors as cellar_alloc_take; those that mean more than "no room" poison. */
int cellar_writer_make_room(struct cellar_writer *writer, uint64_t cell_count);

/* ---- writer_sums.c ---- */

/* The sums file of a store that was just formatted on ground, under its fresh name, durable; writer->sums_identity is
 * in the header. */
int cellar_writer_sums_begin(const struct cellar_writer *writer, const struct cellar_ground *ground,
                             struct cellar_sum_file **ret_file);

/* The store has its name: so gets the sums file, which is the writer's from here on. */
void cellar_writer_sums_use(struct cellar_writer *writer, struct cellar_sum_file *file);

/* Finds the sums file of the store that was opened, or says why not. Fails for lack of memory, and the device. */
int cellar_writer_sums_open(struct cellar_writer *writer);

/* Cells below next_index were made durable, and so were the slots that say so. Under flush_lock. */
void cellar_writer_sums_extend(struct cellar_writer *writer, uint32_t next_index);

/* flushed: everything is. */
void cellar_writer_sums_close(struct cellar_writer *writer, bool flushed, bool forked);

/* ---- reader.c ---- */

/* Every failure leaves a diagnostic: this one where no deeper place did. Returns error. */
int cellar_reader_note(struct cellar_reader *reader, int error);

/* ---- reader_key.c ---- */

/* Whether that is a process-sync slot which no writer stands behind. */
bool cellar_reader_is_lost(const struct cellar_reader *reader, const struct cellar_seen *seen);
/* The same of the word in that epoch. */
bool cellar_reader_is_lost_word(const struct cellar_reader *reader, const struct cellar_word *word);

/* Whether the slot that was followed last is of another key. Refresh has no use for that, and it is a hash more. A slot
 * seen half of one publication and half of another says nothing: then the pair is asked. */
bool cellar_reader_follows_another(const struct cellar_reader *reader);

/* ---- writer.c ---- */

/* Frees what was lent for filling in place. */
void cellar_writer_drop_reservations(struct cellar_writer *writer);

/*
 * The handle stands at this state, which is committed and not known to be durable: a writer before may have died, or
 * failed, between storing it and syncing it, or the file may be a fresh copy. So the first flush syncs all of it. Cells
 * below ready_index are really allocated.
 */
void cellar_writer_stand(struct cellar_writer *writer, const struct cellar_state *state, uint32_t ready_index,
                         uint64_t file_bytes);

/* The handle stands at the beginning of a store that was made just now, durably. */
void cellar_writer_stand_empty(struct cellar_writer *writer, uint64_t file_bytes);

/* FORKED, the poison, or 0. */
int cellar_writer_check(const struct cellar_writer *writer);

/* Keeps the first failure; returns error. */
int cellar_writer_poison(struct cellar_writer *writer, int error);

static inline uint64_t cellar_state_pack(const struct cellar_state *state)
{
    return (uint64_t)state->root_index << 32 | state->next_index;
}

static inline struct cellar_state cellar_state_unpack(uint64_t word)
{
    return (struct cellar_state){.next_index = (uint32_t)word, .root_index = (uint32_t)(word >> 32)};
}

#endif
