/* simdisk_image.c - what a power loss could leave of a simulated disk. */
#include "random.h"
#include "simdisk.h"

#include <string.h>

enum { BLOCKS_MAX = 64, NUMBER_MAX = 1 << 30 };

/* The pending lines of a block; a header line is one of its own. */
struct block {
    uint32_t number; /* of the block on the disk; of a header line: its index */
    bool header;
    uint32_t count; /* of contents beside the durable one, for a header line */
};

struct blocks {
    struct block list[BLOCKS_MAX];
    uint32_t count;
    bool too_many;
};

static uint32_t block_of(const struct simdisk *disk, uint32_t line)
{
    return line / (disk->kind.atom_bytes / LINE_BYTES);
}

static void find_blocks(const struct simdisk *disk, struct blocks *blocks)
{
    blocks->count = 0;
    blocks->too_many = false;
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint32_t line = disk->pending[i];
        bool header = line < HEADER_LINES, known = false;
        uint32_t number = header ? line : block_of(disk, line);

        for (uint32_t k = 0; k < blocks->count && !header && !known; k++)
            known = !blocks->list[k].header && blocks->list[k].number == number;
        if (known)
            continue;
        if (blocks->count == BLOCKS_MAX) {
            blocks->too_many = true;
            return;
        }
        blocks->list[blocks->count++] =
            (struct block){.number = number, .header = header, .count = disk->lines[line].count};
    }
}

struct simdisk_choices simdisk_choices(const struct simdisk *disk)
{
    struct simdisk_choices choices = {.all = (uint64_t)disk->size_count, .ends = 1};
    struct blocks blocks;
    bool header = false;

    find_blocks(disk, &blocks);
    if (disk->size_count > 1) {
        choices.ends = 2;
        choices.block_count = 1;
    }
    for (uint32_t i = 0; i < blocks.count; i++) {
        bool joins = blocks.list[i].header && header; /* the header's lines are one block of the disk */

        header |= blocks.list[i].header;
        choices.all *= blocks.list[i].header ? blocks.list[i].count + 1 : 2;
        choices.ends *= joins ? 1 : 2;
        choices.block_count += joins ? 0 : 1;
        if (choices.all > NUMBER_MAX)
            choices.all = UINT64_MAX / 256;
        if (choices.ends > NUMBER_MAX)
            choices.ends = UINT64_MAX / 256;
    }
    if (blocks.too_many || choices.all > NUMBER_MAX)
        choices.all = UINT64_MAX;
    if (blocks.too_many || choices.ends > NUMBER_MAX)
        choices.ends = UINT64_MAX;
    return choices;
}

/* The content of a line after so many of its versions; 0: the durable one. */
static void put_line(const struct simdisk *disk, uint32_t index, uint32_t pick, unsigned char *bytes)
{
    const struct simdisk_line *line = &disk->lines[index];
    uint32_t version = line->first;

    if (pick == 0)
        return;
    if (pick == line->count)
        version = line->last;
    else
        while (--pick > 0)
            version = disk->versions[version].next;
    memcpy(bytes + (uint64_t)index * LINE_BYTES, disk->versions[version].bytes, LINE_BYTES);
}

/* The line as it stood at that moment. */
static void put_line_at(const struct simdisk *disk, uint32_t index, uint32_t moment, unsigned char *bytes)
{
    const struct simdisk_line *line = &disk->lines[index];
    const unsigned char *found = NULL;

    for (uint32_t version = line->first; version != 0 && disk->versions[version].moment <= moment;
         version = disk->versions[version].next) {
        found = disk->versions[version].bytes;
        if (version == line->last)
            break;
    }
    if (found != NULL)
        memcpy(bytes + (uint64_t)index * LINE_BYTES, found, LINE_BYTES);
}

static uint64_t largest_size(const struct simdisk *disk)
{
    uint64_t size_bytes = 0;

    for (int i = 0; i < disk->size_count; i++)
        size_bytes = disk->sizes[i] > size_bytes ? disk->sizes[i] : size_bytes;
    return size_bytes;
}

