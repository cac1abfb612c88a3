/* writer_open.c - from a path or a device to a writer that stands at a state: create, open, repair. */
#include "base/bytes.h"
#include "base/diagnose.h"
#include "device/device.h"
#include "store_internal.h"
#include "sum/sum_name.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* No folio of Linux's page cache is larger (8 MiB: MAX_XAS_ORDER with pages of 4 KiB); they are aligned to their size.
 */
enum { FOLIO_BYTES_MAX = 8 << 20 };

/* So many bytes of a device must be zero before a store is made on it: there every file system and table of partitions
 * has something. */
enum { BLANK_BYTES = 4096 };

static struct cellar_diagnostic *diagnostic_of(const struct cellar_writer_options *options)
{
    return options != NULL ? options->diagnostic : NULL;
}

/* Says what an error of the system or of a lock was about, unless a deeper place did. */
static int explain(int error, const char *path, const char *doing, const struct cellar_writer_options *options)
{
    struct cellar_diagnostic *diagnostic = diagnostic_of(options);

    if (diagnostic != NULL && diagnostic->error == 0)
        cellar_diagnose(diagnostic, error, path, CELLAR_OFFSET_NONE, "can't %s: %s", doing, cellar_strerror(error));
    return error;
}

static void clear(const struct cellar_writer_options *options)
{
    struct cellar_diagnostic *diagnostic = diagnostic_of(options);

    if (diagnostic != NULL)
        *diagnostic = (struct cellar_diagnostic){.file_offset = CELLAR_OFFSET_NONE};
}

/* A head as text: what can't be printed becomes a dot. */
static void print_head(const unsigned char head[CELLAR_HEAD_BYTES], char ret_text[CELLAR_HEAD_BYTES + 1])
{
    for (int i = 0; i < CELLAR_HEAD_BYTES; i++)
        ret_text[i] = head[i] >= ' ' && head[i] < 0x7f ? (char)head[i] : '.';
    ret_text[CELLAR_HEAD_BYTES] = '\0';
}

static int refuse_head(const unsigned char found[CELLAR_HEAD_BYTES], const unsigned char expected[CELLAR_HEAD_BYTES],
                       const char *path, struct cellar_diagnostic *diagnostic)
{
    char found_text[CELLAR_HEAD_BYTES + 1], expected_text[CELLAR_HEAD_BYTES + 1];

    print_head(found, found_text);
    print_head(expected, expected_text);
    return cellar_diagnose(diagnostic, CELLAR_ECONFIG, path, CELLAR_AT_HEAD, "found head \"%s\", expected \"%s\"",
                           found_text, expected_text);
}

/* Which field of the config is not what was expected. */
static int refuse_config(const struct cellar_config *found, const struct cellar_config *expected, const char *path,
                         struct cellar_diagnostic *diagnostic)
{
    if (memcmp(found->head, expected->head, CELLAR_HEAD_BYTES) != 0)
        return refuse_head(found->head, expected->head, path, diagnostic);
    if (found->bytes_per_cell != expected->bytes_per_cell)
        return cellar_diagnose(diagnostic, CELLAR_ECONFIG, path, CELLAR_AT_BYTES_PER_CELL,
                               "found %u bytes per cell, expected %u", found->bytes_per_cell, expected->bytes_per_cell);
    if (found->max_index != expected->max_index)
        return cellar_diagnose(diagnostic, CELLAR_ECONFIG, path, CELLAR_AT_MAX_INDEX, "found max index %u, expected %u",
                               found->max_index, expected->max_index);
    return cellar_diagnose(diagnostic, CELLAR_ECONFIG, path, CELLAR_AT_VERSION, "found version %u, expected %u",
                           found->version, expected->version);
}

/*
 * Makes sure that no store into the window meets a full disk. A kernel with large folios allocates every hole of a
 * folio, up to the end of the file, at the first store into it. So the file ends at the next cell from now on: its end
 * is the end of what is allocated. And the folios that will be stored into, the header's, the tail's and those of cells
 * that are written once more, have no holes. CELLAR_NONE: that can't be had, the window must not be used.
 */
