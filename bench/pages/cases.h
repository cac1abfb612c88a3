/*
 * cases.h - rows that read the data file: which words, by what kind of reader, on how many threads.
 *
 * A kind is one file, kind_NAME.c. Its functions work on whole batches, so that the loop that is timed is compiled into
 * the kind, with no call through a pointer for each read. Each adds up the words at the addresses (multiples of 8).
 */
#ifndef BENCH_PAGES_CASES_H
#define BENCH_PAGES_CASES_H

#include "run.h"

#include <cellar/cache.h>
#include <string.h>

enum {
    PAGES_DELAY_NS = 1000000, /* what a load takes on PAGES_DELAYED */
};

/* What is done at each address. */
enum pages_operation {
    PAGES_GET,  /* the word alone */
    PAGES_FIX,  /* the page is held while its word is read */
    PAGES_READ, /* length bytes are copied */
    PAGES_OPERATIONS,
};

/* Where the bytes come from. */
enum pages_device {
    PAGES_PREAD,   /* pread, from the kernel's page cache */
    PAGES_MAPPED,  /* a mapping of the file */
    PAGES_DIRECT,  /* pread past the kernel's page cache: from the disk */
    PAGES_DELAYED, /* pread, after a sleep of PAGES_DELAY_NS */
};

struct pages_setup {
    enum pages_device device;
    size_t page_count; /* frames; 0: as many as cached_pages */
    enum cellar_eviction eviction;
    enum cellar_io io;
    unsigned depth, read_ahead_pages;
    bool copy, shared;
    bool resident; /* of the array: the copy in memory, not the mapping */
    bool cold;     /* of the kernel: a copy of the file that is never mapped, so that the page cache can let go of it */
};

struct pages_batch {
    const uint64_t *addresses;
    size_t count;
    size_t length;         /* of a read, in bytes, at least 8 */
    unsigned char *buffer; /* of PAGES_BUFFER_BYTES, aligned to PAGES_BYTES; the thread's own */
};

enum { PAGES_BUFFER_BYTES = 1 << 20 };

struct pages_kind {
    /* A reader for thread_count threads. PAGES_SKIP: not on this machine. */
    int (*open)(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count, void **ret_reader);
    void (*close)(void *reader);
    /* NULL: the kind takes no part. thread: which one, from 0. */
    int (*operate[PAGES_OPERATIONS])(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum);
    int (*empty)(void *reader);                                   /* forgets what is cached; NULL: nothing is */
    void (*count)(void *reader);                                  /* counts hits from here on; NULL: none are */
    void (*see)(void *reader, char *text, size_t capacity_bytes); /* says how many there were */
};

extern const struct pages_kind kind_array, kind_async, kind_cellar, kind_device, kind_kernel;
#ifdef BENCH_HAVE_LMDB
extern const struct pages_kind kind_lmdb;
#endif

/* One row. */
struct pages_case {
    const struct pages_kind *kind; /* NULL: left out (a peer that this bench was built without) */
    const char *engine, *mode;
    struct pages_setup setup;
    enum pages_operation operation;
    const uint64_t *addresses;
    size_t count;
    size_t window;      /* a run takes so many of them, the next run the next ones; one thread; 0: all in each run */
    size_t length;      /* of a read; 0: a page */
    size_t ops_each;    /* operations that one address stands for; 0: 1 */
    unsigned threads;   /* 0: 1 */
    const char *series; /* NULL: none */
    bool empty;         /* caches are emptied before each run */
    bool tell_hits;
};

/* The beginning of the initializer of a case: who reads, and what. */
#define PAGES_WHO(KIND, ENGINE, MODE, SETUP) .kind = KIND, .engine = ENGINE, .mode = MODE, .setup = SETUP
#define PAGES_WHAT(OPERATION, ADDRESSES, COUNT) .operation = OPERATION, .addresses = ADDRESSES, .count = COUNT

/* Times the cases of a workload side by side. An error has been reported. */
int pages_measure(struct pages_run *run, const struct bench_heading *heading, const struct pages_case *cases,
                  size_t case_count);

/* The kind of LMDB, or NULL. */
const struct pages_kind *pages_lmdb(void);

/* Opens the data file as that device. PAGES_SKIP: not on this machine. */
int pages_device_open(const struct pages_run *run, enum pages_device device, struct cellar_device **ret_device);

/*
 * Addresses, to be freed; NULL: no memory. align_bytes: a power of two from 8 on.
 * random: any, of the first page_count pages. shuffled: one in each of count different pages. in_order: from 0 on,
 * stride_bytes apart.
 */
uint64_t *pages_addresses_random(uint64_t page_count, size_t count, size_t align_bytes);
uint64_t *pages_addresses_shuffled(uint64_t page_count, size_t count, size_t align_bytes);
uint64_t *pages_addresses_in_order(size_t count, size_t stride_bytes);

static inline uint64_t pages_load_word(const void *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

#endif
