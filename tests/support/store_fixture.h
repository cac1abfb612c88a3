/*
 * store_fixture.h - stores for the tests of the store, on every way that bytes can go: a mapped file, a file by pread
 * and pwrite, one by O_DIRECT, the memory device with and without its window, one in blocks and of fixed size, and an
 * NBD server.
 *
 *     static void test_something(void **state)
 *     {
 *         struct store_fixture *f = *state;
 *         struct cellar_writer *writer = store_new(f, 32, 1000);
 *         ...
 *         store_close(writer);
 *     }
 *     const struct CMUnitTest tests[] = {STORE_ON_ALL(test_something)};
 *
 * What the fixture itself cannot do fails the test. A test closes what it opened. The environment variable
 * CELLAR_TEST_WAYS, names of ways with commas between, lets those run and no others; the names stand in
 * store_fixture.c. Without it all run but those that must be asked for (nbd). At its end a program says which ways ran.
 */
#ifndef CELLAR_TESTS_STORE_FIXTURE_H
#define CELLAR_TESTS_STORE_FIXTURE_H

#include "device_fault.h"
#include "support.h"

#include "format/format.h"

#include <cellar/store.h>

struct store_way {
    const char *name;
    enum cellar_device_choice device;
    bool memory; /* a device of the test's; else a file */
    bool fixed;  /* a device that can't grow: the store lies in STORE_FIXED_BYTES, whatever its length */
    bool window; /* there is one */
    bool asked;  /* runs only where CELLAR_TEST_WAYS names it */
};

enum {
    STORE_MAPPED,
    STORE_PAGES,
    STORE_DIRECT,
    STORE_MEMORY_MAPPED,
    STORE_MEMORY_PAGES,
    STORE_BLOCK,
    STORE_NBD,
    STORE_WAY_COUNT
};

enum { STORE_FIXED_BYTES = 8 << 20 };

struct nbd_server;

extern struct store_way store_ways[STORE_WAY_COUNT];

struct store_fixture {
    void (*test)(void **state);
    const struct store_way *way;
    char *folder;
    const char *path;             /* of the store, also where it lies in memory */
    struct cellar_device *memory; /* NULL until the store is created, or on files */
    struct cellar_device *device; /* what the store is opened on: memory, or a device over it; NULL as memory */
    struct fault_device blocks;   /* that device: in blocks of 512 bytes, and of fixed size */
    struct nbd_server *server;    /* memory is a device on it; NULL: there is none */
    struct cellar_key key;        /* store_key(1): of the writers that are made with store_options */
};

struct store_case {
    void (*test)(void **state);
    const struct store_way *way;
};

/* cmocka fixtures; the initial state is a struct store_case. store_run runs its test, or skips it where its way shall
 * not, or can't, run. */
int store_setup(void **state);
int store_teardown(void **state);
void store_run(void **state);

#define STORE_ON(test, way)                                                                                            \
    {                                                                                                                  \
#test "[" #way "]", store_run, store_setup, store_teardown, &(struct store_case)                               \
        {                                                                                                              \
            test, &store_ways[way]                                                                                     \
        }                                                                                                              \
    }
#define STORE_ON_FILES(test) STORE_ON(test, STORE_MAPPED), STORE_ON(test, STORE_PAGES), STORE_ON(test, STORE_DIRECT)
#define STORE_ON_ALL(test)                                                                                             \
    STORE_ON_FILES(test), STORE_ON(test, STORE_MEMORY_MAPPED), STORE_ON(test, STORE_MEMORY_PAGES),                     \
        STORE_ON(test, STORE_BLOCK), STORE_ON(test, STORE_NBD)

/* True where every write waits for the disk: a long test does a part of its work, unless the way is asked for in
 * CELLAR_TEST_WAYS. */
bool store_takes_slice(const struct store_fixture *f);

/* ---- making ---- */

/* A config with a head and a version of the tests' own. */
struct cellar_config store_config(uint32_t bytes_per_cell, uint32_t max_index);

