/*
 * conformance - does Cellar do what the originals did?
 *
 *     conformance golden [--verify-table] [DIR]
 *     conformance traces [DIR]
 *
 * The originals were run once and what they did was written down; here Cellar does the same and the results are
 * compared. Without DIR it takes the data beside the project where there is some, else the copy in tests/data.
 *
 * golden: files of Plebeia's storage. For each NAME there may be
 *     NAME.ops.json     a log: operations with their results           (golden_replay*.c)
 *     NAME.db           the file that the log left, or a file that was changed after the log
 *     NAME.expect.json  what the original does with that file          (golden_expect.c, golden_contents.c)
 * Each is worked through twice, on the mapped file and on the pages path.
 *   1. The log is replayed on a new store. Results, error kinds, the content of everything written, and the next index
 *      after every operation are compared with the log.
 *   2. The file that the replay leaves: bytes 0..159 are compared with the header that the log's own results imply
 * (made by golden_model.c, without the library), and with NAME.db; so is every cell from start to the last next index.
 * A part of NAME.db's header that is not what the log implies was changed after the log; the replay's is then compared
 * with what the log implies only.
 *   3. A copy of NAME.db is opened for read and for write. States, error kinds, the verdict on the good key and on
 *      a wrong one, contents, the header after opening and after closing, the next index given out and what recovery
 *      reports are compared with NAME.expect.json. Reading leaves the file as it was, and so does a failed open.
 * A crash in a log is a power loss after everything was written: the cells that nobody published are in the file, and
 * the extension bytes of the header are zero. The size of a file, its cells behind next and the original's mapped
 * length are not compared.
 *
 * Where Cellar differs on purpose, the table in differences.c says so, with what is expected instead. A difference
 * applies by its condition (golden_judge.c derives it from the bytes of a file, the replay from the log), and what is
 * expected instead is checked. Where it shifts the indices of a log, the rest of the log is skipped. --verify-table
 * also compares the golden files that the table names with those that were touched; it fits the shipped data only.
 *
 * traces: what the cache and the pipeline did (traces.c).
 *
 * Every mismatch is a line "NAME: where: what, expected X, got Y [device]", for a trace "[device, kind of cache]". The
 * last line counts. Exit code 0: no mismatch; 1: some; 2: usage, or data that can't be read.
 */
#include "conformance.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int usage(void)
{
    fprintf(stderr, "usage: conformance golden [--verify-table] [DIR]\n       conformance traces [DIR]\n");
    return 2;
}

static const char *default_folder(const char *beside, const char *copy)
{
    return access(beside, R_OK) == 0 ? beside : copy;
}

/* The folder itself, or what it holds under the name of the kind: ../shared holds golden and traces. */
static const char *folder_of_kind(const char *folder, const char *kind)
{
    static char below[PATH_MAX];
    struct stat status;
    int length = snprintf(below, sizeof below, "%s/%s", folder, kind);
    return length > 0 && (size_t)length < sizeof below && stat(below, &status) == 0 && S_ISDIR(status.st_mode) ? below
                                                                                                               : folder;
}

int main(int argc, char **argv)
{
    struct conformance_totals totals = {0};
    bool golden = argc > 1 && strcmp(argv[1], "golden") == 0;
    bool verify_table = golden && argc > 2 && strcmp(argv[2], "--verify-table") == 0;
    int at = verify_table ? 3 : 2;
    if (argc < 2 || argc > at + 1 || (!golden && strcmp(argv[1], "traces") != 0) || (argc > at && argv[at][0] == '-'))
        return usage();
    const char *folder = argc > at ? folder_of_kind(argv[at], golden ? "golden" : "traces")
                         : golden  ? default_folder(CONFORMANCE_BESIDE "/golden", CONFORMANCE_COPY "/golden")
                                   : default_folder(CONFORMANCE_BESIDE "/traces", CONFORMANCE_COPY "/traces");
    printf("%s\n", folder);
    int result = golden ? conformance_golden(folder, verify_table, &totals) : conformance_traces(folder, &totals);
    if (result != 0) /* what can't be read is told on standard error; the last line must not look as if all was well */
        totals.mismatches++;
    printf("%lu skipped\n", totals.skipped);
    printf("%lu files, %lu operations, %lu mismatches, %lu listed differences\n", totals.files, totals.operations,
           totals.mismatches, totals.listed_differences);
    if (result != 0 || totals.files == 0)
        return 2;
    return totals.mismatches == 0 ? 0 : 1;
}
