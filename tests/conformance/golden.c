/* The golden files of a folder, each on every device. */
#include "golden.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The expectation is about this very file, and this program reads its slots as the original does. */
static void check_data(struct run *run)
{
    const struct bytes *file = &run->golden->file;
    const json_t *described = json_object_get(run->golden->expect, "file");
    const json_t *slots = json_object_get(run->golden->expect, "slots");
    const char *digest = json_string_value(json_object_get(described, "b2"));
    at_expect(run, "file");
    check_number(run, "size", (uint64_t)json_integer_value(json_object_get(described, "size")), file->length);
    if (!digest_equals(file->at, file->length, digest))
        mismatch(run, "the golden file, expected BLAKE2b %s, got another", digest == NULL ? "?" : digest);
    for (size_t i = 0; i < json_array_size(slots); i++) {
        size_t at = CONFIG_BYTES + i * SLOT_BYTES;
        bool valid = json_is_true(json_object_get(json_array_get(slots, i), "valid"));
        check_number(run, "slot is valid", valid, at + SLOT_BYTES <= file->length && slot_is_valid(file->at + at));
    }
}

static bool run_golden(const struct golden *golden, struct run run)
{
    static const struct {
        enum cellar_device_choice device;
        const char *label;
    } devices[] = {{CELLAR_DEVICE_MAPPED, "mapped"}, {CELLAR_DEVICE_PAGES, "pages"}};
    run.golden = golden;
    run.device_label = "data";
    if (golden->expect != NULL)
        check_data(&run);
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]) && !run.unreadable; i++) {
        run.device = devices[i].device;
        run.device_label = devices[i].label;
        if (golden->log != NULL)
            replay_log(&run);
        if (golden->expect != NULL && !run.unreadable) {
            check_reading(&run);
            check_writing(&run);
        }
    }
    return !run.unreadable;
}

/* Cuts a known ending off a name. */
static bool cut_ending(char *name)
{
    static const char *const endings[] = {".ops.json", ".expect.json", ".db"};
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        size_t length = strlen(name), ending = strlen(endings[i]);
        if (length > ending && strcmp(name + length - ending, endings[i]) == 0) {
            name[length - ending] = '\0';
            return true;
        }
    }
    return false;
}

static int select_golden(const struct dirent *entry)
{
    char name[sizeof(entry->d_name)];
    snprintf(name, sizeof(name), "%s", entry->d_name);
    return cut_ending(name);
}

/* Each name of the folder once, in order: the endings of one name follow each other in the listing, or nearly so, and a
 * file is taken when its first one comes. */
static int run_folder(const char *folder, struct run *run)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, select_golden, alphasort);
    int result = count > 0 ? 0 : -1;
    if (count < 0)
        fprintf(stderr, "conformance: %s: %s\n", folder, strerror(errno));
    else if (count == 0)
        fprintf(stderr, "conformance: %s: no golden files\n", folder);
    for (int i = 0; i < count; i++) {
        struct golden golden;
        bool seen = false;
        cut_ending(entries[i]->d_name);
        for (int k = 0; k < i && !seen; k++)
            seen = strcmp(entries[k]->d_name, entries[i]->d_name) == 0;
        if (seen)
            continue;
        if (golden_load(folder, entries[i]->d_name, &golden) != 0 || !run_golden(&golden, *run))
            result = -1;
        run->totals->files++;
        golden_unload(&golden);
    }
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return result;
}

int conformance_golden(const char *folder, bool verify_table, struct conformance_totals *totals)
{
    struct difference_ledger ledger = {0};
    const char *temporary = getenv("TMPDIR");
    char work[PATH_MAX / 2], path[PATH_MAX];
    snprintf(work, sizeof(work), "%s/conformance.XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(work) == NULL) {
        fprintf(stderr, "conformance: %s: %s\n", work, strerror(errno));
        return -1;
    }
    snprintf(path, sizeof(path), "%s/store", work);
    struct run run = {.path = path, .totals = totals, .ledger = &ledger, .verify_table = verify_table};
    int result = run_folder(folder, &run);
    if (verify_table)
        totals->mismatches += differences_verify(&ledger);
    differences_print(&ledger);
    differences_end(&ledger);
    unlink(path);
    rmdir(work);
    return result;
}
