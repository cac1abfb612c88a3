#include "trace.h"

#include "format/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool trace_on;

void trace(const char *format, ...)
{
    va_list arguments;

    if (!trace_on)
        return;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void trace_header(const char *what, const unsigned char *header)
{
    static const char *const names[CELLAR_SLOT_COUNT] = {"D1", "D2", "P1", "P2"};

    if (!trace_on)
        return;
    printf("  %s:", what);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
        struct cellar_slot slot = cellar_slot_decode(header + cellar_slot_offset((enum cellar_slot_name)name));

        if (slot.valid)
            printf(" %s root %" PRIu32 " next %" PRIu32 ",", names[name], slot.state.root_index, slot.state.next_index);
        else
            printf(" %s broken,", names[name]);
    }
    printf(" word root %" PRIu32 " next %" PRIu32 " epoch %" PRIu32 ",", cellar_load_le32(header + CELLAR_AT_WORD),
           cellar_load_le32(header + CELLAR_AT_WORD + 4), cellar_load_le32(header + CELLAR_AT_EPOCH));
    printf(" mark %" PRIx64 ", binding %" PRIx64 ", flags %" PRIx32 ", confirmed %" PRIu32 "\n",
           cellar_load_le64(header + CELLAR_AT_BOOT_MARK), cellar_load_le64(header + CELLAR_AT_BINDING),
           cellar_load_le32(header + CELLAR_AT_FLAGS), cellar_load_le32(header + CELLAR_AT_CONFIRMED));
}
