#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

const enum cellar_device_choice kernel_choices[KERNEL_CHOICES] = {CELLAR_DEVICE_MAPPED, CELLAR_DEVICE_AUTO,
                                                                  CELLAR_DEVICE_PAGES, CELLAR_DEVICE_DIRECT};
const char *const kernel_choice_names[KERNEL_CHOICES] = {"mapped", "auto", "pages", "direct"};

static bool cannot(const char *what)
{
    print_message("can't %s: %s\n", what, strerror(errno));
    return false;
}

static bool put_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool put = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return put;
}

bool kernel_enter(void)
{
    uid_t user = geteuid();
    gid_t group = getegid();
    char map[64];

    if (unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0)
        return cannot("have a mount namespace");
    if (user != 0) {
        snprintf(map, sizeof map, "0 %u 1", (unsigned)user);
        if (!put_text("/proc/self/uid_map", map) || !put_text("/proc/self/setgroups", "deny"))
            return cannot("map the user");
        snprintf(map, sizeof map, "0 %u 1", (unsigned)group);
        if (!put_text("/proc/self/gid_map", map))
            return cannot("map the group");
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || cannot("make mounts private");
}

bool kernel_mount_tmpfs(const char *folder, uint64_t size_bytes, bool read_only)
{
    unsigned long flags = MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0);
    char options[64];

    snprintf(options, sizeof options, "size=%llu", (unsigned long long)size_bytes);
    if (read_only)
        return mount(NULL, folder, NULL, MS_REMOUNT | flags, options) == 0 || cannot("remount read-only");
    return mount("none", folder, "tmpfs", flags, options) == 0 || cannot("mount a tmpfs");
}

/* Runs a command of the system; true where it was found and gave 0. */
static bool run_command(char *const arguments[])
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

        dup2(nothing, STDOUT_FILENO);
        dup2(nothing, STDERR_FILENO);
        if (setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1) == 0)
            execvp(arguments[0], arguments);
        _exit(127);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool kernel_mount_ext4(const char *folder, const char *image_path, uint64_t size_bytes)
{
    char image[4096], place[4096];
    char *make[] = {"mkfs.ext4",          "-q", "-F", "-b",  "4096", "-O", "^has_journal", "-E",
                    "lazy_itable_init=0", "-m", "0",  image, NULL};
    char *attach[] = {"mount", "-t", "ext4", "-o", "loop", image, place, NULL};
    int fd;

    snprintf(image, sizeof image, "%s", image_path);
    snprintf(place, sizeof place, "%s", folder);
    fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size_bytes) != 0)
        return cannot("make an image");
    close(fd);
    errno = EPERM;
    return (run_command(make) && run_command(attach)) || cannot("make and mount an ext4 on a loop device");
}

bool kernel_fill(const char *path, uint64_t spare_bytes)
{
    static const unsigned char bytes[65536] = {1};
    size_t step = sizeof bytes;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct statvfs status;

    if (fd < 0)
        return cannot("make a ballast");
    while (spare_bytes == 0 ||
           (fstatvfs(fd, &status) == 0 && (uint64_t)status.f_bavail * status.f_frsize > spare_bytes)) {
        bool put = write(fd, bytes, step) == (ssize_t)step && fsync(fd) == 0; /* blocks that are given late, now */

        if (!put && step == 4096)
            break;
        if (!put)
            step = 4096;
    }
    close(fd);
    return true;
}

void kernel_run(int (*run)(void *user), void *user)
{
    int line = support_child(run, user);

    if (line == KERNEL_CANNOT)
        support_skip("see above");
    assert_int_equal(line, 0);
}

struct cellar_writer_options kernel_options(const struct kernel_case *c)
{
    return (struct cellar_writer_options){.device = c->choice, .cache_bytes = 1, .resize_step_bytes = 65536};
}

struct cellar_config kernel_config(void)
{
    struct cellar_config config = {.bytes_per_cell = KERNEL_BYTES_PER_CELL, .max_index = 1 << 20, .version = 1};

    memcpy(config.head, "KERNEL FAULTS       ", CELLAR_HEAD_BYTES);
    return config;
}

uint32_t kernel_start(void)
{
    return CELLAR_HEADER_BYTES / KERNEL_BYTES_PER_CELL;
}

int kernel_append(struct cellar_writer *writer, uint32_t *ret_index)
{
    unsigned char cell[KERNEL_BYTES_PER_CELL];

    support_bytes(cellar_writer_next(writer), cell, sizeof cell);
    return cellar_writer_append(writer, cell, 1, ret_index);
}

bool kernel_holds(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t end_index)
{
    for (uint32_t index = first_index; index < end_index; index++) {
        unsigned char expected[KERNEL_BYTES_PER_CELL], got[KERNEL_BYTES_PER_CELL];

        support_bytes(index, expected, sizeof expected);
        if (cellar_snapshot_read(snapshot, index, 0, got, sizeof got) != 0 || memcmp(got, expected, sizeof got) != 0)
            return false;
    }
    return true;
}
