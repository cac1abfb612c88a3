/* trace.h - what a run does, line by line, for who looks for the cause of a failure (--trace). */
#ifndef CRASH_TRACE_H
#define CRASH_TRACE_H

#include <stdarg.h>
#include <stdbool.h>

extern bool trace_on;

__attribute__((format(printf, 1, 2))) void trace(const char *format, ...);

/* The slots and marks of a header of 256 bytes. */
void trace_header(const char *what, const unsigned char *header);

#endif