static int secure_space(const struct cellar_writer *writer, const struct cellar_pick *pick, uint64_t *file_bytes)
{
    uint64_t used_bytes = (uint64_t)pick->adopted.next_index * writer->config.bytes_per_cell;
    uint64_t stored_bytes = (uint64_t)pick->rewrite_index * writer->config.bytes_per_cell; /* from here on */
    int error;

    if (!writer->ground->owned)
        return 0;
    if (!writer->compat && *file_bytes > used_bytes) {
        error = cellar_device_trim(writer->ground->device, used_bytes);
        if (error != 0)
            return error;
        *file_bytes = used_bytes;
    }
    error = cellar_file_fill_holes(writer->ground->device, 0, FOLIO_BYTES_MAX);
    if (error == 0)
        error = cellar_file_fill_holes(writer->ground->device, stored_bytes / FOLIO_BYTES_MAX * FOLIO_BYTES_MAX,
                                       UINT64_MAX);
    return error == -EOPNOTSUPP || error == -ENOSYS || cellar_alloc_is_full(error) ? CELLAR_NONE : error;
}

/* Whether the window has the cells below next: on a device that is longer than the store it may be shorter than either.
 * */
static bool reaches(const struct cellar_writer *writer, uint32_t next_index)
{
    return (uint64_t)next_index * writer->config.bytes_per_cell <= writer->ground->window_bytes;
}

/* The ways into what lies on writer->ground->device. CELLAR_NONE: there is no window, and one was to be had first. */
static int open_ways(struct cellar_writer *writer, const struct cellar_pick *pick, bool pages_allowed,
                     uint64_t *file_bytes)
{
    struct cellar_ground *ground = writer->ground;
    int error = cellar_ground_map(ground, &writer->config, writer->window_limit, writer->choice, true);

    if (error == 0 && ground->window != NULL)
        error = secure_space(writer, pick, file_bytes);
    if (error == 0 && ground->window != NULL && !reaches(writer, pick->adopted.next_index))
        error = CELLAR_EWINDOW;
    if (error == CELLAR_NONE && pages_allowed) /* the window was wanted, and no other device comes after this one */
        error = -ENOTSUP;
    if (error == 0 && ground->window == NULL && !pages_allowed)
        error = CELLAR_NONE;
    if (error == 0)
        error = cellar_ground_open(ground, writer->config.bytes_per_cell, writer->cache_bytes, true,
                                   writer->eager_writes, writer->compat);
    return error;
}

static bool is_key_used(const unsigned char header[CELLAR_HEADER_BYTES], const struct cellar_key *key)
{
    return cellar_slot_has_key(header + cellar_slot_offset(CELLAR_PROCESS_1), key) ||
           cellar_slot_has_key(header + cellar_slot_offset(CELLAR_PROCESS_2), key);
}

/*
 * Opens what lies on writer->ground->device, which is locked. Nothing is written before everything has been checked.
 * CELLAR_NONE: there is no window, and the caller may want another device (only where pages_allowed is false).
 */
static int adopt(struct cellar_writer *writer, const struct cellar_config *expected, bool pages_allowed,
                 struct cellar_diagnostic *diagnostic)
{
    unsigned char header[CELLAR_HEADER_BYTES];
    struct cellar_pick_problem problem;
    struct cellar_evidence evidence;
    struct cellar_pick pick;
    uint64_t file_bytes;
    uint32_t flags;
    int error =
        cellar_ground_examine(writer->ground->device, writer->path, header, &writer->config, &file_bytes, diagnostic);

