/* workloads_size.c - the size of the library, and what a reader takes of memory beside the mapping. */
#include "workload.h"

#include <cellar/error.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READS = 4096 }; /* before a reader's memory is looked at */

extern char **environ;

static void add_bytes(struct bench_session *session, const char *engine, const char *mode, double bytes)
{
    struct bench_measure *measure = bench_result_add_measure(&session->result, &bench_size.heading, engine, mode);

    if (measure == NULL)
        return;
    measure->unit = "bytes";
    measure->value = bytes;
}

static void add_note(struct bench_session *session, const char *engine, const char *mode, const char *text)
{
    struct bench_note *note = bench_result_add_note(&session->result, &bench_size.heading, engine, mode);

    if (note != NULL)
        snprintf(note->text, sizeof note->text, "%s", text);
}

/* The file that this process has the library from. */
static const char *library_path(void)
{
    const char *(*function)(void) = cellar_version_string;
    void *address;
    Dl_info found;

    memcpy(&address, &function, sizeof address);
    return dladdr(address, &found) != 0 ? found.dli_fname : NULL;
}

/* A copy of it goes through strip(1). */
static int strip_library(const char *path, const char *stripped, uint64_t *ret_bytes)
{
    char *arguments[] = {"strip", "-o", (char *)(uintptr_t)stripped, (char *)(uintptr_t)path, NULL};
    struct stat status;
    pid_t child;
    int ended;

    if (posix_spawnp(&child, arguments[0], NULL, NULL, arguments, environ) != 0)
        return BENCH_SKIP;
    while (waitpid(child, &ended, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (!WIFEXITED(ended) || WEXITSTATUS(ended) != 0)
        return BENCH_SKIP;
    if (stat(stripped, &status) < 0)
        return -errno;
    *ret_bytes = (uint64_t)status.st_size;
    return 0;
}

static int measure_library(struct bench_session *session)
{
    static const char mode[] = "library, stripped";
    const char *path = library_path();
    char stripped[512];
    uint64_t bytes = 0;
    int length = snprintf(stripped, sizeof stripped, "%s/library", session->directory);
    int status = BENCH_SKIP;

    if (length <= 0 || (size_t)length >= sizeof stripped)
        return -ENAMETOOLONG;
    if (path != NULL)
        status = strip_library(path, stripped, &bytes);
    if (status == 0)
        add_bytes(session, BENCH_NAME_CELLAR, mode, (double)bytes);
    if (status == BENCH_SKIP)
        add_note(session, BENCH_NAME_CELLAR, mode, "no strip here");
    unlink(stripped);
    return status < 0 ? status : 0;
}

/* Memory of this process that is not a file's: "Anonymous" of /proc/self/smaps_rollup. */
static uint64_t anonymous_bytes(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    unsigned long long kib = 0;
    char line[256];

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Anonymous: %llu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return (uint64_t)kib << 10;
}

/* What a reader of its own adds to a process that has read READS cells. In a child. */
static int open_and_read(const struct bench_case *source, uint64_t *ret_bytes)
{
    const struct bench_session *session = source->session;
    uint64_t reads = session->scale->cells < READS ? session->scale->cells : READS;
    uint64_t before, sum;
    void *store;
    int status;

    malloc_trim(0); /* memory that was freed counts when it is used again */
    before = anonymous_bytes();
    status = source->engine->open_read(source->directory, &source->spec, source->variant->setup, &store);
    if (status == 0)
        status = source->engine->read_random(store, session->indices, reads, &sum);
    *ret_bytes = anonymous_bytes() - before;
    return before == 0 ? -ENOENT : status;
}

static int measure_reader(struct bench_session *session, const struct bench_case *source)
{
    uint64_t bytes = 0;
    int ends[2];
    pid_t child;
    ssize_t got;

    if (pipe(ends) < 0)
        return -errno;
    child = fork();
    if (child == 0) {
        bool told = open_and_read(source, &bytes) == 0 && write(ends[1], &bytes, sizeof bytes) == sizeof bytes;

        _exit(told ? 0 : 1);
    }
    close(ends[1]);
    got = child > 0 ? read(ends[0], &bytes, sizeof bytes) : -1;
    close(ends[0]);
    if (child > 0)
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            continue;
    if (got != (ssize_t)sizeof bytes)
        return -ECHILD;
    /* A page at least: less can't be seen. */
    add_bytes(session, source->engine->name, "memory of a reader beside the mapping",
              bytes > 0 ? (double)bytes : (double)sysconf(_SC_PAGESIZE));
    return 0;
}

static int measure_engine(struct bench_session *session, const struct bench_engine *engine,
                          const struct bench_variant *variant)
{
    struct bench_case source = {.session = session, .workload = &bench_size, .engine = engine, .variant = variant};
    int status;

    source.spec = (struct bench_spec){.first_index = session->ordered[0],
                                      .expected_cells = session->scale->cells,
                                      .expected_bytes = session->scale->cells * BENCH_CELL_BYTES};
    snprintf(source.directory, sizeof source.directory, "%s/size-%s", session->directory, engine->name);
    status = bench_case_create(&source);
    if (status == 0)
        status = engine->append(source.store, &session->source, 0, session->scale->cells, BENCH_COMMIT_EVERY);
    if (status == 0) {
        status = engine->close(source.store);
        source.store = NULL;
    }
    if (status == 0)
        status = measure_reader(session, &source);
    if (status != 0)
        bench_case_report(&source, status);
    bench_case_discard(&source);
    return status;
}

static int measure_size(struct bench_session *session, const struct bench_workload *workload)
{
    int status = 0;

    (void)workload;
    if (session->engine == NULL || strcmp(session->engine, BENCH_NAME_CELLAR) == 0)
        status = measure_library(session);
    for (size_t e = 0; e < bench_engine_count; e++)
        for (size_t v = 0; v < bench_engines[e]->variant_count && status == 0; v++) {
            const struct bench_engine *engine = bench_engines[e];

            if (engine->variants[v].operation == BENCH_READ_SHARED && !engine->has_threads &&
                (session->engine == NULL || strcmp(session->engine, engine->name) == 0))
                status = measure_engine(session, engine, &engine->variants[v]);
        }
    return status;
}

const struct bench_workload bench_size = {
    .heading = {"size", "bytes of the library, and of a reader's memory that is no file's",
                "a process of its own, after 4096 reads at random"},
    .measure = measure_size,
};
