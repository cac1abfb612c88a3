/*
 * What Cellar must give for a file where that is not what the original gave. Each function is a pure function of the
 * file's bytes; its first line that holds decides.
 */
#include "golden.h"
#include <string.h>

/* What the four slots of a file say, picked as the original picks: #1 of a pair where it is valid, else #2. */
struct header {
    struct cellar_config config;
    bool disk_good, process_good;
    struct state disk, process;
};

static bool pick(const unsigned char *pair, struct state *ret_state)
{
    for (size_t i = 0; i < 2; i++) {
        if (!slot_is_valid(pair + i * SLOT_BYTES))
            continue;
        *ret_state = slot_state(pair + i * SLOT_BYTES);
        return true;
    }
    return false;
}

static struct verdict as_the_original(void)
{
    return (struct verdict){.id = DIFFERENCE_NONE};
}

static struct verdict corrupt(enum difference_id id)
{
    return (struct verdict){.id = id, .code = CELLAR_ECORRUPT};
}

/*
 * Reads the header. true: the bytes decide before any slot matters, and *ret_verdict is what. A size that is no whole
 * number of cells, and more cells than max index, are CORRUPT with the original too.
 */
static bool judge_config(const struct bytes *file, struct header *ret_header, struct verdict *ret_verdict)
{
    memset(ret_header, 0, sizeof(*ret_header));
    *ret_verdict = corrupt(DIFFERENCE_SHORT_FILE);
    if (file->length < CELLAR_HEADER_BYTES)
        return true;
    config_read(file->at, &ret_header->config);
    uint32_t bytes_per_cell = ret_header->config.bytes_per_cell;
    *ret_verdict = corrupt(DIFFERENCE_CONFIG_BOUNDS);
    if (bytes_per_cell < CELLAR_BYTES_PER_CELL_MIN || bytes_per_cell > CELLAR_BYTES_PER_CELL_MAX ||
        ret_header->config.max_index <= start_index_of(bytes_per_cell))
        return true;
    *ret_verdict = as_the_original();
    if (file->length % bytes_per_cell != 0 || file->length / bytes_per_cell > ret_header->config.max_index)
        return true;
    ret_header->disk_good = pick(file->at + CONFIG_BYTES, &ret_header->disk);
    ret_header->process_good = pick(file->at + CONFIG_BYTES + 2 * SLOT_BYTES, &ret_header->process);
    return false;
}

static bool beyond(const struct bytes *file, const struct header *header, struct state state)
{
    return (uint64_t)state.next_index * header->config.bytes_per_cell > file->length;
}

struct verdict judge_reader(const struct bytes *file)
{
    struct header header;
    struct verdict verdict;
    if (judge_config(file, &header, &verdict))
        return verdict;
    if (header.disk_good && beyond(file, &header, header.disk))
        return corrupt(DIFFERENCE_BEYOND_FILE);
    return as_the_original();
}

struct verdict judge_process_sync(const struct bytes *file)
{
    struct header header;
    struct verdict verdict;
    if (judge_config(file, &header, &verdict))
        return verdict;
    if (!header.process_good)
        return corrupt(DIFFERENCE_PROCESS_BROKEN);
    if (beyond(file, &header, header.process))
        return corrupt(DIFFERENCE_BEYOND_FILE);
    return as_the_original();
}

struct verdict judge_writer(const struct bytes *file)
{
    struct header header;
    struct verdict verdict;
    if (judge_config(file, &header, &verdict))
        return verdict;
    if (!header.disk_good)
        return as_the_original(); /* CORRUPT with both */
    if (beyond(file, &header, header.disk) || (header.process_good && beyond(file, &header, header.process)))
        return corrupt(DIFFERENCE_BEYOND_FILE);
    if (!header.process_good)
        return (struct verdict){
            .id = DIFFERENCE_PROCESS_BROKEN, .state = header.disk, .found = CELLAR_FOUND_PROCESS_BROKEN};
    if (header.disk.next_index > header.process.next_index)
        return (struct verdict){.id = DIFFERENCE_DISK_NEWER, .state = header.disk};
    if (header.disk.root_index > header.process.root_index)
        return (struct verdict){
            .id = DIFFERENCE_ROOT_BACK,
            .state = {.next_index = header.process.next_index, .root_index = header.disk.root_index},
            .found = CELLAR_FOUND_UNFLUSHED,
            .skipped_cells = header.process.next_index - header.disk.next_index,
        };
    return as_the_original();
}
