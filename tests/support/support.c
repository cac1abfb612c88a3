#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void support_assert_result(int result, int expected, const char *call, const char *file, int line)
{
    char expected_text[96];

    if (result == expected)
        return;
    snprintf(expected_text, sizeof expected_text, "%s", cellar_strerror(expected));
    print_error("%s gave %d (%s), not %d (%s)\n", call, result, cellar_strerror(result), expected, expected_text);
    _fail(file, line);
}

/* Strings that support_path gave out, freed with their folder. */
struct path {
    struct path *next;
    const char *folder;
    char text[];
};

static struct path *paths;

char *support_folder_make(void)
{
    const char *parent = getenv("TMPDIR");
    char *folder;

    if (parent == NULL || parent[0] == '\0')
        parent = "/tmp";
    folder = malloc(strlen(parent) + sizeof "/cellar-test.XXXXXX");
    assert_non_null(folder);
    strcpy(folder, parent);
    strcat(folder, "/cellar-test.XXXXXX");
    assert_non_null(mkdtemp(folder));
    return folder;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

void support_folder_remove(char *folder)
{
    struct path **link = &paths;

    assert_int_equal(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    while (*link != NULL) {
        struct path *path = *link;

        if (path->folder == folder) {
            *link = path->next;
            free(path);
        } else {
            link = &path->next;
        }
    }
    free(folder);
}

char *support_path(const char *folder, const char *name)
{
    size_t length_bytes = strlen(folder) + strlen(name) + 2;
    struct path *path = malloc(sizeof *path + length_bytes);

    assert_non_null(path);
    path->next = paths;
    path->folder = folder;
    snprintf(path->text, length_bytes, "%s/%s", folder, name);
    paths = path;
    return path->text;
}

int support_folder_setup(void **state)
{
    *state = support_folder_make();
    return 0;
}

int support_folder_teardown(void **state)
{
    support_folder_remove(*state);
    return 0;
}

static void put_bytes(const char *path, int flags, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);

    assert_true(fd >= 0);
    while (length_bytes > 0) {
        ssize_t put = pwrite(fd, from, length_bytes, (off_t)offset);

        assert_true(put > 0);
        from += put;
        offset += (uint64_t)put;
        length_bytes -= (size_t)put;
    }
    assert_int_equal(close(fd), 0);
}

void support_file_write(const char *path, const void *bytes, size_t length_bytes)
{
    put_bytes(path, O_CREAT | O_TRUNC, 0, bytes, length_bytes);
}

void support_file_patch(const char *path, uint64_t offset, const void *bytes, size_t length_bytes)
{
    put_bytes(path, 0, offset, bytes, length_bytes);
}

uint64_t support_file_size(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return (uint64_t)status.st_size;
}

unsigned char *support_file_read(const char *path, size_t *ret_length_bytes)
{
    size_t length_bytes = (size_t)support_file_size(path), done = 0;
    unsigned char *bytes = malloc(length_bytes > 0 ? length_bytes : 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_non_null(bytes);
    assert_true(fd >= 0);
    while (done < length_bytes) {
        ssize_t got = pread(fd, bytes + done, length_bytes - done, (off_t)done);

        assert_true(got > 0);
        done += (size_t)got;
    }
    close(fd);
    *ret_length_bytes = length_bytes;
    return bytes;
}

uint64_t support_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t support_random_below(uint64_t *state, uint64_t limit)
{
    assert_true(limit > 0);
    return support_random(state) % limit;
}

void support_bytes(uint64_t seed, void *buffer, size_t length_bytes)
{
    unsigned char *to = buffer;
    uint64_t word = 0;

    for (size_t i = 0; i < length_bytes; i++) {
        if (i % 8 == 0)
            word = support_random(&seed);
        to[i] = (unsigned char)(word >> (8 * (i % 8)));
    }
}

/* The signals that cmocka catches, to go on with the next test: a child must not. */
static void forget_handlers(void)
{
    static const int caught[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGABRT};

    for (size_t i = 0; i < SUPPORT_COUNT(caught); i++)
        signal(caught[i], SIG_DFL);
}

int support_child(int (*run)(void *user), void *user)
{
    int pipe_fds[2], result = 0, status = 0;
    ssize_t got;
    pid_t child;

    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uid_t user_before = geteuid();

        forget_handlers();
        result = run(user);
        if (write(pipe_fds[1], &result, sizeof result) != (ssize_t)sizeof result)
            _exit(1);
        if (geteuid() != user_before)
            _exit(0); /* another user can't write coverage, nor look for leaks */
        exit(0);
    }
    close(pipe_fds[1]);
    assert_int_equal(waitpid(child, &status, 0), child); /* first: a grandchild may keep the pipe open */
    got = WIFSIGNALED(status) ? 0 : read(pipe_fds[0], &result, sizeof result);
    close(pipe_fds[0]);
    if (WIFSIGNALED(status))
        return -WTERMSIG(status);
    assert_int_equal(got, sizeof result);
    assert_int_equal(WEXITSTATUS(status), 0);
    return result;
}

bool support_under_valgrind(void)
{
    const char *preloaded = getenv("LD_PRELOAD"); /* valgrind puts its own there */

    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

int support_without_memory(int (*run)(void *user), void *user)
{
    struct rlimit before, nothing;
    int result;

    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    nothing = before;
    nothing.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_AS, &nothing), 0);
    result = run(user);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    return result;
}

