#include "cell/alloc.h"

#include "base/check.h"

#include <errno.h>

uint32_t cellar_alloc_step_cells(uint64_t step_bytes, uint32_t bytes_per_cell)
{
    uint64_t cells = step_bytes / bytes_per_cell;

    if (cells == 0)
        return 1;
    return cells > UINT32_MAX ? UINT32_MAX : (uint32_t)cells;
}

bool cellar_alloc_is_full(int error)
{
    return error == -ENOSPC || error == -EFBIG || error == -EDQUOT;
}

bool cellar_alloc_is_harmless(int error)
{
    return error == CELLAR_EINDEXFULL || error == CELLAR_EWINDOW || error == -ENOMEM || error == -ENOTSUP ||
           cellar_alloc_is_full(error);
}

/* Growing has a sync in it. The header's stores may find the disk full, too, on a file system that copies on write. */
static int grow_device(struct cellar_alloc *alloc, uint64_t from_bytes, uint64_t size_bytes)
{
    int error = 0, end_error = 0;

    if (alloc->header != NULL)
        error = cellar_header_begin_growth(alloc->header);
    if (error != 0)
        return error;
    error = cellar_device_grow(alloc->device, from_bytes, size_bytes);
    if (alloc->header != NULL)
        end_error = cellar_header_end_growth(alloc->header, cellar_alloc_is_harmless(error) ? 0 : error);
    return error != 0 ? error : end_error;
}

/* Allocates up to ready_index, the file as long as it was or up to there. */
static int make_ready(struct cellar_alloc *alloc, uint32_t ready_index)
{
    uint64_t from = (uint64_t)alloc->ready_index * alloc->bytes_per_cell;
    uint64_t size_bytes = (uint64_t)ready_index * alloc->bytes_per_cell;
    uint64_t now_bytes;
    int error = cellar_device_size(alloc->device, &now_bytes);

    if (error == 0 && now_bytes < alloc->file_bytes)
        error = CELLAR_ECORRUPT; /* others cut the file: cells that were committed are gone */
    if (error == 0)
        error = grow_device(alloc, from, size_bytes);
    if (error != 0)
        return error;
    alloc->ready_index = ready_index;
    if (size_bytes > alloc->file_bytes)
        alloc->file_bytes = size_bytes;
    return 0;
}

void cellar_alloc_learn(struct cellar_alloc *alloc, uint32_t ready_index)
{
    uint64_t size_bytes = (uint64_t)ready_index * alloc->bytes_per_cell;

    if (ready_index > alloc->ready_index)
        alloc->ready_index = ready_index;
    if (size_bytes > alloc->file_bytes)
        alloc->file_bytes = size_bytes;
}

uint32_t cellar_alloc_stretch(const struct cellar_alloc *alloc, uint32_t ready_index)
{
    uint32_t cells = ready_index / 4 < alloc->most_cells ? ready_index / 4 : alloc->most_cells;

    return cells > alloc->step_cells ? cells / alloc->step_cells * alloc->step_cells : alloc->step_cells;
}

uint32_t cellar_alloc_limit(const struct cellar_alloc *alloc)
{
    uint64_t window_cells = alloc->window_bytes / alloc->bytes_per_cell;

    return alloc->window_bytes > 0 && window_cells < alloc->max_index ? (uint32_t)window_cells : alloc->max_index;
}

/* So many cells beyond ready, as far as the limit allows. */
static uint32_t beyond(const struct cellar_alloc *alloc, uint64_t cells)
{
    uint32_t limit = cellar_alloc_limit(alloc);

    if (limit <= alloc->ready_index)
        return alloc->ready_index;
    return cells < limit - alloc->ready_index ? alloc->ready_index + (uint32_t)cells : limit;
}

static int grow(struct cellar_alloc *alloc, uint32_t required_index)
{
    uint64_t short_cells = required_index - alloc->ready_index,
             stretch = cellar_alloc_stretch(alloc, alloc->ready_index);
    uint64_t step_cells = (short_cells + alloc->step_cells - 1) / alloc->step_cells * alloc->step_cells;
    uint32_t step = beyond(alloc, step_cells), target = beyond(alloc, stretch > step_cells ? stretch : step_cells);
    int error;

    if (target < required_index)
        return CELLAR_EWINDOW;
    error = make_ready(alloc, target);
    if (target > step && cellar_alloc_is_full(error))
        error = make_ready(alloc, step); /* not a stretch any more, but whole steps */
    if (step > required_index && cellar_alloc_is_full(error))
        error = make_ready(alloc, required_index); /* nor that, but what is needed */
    return error;
}

int cellar_alloc_extend(struct cellar_alloc *alloc)
{
    uint32_t target = beyond(alloc, cellar_alloc_stretch(alloc, alloc->ready_index));

    return target > alloc->ready_index ? make_ready(alloc, target) : CELLAR_NONE;
}

int cellar_alloc_prepare(struct cellar_alloc *alloc, uint64_t cell_count)
{
    uint32_t required;

    CELLAR_CHECK(cell_count > 0 && alloc->next_index <= alloc->max_index);
    if (cell_count > alloc->max_index - alloc->next_index)
        return CELLAR_EINDEXFULL;
    required = alloc->next_index + (uint32_t)cell_count;
    return required > alloc->ready_index ? grow(alloc, required) : 0;
}

int cellar_alloc_take(struct cellar_alloc *alloc, uint64_t cell_count, uint32_t *ret_first_index)
{
    int error = cellar_alloc_prepare(alloc, cell_count);

    if (error != 0)
        return error;
    *ret_first_index = alloc->next_index;
    alloc->next_index += (uint32_t)cell_count;
    return 0;
}
