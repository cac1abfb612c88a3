/*
 * replay.c - runs a fuzzer over files, and over all files of folders: what tests make of the kept corpus, with any
 * compiler.
 *
 *     fuzz_NAME [--mutants N] FILE|FOLDER...
 *
 * N: each input is also run so often with changes by chance, the same in every run. Says how many inputs it ran; a find
 * ends the process, and with CELLAR_FUZZ_VERBOSE=1 in the environment the last line before it names the file.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM_BYTES = 64 };

/* There where the fuzzer has it. */
#pragma weak LLVMFuzzerCustomMutator

static unsigned runs, mutants;
static uint32_t chance = 1;

static uint32_t draw(uint32_t limit)
{
    chance = chance * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)chance * limit >> 32);
}

/* In the place of libFuzzer's: a byte that changes, comes or goes. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length_bytes, size_t capacity_bytes)
{
    size_t at = length_bytes > 0 ? draw((uint32_t)length_bytes) : 0;
    uint32_t way = draw(4);

    if ((way == 0 || length_bytes == 0) && length_bytes < capacity_bytes) {
        memmove(bytes + at + 1, bytes + at, length_bytes - at);
        bytes[at] = (uint8_t)draw(256);
        return length_bytes + 1;
    }
    if (way == 1 && length_bytes > 1) {
        memmove(bytes + at, bytes + at + 1, length_bytes - at - 1);
        return length_bytes - 1;
    }
    if (length_bytes > 0)
        bytes[at] = (uint8_t)(way == 2 ? bytes[at] ^ 1u << draw(8) : draw(256));
    return length_bytes;
}

/* Runs a copy that is exactly so long, so that a read past it is seen. */
static void run_bytes(const uint8_t *bytes, size_t length_bytes)
{
    uint8_t *copy = malloc(length_bytes > 0 ? length_bytes : 1);

    FUZZ_NEEDS(copy != NULL);
    memcpy(copy, bytes, length_bytes);
    LLVMFuzzerTestOneInput(copy, length_bytes);
    free(copy);
    runs++;
}

static void run_mutants(const uint8_t *bytes, size_t length_bytes)
{
    uint8_t *mutant = malloc(length_bytes + ROOM_BYTES);

    FUZZ_NEEDS(mutant != NULL);
    for (unsigned i = 0; i < mutants; i++) {
        size_t length = length_bytes, capacity = length_bytes + ROOM_BYTES;

        memcpy(mutant, bytes, length_bytes);
        if (LLVMFuzzerCustomMutator != NULL)
            length = LLVMFuzzerCustomMutator(mutant, length, capacity, draw(UINT32_MAX));
        else
            length = LLVMFuzzerMutate(mutant, length, capacity);
        run_bytes(mutant, length);
    }
    free(mutant);
}

/* Said before the input runs, by a system call: the process may not live to say it later. */
static void announce(const char *path)
{
    if (getenv("CELLAR_FUZZ_VERBOSE") != NULL)
        dprintf(STDERR_FILENO, "%s\n", path);
}

static int run_file(const char *path, size_t length_bytes)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(length_bytes > 0 ? length_bytes : 1);
    size_t got = file != NULL && bytes != NULL ? fread(bytes, 1, length_bytes, file) : 0;

    if (file != NULL)
        fclose(file);
    if (file == NULL || bytes == NULL || got != length_bytes) {
        dprintf(STDERR_FILENO, "%s: cannot read\n", path);
        free(bytes);
        return 1;
    }
    announce(path);
    run_bytes(bytes, length_bytes);
    run_mutants(bytes, length_bytes);
    free(bytes);
    return 0;
}

static int run_path(const char *path);

static int run_folder(const char *path)
{
    struct dirent **entries;
    int failures = 0, count = scandir(path, &entries, NULL, alphasort);

    if (count < 0) {
        dprintf(STDERR_FILENO, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    for (int i = 0; i < count; i++) {
        char *name = NULL;

        if (entries[i]->d_name[0] != '.' && asprintf(&name, "%s/%s", path, entries[i]->d_name) >= 0) {
            failures += run_path(name);
            free(name);
        }
        free(entries[i]);
    }
    free(entries);
    return failures;
}

static int run_path(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        dprintf(STDERR_FILENO, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    return S_ISDIR(status.st_mode) ? run_folder(path) : run_file(path, (size_t)status.st_size);
}

int main(int argc, char **argv)
{
    int failures = 0, first = 1;

    if (argc > 2 && strcmp(argv[1], "--mutants") == 0) {
        mutants = (unsigned)strtoul(argv[2], NULL, 10);
        first = 3;
    }
    for (int i = first; i < argc; i++)
        failures += run_path(argv[i]);
    dprintf(STDOUT_FILENO, "%u inputs, no crash\n", runs);
    return failures > 0 || runs == 0 ? 1 : 0;
}
