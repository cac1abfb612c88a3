/* diagnose.h - the text of an error, for people. */
#ifndef CELLAR_BASE_DIAGNOSE_H
#define CELLAR_BASE_DIAGNOSE_H

#include "base/check.h"

#include <cellar/error.h>

/*
 * Fills *diagnostic (may be NULL) with "path: offset N: text" and returns error. path may be NULL; file_offset may be
 * CELLAR_OFFSET_NONE.
 */
int cellar_diagnose(struct cellar_diagnostic *diagnostic, int error, const char *path, uint64_t file_offset,
                    const char *format, ...) CELLAR_PRINTF(5, 6) CELLAR_COLD;

#endif