/* Nothing is there beyond the end. */
static uint64_t cut(const struct simdisk *disk, uint64_t size_bytes, unsigned char *bytes)
{
    if (largest_size(disk) > size_bytes)
        memset(bytes + size_bytes, 0, largest_size(disk) - size_bytes);
    return size_bytes;
}

/* Old or new of the lines in a block. */
static void put_block(const struct simdisk *disk, uint32_t number, unsigned char *bytes)
{
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint32_t line = disk->pending[i];

        if (line >= HEADER_LINES && block_of(disk, line) == number)
            put_line(disk, line, disk->lines[line].count, bytes);
    }
}

uint64_t simdisk_image_all(const struct simdisk *disk, uint64_t number, unsigned char *bytes)
{
    uint64_t size_bytes = disk->sizes[number % (uint64_t)disk->size_count];
    struct blocks blocks;

    number /= (uint64_t)disk->size_count;
    find_blocks(disk, &blocks);
    memcpy(bytes, disk->durable, largest_size(disk));
    for (uint32_t i = 0; i < blocks.count; i++) {
        const struct block *block = &blocks.list[i];
        uint64_t ways = block->header ? block->count + 1 : 2;

        if (block->header)
            put_line(disk, block->number, (uint32_t)(number % ways), bytes);
        else if (number % ways == 1)
            put_block(disk, block->number, bytes);
        number /= ways;
    }
    return cut(disk, size_bytes, bytes);
}

uint64_t simdisk_image_ends(const struct simdisk *disk, uint64_t number, unsigned char *bytes)
{
    uint64_t size_bytes = simdisk_size(disk);
    bool header_known = false, header_new = false;
    struct blocks blocks;

    find_blocks(disk, &blocks);
    memcpy(bytes, disk->durable, largest_size(disk));
    if (disk->size_count > 1) {
        size_bytes = number % 2 == 0 ? disk->sizes[0] : size_bytes;
        number /= 2;
    }
    for (uint32_t i = 0; i < blocks.count; i++) {
        const struct block *block = &blocks.list[i];

        if (block->header && header_known) {
            put_line(disk, block->number, header_new ? block->count : 0, bytes);
            continue;
        }
        if (block->header) {
            header_known = true;
            header_new = number % 2 == 1;
            put_line(disk, block->number, header_new ? block->count : 0, bytes);
        } else if (number % 2 == 1) {
            put_block(disk, block->number, bytes);
        }
        number /= 2;
    }
    return cut(disk, size_bytes, bytes);
}

/* A moment since the oldest pending line came up; often one of the last. */
static uint32_t draw_moment(const struct simdisk *disk, uint32_t oldest, uint64_t *random)
{
    uint32_t span = disk->moment - oldest + 2;

    if (span > 8 && random_once_in(random, 3))
        return disk->moment - random_below(random, 8);
    return oldest - 1 + random_below(random, span);
}

uint64_t simdisk_image_drawn(const struct simdisk *disk, uint64_t *random, unsigned char *bytes)
{
    uint32_t way = random_below(random, 4), oldest = disk->moment, block = UINT32_MAX, moment;
    uint64_t size_bytes = disk->sizes[random_below(random, (uint32_t)disk->size_count)];

    memcpy(bytes, disk->durable, largest_size(disk));
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint32_t first = disk->versions[disk->lines[disk->pending[i]].first].moment;

        oldest = first < oldest ? first : oldest;
    }
    moment = draw_moment(disk, oldest, random);
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        uint32_t line = disk->pending[i];

        if (way == 1 && block_of(disk, line) != block) { /* each block at a moment of its own */
            block = block_of(disk, line);
            moment = draw_moment(disk, oldest, random);
        }
        if (way <= 1)
            put_line_at(disk, line, moment, bytes);
        else if (way == 2 && line >= HEADER_LINES) /* the header mixed, all else old or new */
            put_line(disk, line, random_once_in(random, 2) ? disk->lines[line].count : 0, bytes);
        else
            put_line(disk, line, random_below(random, disk->lines[line].count + 1), bytes);
    }
    return cut(disk, size_bytes, bytes);
}
