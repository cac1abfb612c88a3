#include "machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef BENCH_BUILD_TYPE
#define BENCH_BUILD_TYPE "unknown"
#endif

#define QUOTE(TOKEN) #TOKEN
#define TEXT(MACRO) QUOTE(MACRO)

#if defined(__clang__)
#define COMPILER "clang " TEXT(__clang_major__) "." TEXT(__clang_minor__) "." TEXT(__clang_patchlevel__)
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

enum { MOUNT_FIELDS_MAX = 64 };

static void copy_text(char *target, size_t capacity_bytes, const char *text)
{
    snprintf(target, capacity_bytes, "%s", text);
}

/* The text behind the colon of the line of /proc/cpuinfo that starts with name. */
static bool find_cpuinfo(const char *name, char *text, size_t capacity_bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[512];
    bool found = false;

    while (!found && file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, ':');

        if (value == NULL || strncmp(line, name, strlen(name)) != 0)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        copy_text(text, capacity_bytes, value);
        found = true;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/*
 * One line of /proc/self/mountinfo (proc(5)): its third field is the device, its sixth the options of the mount; after
 * a lone "-" come the type, the source and the options of the file system.
 */
static bool match_mount(char *line, dev_t device, struct bench_machine *machine)
{
    char *fields[MOUNT_FIELDS_MAX];
    char wanted[32];
    char *rest = NULL;
    int count = 0;
    int dash = 6;

    snprintf(wanted, sizeof wanted, "%u:%u", major(device), minor(device));
    for (char *field = strtok_r(line, " \n", &rest); field != NULL && count < MOUNT_FIELDS_MAX;
         field = strtok_r(NULL, " \n", &rest))
        fields[count++] = field;
    if (count < 7 || strcmp(fields[2], wanted) != 0)
        return false;
    while (dash < count && strcmp(fields[dash], "-") != 0)
        dash++;
    if (dash + 3 >= count)
        return false;
    copy_text(machine->file_system, sizeof machine->file_system, fields[dash + 1]);
    copy_text(machine->file_system_options, sizeof machine->file_system_options, fields[5]);
    return true;
}

static void describe_file_system(const char *directory, struct bench_machine *machine)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    struct stat status;
    char line[4096];

    copy_text(machine->file_system, sizeof machine->file_system, "unknown");
    if (file == NULL)
        return;
    if (stat(directory, &status) == 0)
        while (fgets(line, sizeof line, file) != NULL && !match_mount(line, status.st_dev, machine))
            continue;
    fclose(file);
}

void bench_machine_describe(const char *directory, struct bench_machine *ret_machine)
{
    struct bench_machine machine = {.compiler = COMPILER, .build = BENCH_BUILD_TYPE};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    time_t now = time(NULL);
    struct utsname system;
    struct tm utc;

    if (!find_cpuinfo("model name", machine.processor, sizeof machine.processor) &&
        !find_cpuinfo("Model", machine.processor, sizeof machine.processor))
        copy_text(machine.processor, sizeof machine.processor, "unknown");
    machine.cores = cores > 0 ? (unsigned)cores : 0;
    if (pages > 0 && page_bytes > 0)
        machine.memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
    if (uname(&system) == 0)
        snprintf(machine.kernel, sizeof machine.kernel, "%.63s %.63s %.63s", system.sysname, system.release,
                 system.machine);
    else
        copy_text(machine.kernel, sizeof machine.kernel, "unknown");
    describe_file_system(directory, &machine);
    if (gmtime_r(&now, &utc) == NULL || strftime(machine.date, sizeof machine.date, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        copy_text(machine.date, sizeof machine.date, "unknown");
    *ret_machine = machine;
}
