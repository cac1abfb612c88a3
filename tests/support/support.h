/*
 * support.h - what the tests share: cmocka, folders of their own, bytes from a seed, children, whole files.
 *
 * Everything here fails the running test (cmocka) when it can't do its work, so nothing returns an error. It is for the
 * test's own thread and process: a thread or a child hands back what it found, and the test asserts.
 */
#ifndef CELLAR_TESTS_SUPPORT_H
#define CELLAR_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cellar/device.h>
#include <cellar/error.h>
#include <stdbool.h>

#define SUPPORT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The call gives 0, or exactly this result; else the test fails with both codes in words. */
#define assert_done(call) support_assert_result((call), 0, #call, __FILE__, __LINE__)
#define assert_result(call, expected) support_assert_result((call), (expected), #call, __FILE__, __LINE__)
void support_assert_result(int result, int expected, const char *call, const char *file, int line);

/* Says why on standard output, and skips the running test. */
#define support_skip(...)                                                                                              \
    do {                                                                                                               \
        print_message("skipped, " __VA_ARGS__);                                                                        \
        print_message("\n");                                                                                           \
        skip();                                                                                                        \
    } while (0)

/* ---- folders ---- */

/* A new empty folder under $TMPDIR (or /tmp). Ends, with everything below it, with support_folder_remove. */
char *support_folder_make(void);
void support_folder_remove(char *folder);

/* "FOLDER/NAME"; valid until support_folder_remove. */
char *support_path(const char *folder, const char *name);

/* cmocka fixtures: *state is a folder. */
int support_folder_setup(void **state);
int support_folder_teardown(void **state);

/* ---- whole files ---- */

/* Makes the file hold exactly these bytes. */
void support_file_write(const char *path, const void *bytes, size_t length_bytes);
/* Overwrites a part of it. */
void support_file_patch(const char *path, uint64_t offset, const void *bytes, size_t length_bytes);
/* All bytes of it; for free(3). */
unsigned char *support_file_read(const char *path, size_t *ret_length_bytes);
uint64_t support_file_size(const char *path);

/* ---- bytes ---- */

/* splitmix64: the next number of a sequence that *state (any number at first) names. */
uint64_t support_random(uint64_t *state);
/* A number below limit (> 0). */
uint64_t support_random_below(uint64_t *state, uint64_t limit);
/* Fills the buffer; the same seed gives the same bytes, a longer buffer begins with those of a shorter one. */
void support_bytes(uint64_t seed, void *buffer, size_t length_bytes);

/* ---- children ---- */

/*
 * Calls run in a forked child and waits for it. Returns what run returned; -N where signal N ended the child. The child
 * must not assert: it returns a number that says what went wrong, such as its line (SUPPORT_CHILD_NEEDS).
 */
int support_child(int (*run)(void *user), void *user);

#define SUPPORT_CHILD_NEEDS(condition)                                                                                 \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return __LINE__;                                                                                           \
    } while (0)

/* True where the program runs under valgrind, which needs memory itself. */
bool support_under_valgrind(void);

/*
 * Calls run while this process can get no more addresses from the system: large allocations fail. Returns what it
 * returned. Not for allocations by malloc where SUPPORT_SANITIZED: a sanitizer ends the process then.
 */
int support_without_memory(int (*run)(void *user), void *user);

/* True where the mapping at this address has that flag, two letters of VmFlags in proc(5). Without /proc/self/smaps the
 * test is skipped. */
bool support_is_mapped_with(const void *address, const char *flag);

/* How many descriptors this process has, give or take the same few each time. */
int support_open_descriptors(void);

/* True where nothing is mapped at the page of this address. */
bool support_is_unmapped(const void *address);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SUPPORT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SUPPORT_SANITIZED 1
#endif
#endif
#ifndef SUPPORT_SANITIZED
#define SUPPORT_SANITIZED 0
#endif

/* In a child: becomes a user to whom file modes mean something, for good. False where that can't be. */
bool support_drop_root(void);

/* True where CELLAR_CACHE_DEBUG=1 is set: every cache has four pages and gives them up at once, so that what is cached,
 * counted and lent is not what it is otherwise. Tests skip what checks that. */
bool support_cache_debug(void);

/* ---- devices ---- */

/* True where the file system of the folder has O_DIRECT. */
bool support_has_direct(const char *folder);

enum support_device {
    SUPPORT_DEVICE_FILE,
    SUPPORT_DEVICE_PREAD,
    SUPPORT_DEVICE_MEMORY,
    SUPPORT_DEVICE_DIRECT, /* in bytes over a file by O_DIRECT */
    SUPPORT_DEVICE_COUNT,
};

/* A new writable device of size_bytes zeros (the memory device with capacity_bytes); the files are FOLDER/NAME. Without
 * O_DIRECT the test is skipped. */
struct cellar_device *support_device_open(enum support_device kind, const char *folder, const char *name,
                                          uint64_t size_bytes, uint64_t capacity_bytes);

/* One write of one part. */
int support_device_write(struct cellar_device *device, const void *bytes, size_t length_bytes, uint64_t offset);

#endif
