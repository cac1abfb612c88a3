/* check.h - assertions for our own mistakes, never for bytes that come from a file or a caller. */
#ifndef CELLAR_BASE_CHECK_H
#define CELLAR_BASE_CHECK_H

#include <assert.h>

#define CELLAR_CHECK(condition) assert(condition)

#if defined(__GNUC__) || defined(__clang__)
#define CELLAR_LIKELY(x) __builtin_expect(!!(x), 1)
#define CELLAR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define CELLAR_APART __attribute__((noinline)) /* not to be drawn into a short function that calls it last */
#define CELLAR_COLD __attribute__((cold))      /* runs once in the life of a handle or after an error: kept small */
#define CELLAR_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))
#else
#define CELLAR_LIKELY(x) (x)
#define CELLAR_UNLIKELY(x) (x)
#define CELLAR_APART
#define CELLAR_COLD
#define CELLAR_PRINTF(format_index, first_index)
#endif

#endif
