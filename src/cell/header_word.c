/* header_word.c - the published word in the header. cell/word.h says why it can be trusted. */
#include "base/bytes.h"
#include "cell/word.h"

#include <errno.h>

void cellar_header_start_words(struct cellar_header *header, uint32_t epoch)
{
    header->epoch = epoch;
    header->words = (header->flags & CELLAR_FLAG_WORD) != 0;
}

int cellar_header_end_epoch(struct cellar_header *header)
{
    uint32_t epoch = header->epoch + 1 != 0 ? header->epoch + 1 : 1;
    unsigned char bytes[4];
    int error;

    cellar_store_le32(bytes, epoch);
    error = cellar_header_store(header, CELLAR_AT_EPOCH, bytes, sizeof bytes);
    if (error == 0)
        header->epoch = epoch;
    return error;
}

int cellar_header_switch_words(struct cellar_header *header, bool wanted)
{
    int error = 0;

    if (header->words && !wanted)
        error = cellar_header_change_flags(header, 0, CELLAR_FLAG_WORD);
    if (error == 0 && (wanted || header->epoch != 0))
        error = cellar_header_end_epoch(header);
    if (error == 0 && wanted)
        error = cellar_header_change_flags(header, CELLAR_FLAG_WORD, 0);
    if (error == 0)
        header->words = wanted;
    return error;
}

int cellar_header_begin_look(const struct cellar_header *header, uint32_t *ret_flags, struct cellar_word *ret_word)
{
    struct cellar_word word = {.followed = false};
    uint32_t flags;
    int error;

    if (header->window != NULL)
        word.epoch = cellar_word_load(header->window + CELLAR_AT_EPOCH);
    error = cellar_header_flags(header, &flags);
    if (error != 0)
        return error;
    word.followed = (flags & CELLAR_FLAG_WORD) != 0;
    *ret_flags = flags;
    *ret_word = word;
    return 0;
}

int cellar_header_end_look(const struct cellar_header *header, struct cellar_word *word, struct cellar_state *ret_state)
{
    uint64_t now;

    if (header->window == NULL)
        return -ENOTSUP;
    now = cellar_word_load(header->window + CELLAR_AT_WORD);
    if (cellar_word_load(header->window + CELLAR_AT_EPOCH) != word->epoch)
        return -EAGAIN;
    word->word = now;
    *ret_state = cellar_word_state(now);
    return 0;
}