/* The way's device, f's key, and a resize step of 64 KiB. */
struct cellar_writer_options store_options(const struct store_fixture *f);

/* The way's device, no key. */
struct cellar_reader_options store_reader_options(const struct store_fixture *f);

/* A key that number names. */
struct cellar_key store_key(unsigned number);

/* The calls of the library on f's store, by path or by device. */
int store_create(struct store_fixture *f, const struct cellar_config *config,
                 const struct cellar_writer_options *options, struct cellar_writer **ret_writer);
int store_open(struct store_fixture *f, const struct cellar_writer_options *options, struct cellar_writer **ret_writer);
int store_read(struct store_fixture *f, const struct cellar_reader_options *options, struct cellar_reader **ret_reader);

/* The same with store_options and store_reader_options; they must succeed. key may be NULL. */
struct cellar_writer *store_new(struct store_fixture *f, uint32_t bytes_per_cell, uint32_t max_index);
struct cellar_writer *store_again(struct store_fixture *f);
struct cellar_reader *store_reader(struct store_fixture *f, const struct cellar_key *key);

/* Closing must succeed. */
void store_close(struct cellar_writer *writer);

/* Removes f's store, so that another one can be made. */
void store_remove(struct store_fixture *f);

/* How many names f's folder holds. */
unsigned store_folder_entries(const struct store_fixture *f);

/* ---- cells ---- */

/* What cell index holds in these tests: bytes that its index names. */
void store_cell_bytes(uint32_t index, unsigned char *buffer, uint32_t bytes_per_cell);

/* Appends that many such cells, one call for all. Returns the first index. */
uint32_t store_append(struct cellar_writer *writer, uint32_t cell_count);

/* Whether cells first..first + count - 1 of the snapshot hold what their index names. Asserts nothing: for threads and
 * children, too. */
bool store_cells_hold(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t cell_count);

/* All cells of the snapshot from its start, asserted. */
void store_assert_cells(const struct cellar_snapshot *snapshot);

/* The value at index is exactly these bytes, asked for in every way that there is. */
void store_assert_value(const struct cellar_snapshot *snapshot, uint32_t index, const void *bytes, size_t length_bytes);

/* ---- the file ---- */

/* All bytes of the store; for free(3). */
unsigned char *store_bytes(struct store_fixture *f, size_t *ret_length_bytes);
void store_patch(struct store_fixture *f, uint64_t offset, const void *bytes, size_t length_bytes);

/* The store's bytes, to be compared with those of later. */
struct store_image {
    unsigned char *bytes;
    size_t length_bytes;
};
struct store_image store_image_take(struct store_fixture *f);
/* Fails where the store is not byte for byte what it was; frees the image. */
void store_image_compare(struct store_fixture *f, struct store_image image);

/* A slot as it stands in the file. */
struct cellar_slot store_slot(struct store_fixture *f, enum cellar_slot_name name);
/* Puts a whole slot of this state there. key NULL: a disk-sync slot. */
void store_put_slot(struct store_fixture *f, enum cellar_slot_name name, uint32_t next_index, uint32_t root_index,
                    const struct cellar_key *key);
/* Spoils a byte of the slot's root, so that neither hash holds any more. */
void store_break_slot(struct store_fixture *f, enum cellar_slot_name name);
/* What a power loss is for the boot mark: the device's caches were other ones. Everything written is still there. */
void store_lose_power(struct store_fixture *f);
/* True where the device knows its incarnation, so that the store has a boot mark. */
bool store_has_mark(struct store_fixture *f);
/* The extension bytes are those of a writer that closed: the check of the config, the mark and its binding to process
 * sync where there is one, no flags. */
void store_assert_marks(const unsigned char header[CELLAR_HEADER_BYTES]);
/* Both slots of a pair (named by its first) hold this state. */
void store_assert_pair(struct store_fixture *f, enum cellar_slot_name first, uint32_t next_index, uint32_t root_index);

#endif
