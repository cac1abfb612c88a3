#include "cell/stage.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* A write ends at a multiple of this, so that the kernel's folios are whole. */
enum { STAGE_BYTES = 256 << 10 };

void cellar_stage_open(struct cellar_stage *stage, struct cellar_device *device, void *window, uint64_t threshold_bytes)
{
    *stage = (struct cellar_stage){
        .device = device, .window = window, .threshold_bytes = threshold_bytes, .from = UINT64_MAX};
}

void cellar_stage_close(struct cellar_stage *stage)
{
    free(stage->bytes);
    *stage = (struct cellar_stage){.from = UINT64_MAX};
}

void cellar_stage_begin(struct cellar_stage *stage, uint64_t offset)
{
    stage->base = offset;
    stage->from = stage->threshold_bytes < UINT64_MAX ? offset + stage->threshold_bytes : UINT64_MAX;
}

int cellar_stage_commit(struct cellar_stage *stage, uint64_t end_offset)
{
    bool large =
        end_offset - stage->base >= CELLAR_STAGE_LARGE_BYTES && stage->threshold_bytes < CELLAR_STAGE_LARGE_BYTES;
    int error = cellar_stage_flush(stage);

    if (error != 0)
        return error;
    cellar_stage_begin(stage, end_offset);
    if (large)
        stage->from = end_offset;
    return 0;
}

void cellar_stage_drop(struct cellar_stage *stage)
{
    stage->length_bytes = 0;
    stage->end_bytes = 0;
}

int cellar_stage_flush(struct cellar_stage *stage)
{
    struct iovec part = {.iov_base = stage->bytes, .iov_len = stage->length_bytes};
    int error;

    if (stage->length_bytes == 0)
        return 0;
    error = cellar_device_write(stage->device, &part, 1, stage->begin);
    if (error == 0)
        cellar_stage_drop(stage);
    return error;
}

/* Makes room for what goes to offset. False: there is no memory, it must be stored. */
static bool begin_at(struct cellar_stage *stage, uint64_t offset)
{
    if (stage->bytes == NULL)
        stage->bytes = malloc(STAGE_BYTES);
    if (stage->bytes == NULL)
        return false;
    stage->begin = offset;
    stage->end_bytes = STAGE_BYTES - (size_t)(offset % STAGE_BYTES);
    return true;
}

/* What doesn't follow what is gathered, or doesn't fit beside it. */
static int write_on(struct cellar_stage *stage, uint64_t offset, const unsigned char *bytes, size_t length_bytes)
{
    while (length_bytes > 0) {
        size_t step;
        int error = 0;

        if (stage->length_bytes == stage->end_bytes || offset != stage->begin + stage->length_bytes)
            error = cellar_stage_flush(stage);
        if (error != 0)
            return error;
        if (stage->length_bytes == 0 && !begin_at(stage, offset)) {
            memmove(stage->window + offset, bytes, length_bytes);
            return 0;
        }
        step = stage->end_bytes - stage->length_bytes;
        step = step < length_bytes ? step : length_bytes;
        memcpy(stage->bytes + stage->length_bytes, bytes, step);
        stage->length_bytes += step;
        offset += step;
        bytes += step;
        length_bytes -= step;
    }
    return 0;
}

int cellar_stage_write(struct cellar_stage *stage, uint64_t offset, const void *bytes, size_t length_bytes)
{
    if (CELLAR_UNLIKELY(offset != stage->begin + stage->length_bytes ||
                        length_bytes > stage->end_bytes - stage->length_bytes))
        return write_on(stage, offset, bytes, length_bytes);
    memcpy(stage->bytes + stage->length_bytes, bytes, length_bytes);
    stage->length_bytes += length_bytes;
    return 0;
}