    if (error != 0)
        return error;
    if (expected != NULL && !cellar_config_equal(&writer->config, expected))
        return refuse_config(&writer->config, expected, writer->path, diagnostic);
    flags = cellar_extension_decode(header).flags;
    if ((flags & CELLAR_FLAGS_TO_KNOW & ~(uint32_t)CELLAR_FLAGS_KNOWN) != 0)
        return cellar_diagnose(diagnostic, -ENOTSUP, writer->path, CELLAR_AT_FLAGS,
                               "found features 0x%x, which a later version of Cellar knows", (unsigned)flags);
    error = cellar_evidence_gather(writer->ground->device, header, writer->config.bytes_per_cell,
                                   file_bytes / writer->config.bytes_per_cell, false, &evidence);
    if (error != 0) /* to go on without would drop what was committed */
        return cellar_diagnose(diagnostic, error, writer->path, CELLAR_OFFSET_NONE,
                               "can't tell what of the last writer's is there: %s", cellar_strerror(error));
    error = cellar_pick_writer(&evidence, &pick, &problem);
    if (error != 0)
        return cellar_ground_refuse(&problem, writer->path, diagnostic);
    if (writer->words_wanted && is_key_used(header, &writer->key))
        return cellar_diagnose(diagnostic, -EINVAL, writer->path, cellar_slot_offset(CELLAR_PROCESS_1),
                               "found the key of the last writer, expected a fresh one to publish by word");
    error = open_ways(writer, &pick, pages_allowed, &file_bytes);
    writer->words = writer->words_wanted && writer->ground->window != NULL;
    if (error == 0)
        error = cellar_writer_recover(writer, header, &evidence, &pick);
    if (error != 0)
        return error;
    cellar_writer_report(writer, &pick);
    cellar_writer_stand(writer, &pick.adopted, pick.adopted.next_index, file_bytes);
    writer->synced_next = pick.confirmed_index;
    atomic_store(&writer->flushed_next, pick.disk.next_index);
    return 0;
}

/* One attempt at the file under writer->path. -ESTALE: the path names another file by now. CELLAR_NONE: no window. */
static int open_as(struct cellar_writer *writer, const struct cellar_config *expected,
                   const struct cellar_writer_options *options)
{
    enum cellar_file_kind kind = cellar_ground_kind(writer->choice);
    struct cellar_device *device;
    int error = cellar_file_open(writer->path, CELLAR_OPEN_WRITE, 0, kind, &device);

    if (error != 0)
        return cellar_ground_refuse_file(error, writer->path, kind, diagnostic_of(options));
    error = cellar_ground_place(writer->ground, device, true);
    if (error != 0)
        return error;
    error = cellar_device_lock(writer->ground->device, CELLAR_LOCK_WRITER);
    if (error == 0)
        error = cellar_file_is_at(writer->ground->device, writer->path);
    if (error == CELLAR_NONE)
        error = -ESTALE;
    if (error == 0 && (writer->real_path = realpath(writer->path, NULL)) == NULL)
        error = -errno;
    if (error == 0)
        error = adopt(writer, expected, kind != CELLAR_FILE_MAPPED || writer->choice == CELLAR_DEVICE_MAPPED,
                      diagnostic_of(options));
    /* Whoever made this store may have died between giving it its name and making that durable. Once anything has been
     * flushed into it, somebody came past here, or past the end of a creation. */
    if (error == 0 && writer->recovery.disk_next_index == cellar_start_index(writer->config.bytes_per_cell))
        error = cellar_file_settle_name(writer->real_path);
    if (error == 0)
        error = cellar_writer_sums_open(writer);
    if (error != 0) {
        cellar_ground_close(writer->ground, false);
        free(writer->real_path);
        writer->real_path = NULL;
    }
    return error;
}

