#include "base/diagnose.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

int cellar_diagnose(struct cellar_diagnostic *diagnostic, int error, const char *path, uint64_t file_offset,
                    const char *format, ...)
{
    char at[32] = "";
    char text[320];
    size_t room, path_bytes;
    va_list arguments;

    if (diagnostic == NULL)
        return error;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (file_offset != CELLAR_OFFSET_NONE)
        snprintf(at, sizeof at, "offset %" PRIu64 ": ", file_offset);
    diagnostic->error = error;
    diagnostic->file_offset = file_offset;
    if (path == NULL) {
        snprintf(diagnostic->message, sizeof diagnostic->message, "%s%s", at, text);
        return error;
    }
    /* A path that does not fit gives way, from its front: the text and the end of the name say more. */
    room = sizeof diagnostic->message - sizeof ": " - strlen(at) - strlen(text);
    path_bytes = strlen(path);
    snprintf(diagnostic->message, sizeof diagnostic->message, "%s%s: %s%s", path_bytes > room ? "..." : "",
             path_bytes > room ? path + path_bytes - room + 3 : path, at, text);
    return error;
}
