/*
 * error.h - the one result type of Cellar.
 *
 * Every function that can fail returns an int:
 *     0    done
 *   > 0    nothing there (CELLAR_NONE): the question was fine, the answer is "no"
 *   < 0    failure: the negated errno of the system (-EIO, -ENOSPC, -EINVAL, ...) or one of the codes
 *          below. Out-parameters (the last ones, named ret_...) are written only on success.
 */
#ifndef CELLAR_ERROR_H
#define CELLAR_ERROR_H

#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define CELLAR_API __attribute__((visibility("default")))
#define CELLAR_MUST_CHECK __attribute__((warn_unused_result))
#else
#define CELLAR_API
#define CELLAR_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CELLAR_NONE = 1, /* nothing there, nothing new */

    CELLAR_ECORRUPT = -10001,   /* the bytes of the file break the format */
    CELLAR_EINDEXFULL = -10002, /* max index is reached: no cell is left */
    CELLAR_EBOUNDS = -10003,    /* an address or index outside what there is */
    CELLAR_EBADKEY = -10004,    /* not the key of the writer that published last */
    CELLAR_ECONFIG = -10005,    /* the store exists with another configuration */
    CELLAR_EBUSY = -10006,      /* another writer has the store */
    CELLAR_EFORKED = -10007,    /* the handle was opened before fork(); only close works in the child */
    CELLAR_ERETIRED = -10008,   /* the store was truncated: this file is no longer the store, open again */
    CELLAR_EWINDOW = -10009,    /* the reserved address window is too small for this */
    CELLAR_EPINNED = -10010,    /* every frame of the cache is pinned; commit: a page is fixed for writing */
    CELLAR_EUNKNOWN = -10011,   /* the device can't tell whether a write happened */
    CELLAR_EOLDPAGES = -10012,  /* snapshots need more overwritten pages than the cache may keep */
    CELLAR_ECHECKSUM = -10013,  /* the bytes are not those that were written */
    CELLAR_ESUMS = -10014,      /* the store's checksum file is lost, or not of this store as it is */
};

/* "No offset": the diagnostic is about the file as a whole. */
#define CELLAR_OFFSET_NONE UINT64_MAX

/*
 * What went wrong, for people: filled by the calls that take one, on failure only. message names the
 * file, the byte offset where there is one, what was found and what was expected; one line, no newline.
 */
struct cellar_diagnostic {
    int error;            /* what the call returned */
    uint64_t file_offset; /* bytes from the start of the file, or CELLAR_OFFSET_NONE */
    char message[480];
};

/*
 * The text for an error code, the system's or Cellar's; a code that is neither gives "unknown error".
 * The string is constant or thread-local (valid until this thread's next call). Any thread.
 */
CELLAR_API const char *cellar_strerror(int error);

/* "MAJOR.MINOR.PATCH" of the library that runs (not of the headers that were compiled against). Any thread. */
CELLAR_API const char *cellar_version_string(void);

#ifdef __cplusplus
}
#endif
#endif