static int open_path(const char *path, const struct cellar_config *expected,
                     const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    struct cellar_writer *writer;
    int error = cellar_writer_new(path, options, &writer);

    if (error != 0)
        return error;
    for (int attempt = 0; attempt < CELLAR_OPEN_ATTEMPTS_MAX; attempt++) {
        error = open_as(writer, expected, options);
        if (error == CELLAR_NONE)
            writer->choice = CELLAR_DEVICE_PAGES;
        else if (error != -ESTALE)
            break;
    }
    if (error != 0) {
        cellar_writer_free(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

int cellar_writer_open(const char *path, const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    int error;

    clear(options);
    error = open_path(path, NULL, options, ret_writer);
    return error == 0 ? 0 : explain(error, path, "open for write", options);
}

/* The absolute name that a new file at path will have: links in its folder are followed. */
static int resolve_new(const char *path, char **ret_real_path)
{
    char *folder_copy, *name_copy, *folder = NULL, *result = NULL;
    int error = -ENOMEM;

    if (path[0] == '\0')
        return -ENOENT;
    if (path[strlen(path) - 1] == '/')
        return -EISDIR;
    folder_copy = strdup(path);
    name_copy = strdup(path);
    if (folder_copy != NULL && name_copy != NULL) {
        folder = realpath(dirname(folder_copy), NULL);
        error = folder != NULL ? 0 : -errno;
    }
    if (error == 0) {
        const char *name = basename(name_copy);
        size_t length_bytes = strlen(folder) + strlen(name) + 2;

        result = malloc(length_bytes);
        if (result == NULL)
            error = -ENOMEM;
        else
            snprintf(result, length_bytes, "%s/%s", folder, name);
    }
    free(folder_copy);
    free(name_copy);
    free(folder);
    if (error == 0)
        *ret_real_path = result;
    return error;
}

/* The writer stands at the beginning of a store that was made just now, durably. */
static void begin_empty(struct cellar_writer *writer, uint64_t file_bytes)
{
    struct cellar_state empty = {.next_index = cellar_start_index(writer->config.bytes_per_cell)};

    cellar_writer_report(writer, &(struct cellar_pick){.found = CELLAR_FOUND_NOTHING,
                                                       .disk = empty,
                                                       .process = empty,
                                                       .adopted = empty,
                                                       .rewrite_index = empty.next_index});
    if (writer->sums != NULL)
        writer->recovery.sums = CELLAR_SUMS_GOOD;
    cellar_writer_stand_empty(writer, file_bytes);
}

static bool is_there(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

/* The sums file of the hidden store, where it is to have one. The name is looked at again: from here on, for as long as
 * the hidden file is ours, nobody else makes a store of this name, so that the sums file's names are ours too. */
static int begin_sums(struct cellar_writer *writer, struct cellar_sum_file **ret_sums)
{
    *ret_sums = NULL;
    if (writer->sums_identity == 0)
        return 0;
    return is_there(writer->real_path) ? -EEXIST : cellar_writer_sums_begin(writer, writer->ground, ret_sums);
}

/* The hidden store, and its sums file, get their names; or go again. */
static int publish(struct cellar_writer *writer, struct cellar_sum_file *sums)
{
    bool renamed = false;
    int error = cellar_file_publish(writer->ground->device, writer->real_path, NULL, &renamed);

    if (error == 0 && sums != NULL)
        cellar_writer_sums_use(writer, sums);
    if (error == 0)
        return 0;
    cellar_sum_close(sums, false);
    if (!renamed && sums != NULL)
        cellar_sum_discard(writer->real_path);
    if (!renamed)
        cellar_file_discard_hidden(writer->real_path);
    return error;
}

static int create_path(struct cellar_writer *writer, struct cellar_diagnostic *diagnostic)
{
    struct cellar_sum_file *sums;
    uint64_t file_bytes;
    int error = resolve_new(writer->path, &writer->real_path);

    if (error == 0 && is_there(writer->real_path))
        error = -EEXIST;
    if (error == 0)
        error = cellar_ground_create_hidden(writer->ground, writer, writer->initial_cells, &file_bytes);
    if (error != 0)
        return cellar_ground_refuse_file(error, writer->path, cellar_ground_kind(writer->choice), diagnostic);
    error = begin_sums(writer, &sums);
    if (error != 0)
        cellar_file_discard_hidden(writer->real_path);
    else
        error = publish(writer, sums);
    if (error != 0) {
        cellar_ground_close(writer->ground, false);
        return error;
    }
    begin_empty(writer, file_bytes);
    return 0;
}

static int check_config(const struct cellar_config *config, const char *path,
                        const struct cellar_writer_options *options)
{
    const char *expected;

    if (cellar_config_check(config, NULL, &expected) == 0)
        return 0;
    return cellar_diagnose(diagnostic_of(options), -EINVAL, path, CELLAR_OFFSET_NONE, "the config must have %s",
                           expected);
}

static int create(const char *path, const struct cellar_config *config, const struct cellar_writer_options *options,
                  struct cellar_writer **ret_writer)
{
    struct cellar_writer *writer;
    int error = check_config(config, path, options);

    if (error == 0)
        error = cellar_writer_new(path, options, &writer);
    if (error != 0)
        return error;
    writer->config = *config;
    if (options != NULL && options->checksums)
        error = cellar_sum_make_identity(&writer->sums_identity);
    if (error == 0)
        error = create_path(writer, diagnostic_of(options));
    if (error != 0) {
        cellar_writer_free(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

int cellar_writer_create(const char *path, const struct cellar_config *config,
                         const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    int error;

    clear(options);
    error = create(path, config, options, ret_writer);
    return error == 0 ? 0 : explain(error, path, "create", options);
}

/* A link to nothing can't be opened, and is in the way of a new file. */
static bool names_dangling_link(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0 && S_ISLNK(status.st_mode) && stat(path, &status) != 0;
}

int cellar_writer_open_or_create(const char *path, const struct cellar_config *config,
                                 const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    int error;

    clear(options);
    error = check_config(config, path, options);
    while (error == 0) {
        error = open_path(path, config, options, ret_writer);
        if (error != -ENOENT)
            break;
        error = create(path, config, options, ret_writer);
        if (error != -EEXIST || names_dangling_link(path))
            break;
        error = 0; /* somebody else made it meanwhile */
        clear(options);
    }
    return error == 0 ? 0 : explain(error, path, "open or create for write", options);
}

/* Places the ground on a device of the caller's, and locks it. */
static int take_device(struct cellar_ground *ground, struct cellar_device *device)
{
    int error;

    if (!cellar_device_writable(device))
        return -EROFS;
    error = cellar_ground_place(ground, device, false);
    if (error == 0)
        error = cellar_device_lock(ground->device, CELLAR_LOCK_WRITER);
    ground->locked = error == 0;
    return error;
}

int cellar_writer_open_on(struct cellar_device *device, const struct cellar_writer_options *options,
                          struct cellar_writer **ret_writer)
{
    struct cellar_writer *writer;
    int error;

    clear(options);
    error = cellar_writer_new(NULL, options, &writer);
    if (error != 0)
        return explain(error, NULL, "open for write", options);
    error = take_device(writer->ground, device);
    if (error == 0)
        error = adopt(writer, NULL, true, diagnostic_of(options));
    if (error == 0)
        error = cellar_writer_sums_open(writer);
    if (error != 0) {
        cellar_ground_close(writer->ground, false);
        cellar_writer_free(writer);
        return explain(error, NULL, "open for write", options);
    }
    *ret_writer = writer;
    return 0;
}

/* A device that could not be formatted is left empty, as it was. */
static int format_device(struct cellar_writer *writer, uint64_t *ret_file_bytes)
{
    static const unsigned char zeros[CELLAR_HEADER_BYTES];
    struct iovec part = {.iov_base = (void *)(uintptr_t)zeros, .iov_len = sizeof zeros};
    int error = cellar_ground_format(writer->ground, writer, writer->initial_cells, ret_file_bytes);

    if (error != 0 && cellar_device_is_fixed(writer->ground->device))
        (void)!cellar_device_write(writer->ground->device, &part, 1, 0);
    else if (error != 0)
        (void)!cellar_device_trim(writer->ground->device, 0);
    return error;
}

/* -EEXIST unless nothing is on the device: it has no bytes, or begins with zeros, as a creation leaves it that a power
 * loss interrupts. */
static int check_blank(struct cellar_device *device)
{
    unsigned char bytes[BLANK_BYTES];
    uint64_t size_bytes;
    int error = cellar_device_size(device, &size_bytes);

    if (error != 0 || size_bytes == 0)
        return error;
    if (size_bytes > sizeof bytes)
        size_bytes = sizeof bytes;
    error = cellar_device_read(device, bytes, (size_t)size_bytes, 0);
    if (error != 0)
        return error;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, (size_t)size_bytes - 1) == 0 ? 0 : -EEXIST;
}

static int create_on(struct cellar_writer *writer, struct cellar_device *device)
{
    uint64_t file_bytes;
    int error = take_device(writer->ground, device);

    if (error == 0)
        error = check_blank(writer->ground->device);
    if (error == 0)
        error = format_device(writer, &file_bytes);
    if (error != 0) {
        cellar_ground_close(writer->ground, false);
        return error;
    }
    begin_empty(writer, file_bytes);
    return 0;
}

int cellar_writer_create_on(struct cellar_device *device, const struct cellar_config *config,
                            const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    struct cellar_writer *writer = NULL;
    int error;

    clear(options);
    error = check_config(config, NULL, options);
    if (error == 0 && options != NULL && options->checksums)
        error = -ENOTSUP;
    if (error == 0)
        error = cellar_writer_new(NULL, options, &writer);
    if (error == 0) {
        writer->config = *config;
        error = create_on(writer, device);
        if (error != 0)
            cellar_writer_free(writer);
    }
    if (error != 0)
        return explain(error, NULL, "create", options);
    *ret_writer = writer;
    return 0;
}