bool support_is_mapped_with(const void *address, const char *flag)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    bool here = false, result = false;
    char line[512];

    if (maps == NULL)
        support_skip("no /proc/self/smaps");
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long long begin, end;

        if (sscanf(line, "%llx-%llx ", &begin, &end) == 2) {
            here = (uintptr_t)address >= begin && (uintptr_t)address < end;
            continue;
        }
        for (char *word = here && strncmp(line, "VmFlags:", 8) == 0 ? strtok(line + 8, " \n") : NULL; word != NULL;
             word = strtok(NULL, " \n"))
            result = result || strcmp(word, flag) == 0;
    }
    fclose(maps);
    return result;
}

int support_open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

bool support_is_unmapped(const void *address)
{
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char in_memory;

    return mincore((void *)((uintptr_t)address / page_bytes * page_bytes), page_bytes, &in_memory) != 0 &&
           errno == ENOMEM;
}

bool support_cache_debug(void)
{
    const char *value = getenv("CELLAR_CACHE_DEBUG");

    return value != NULL && strcmp(value, "1") == 0;
}

bool support_drop_root(void)
{
    enum { NOBODY = 65534 };

    if (geteuid() != 0)
        return true;
    return setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
}

bool support_has_direct(const char *folder)
{
    const char *path = support_path(folder, ".direct");
    struct cellar_device *device;
    int error = cellar_device_open_pread(
        path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE | CELLAR_OPEN_DIRECT, 0600, &device);

    if (error == 0) {
        unlink(path);
        cellar_device_close(device);
    }
    return error == 0;
}

struct cellar_device *support_device_open(enum support_device kind, const char *folder, const char *name,
                                          uint64_t size_bytes, uint64_t capacity_bytes)
{
    struct cellar_device *device = NULL;
    int flags = CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE;

    if (kind == SUPPORT_DEVICE_MEMORY) {
        assert_done(cellar_device_open_memory(NULL, size_bytes, capacity_bytes, &device));
        return device;
    }
    if (kind == SUPPORT_DEVICE_FILE)
        assert_done(cellar_device_open_file(support_path(folder, name), flags, 0644, &device));
    else if (kind == SUPPORT_DEVICE_PREAD)
        assert_done(cellar_device_open_pread(support_path(folder, name), flags, 0644, &device));
    if (kind == SUPPORT_DEVICE_DIRECT) {
        assert_done(cellar_device_open_pread(support_path(folder, name), flags | CELLAR_OPEN_DIRECT, 0644, &device));
        assert_done(cellar_device_open_bytes(device, &device));
    }
    assert_done(cellar_device_grow(device, 0, size_bytes));
    return device;
}

int support_device_write(struct cellar_device *device, const void *bytes, size_t length_bytes, uint64_t offset)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length_bytes};

    return cellar_device_write(device, &part, 1, offset);
}
