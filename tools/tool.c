#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEY_DIGITS = 2 * CELLAR_KEY_BYTES };

static const char *tool_name = "cellar";
static const char *tool_help = "";

void cellar_tool_begin(const char *name, const char *help)
{
    tool_name = name;
    tool_help = help;
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(CELLAR_EXIT_SYSTEM);
    }
}

int cellar_tool_print_help(void)
{
    fputs(tool_help, stdout);
    return cellar_tool_finish(CELLAR_EXIT_DONE);
}

int cellar_tool_print_version(void)
{
    printf("%s (cellar) %s\n", tool_name, cellar_version_string());
    return cellar_tool_finish(CELLAR_EXIT_DONE);
}

int cellar_tool_refuse(void)
{
    fputs(tool_help, stderr);
    return CELLAR_EXIT_USAGE;
}

int cellar_tool_usage(const char *format, ...)
{
    if (format != NULL) {
        va_list arguments;

        fprintf(stderr, "%s: ", tool_name);
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
    }
    fprintf(stderr, "Try '%s --help'.\n", tool_name);
    return CELLAR_EXIT_USAGE;
}

void cellar_tool_error(const char *file, uint64_t offset, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s: ", tool_name);
    if (file != NULL)
        fprintf(stderr, "%s: ", file);
    if (offset != CELLAR_OFFSET_NONE)
        fprintf(stderr, "offset %llu: ", (unsigned long long)offset);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

int cellar_tool_store_error(const char *file, int error, const struct cellar_diagnostic *diagnostic)
{
    if (diagnostic != NULL && diagnostic->error == error && diagnostic->message[0] != '\0')
        fprintf(stderr, "%s: %s\n", tool_name, diagnostic->message);
    else
        cellar_tool_error(file, CELLAR_OFFSET_NONE, "%s", cellar_strerror(error));
    switch (error) {
    case CELLAR_ECORRUPT:
    case CELLAR_ECHECKSUM:
        return CELLAR_EXIT_CORRUPT;
    case CELLAR_EBUSY:
        return CELLAR_EXIT_BUSY;
    default:
        return CELLAR_EXIT_SYSTEM;
    }
}

void cellar_tool_tell_path(const struct cellar_info *info)
{
    if (info->data_path == CELLAR_PATH_WINDOW)
        cellar_tool_error(info->path, CELLAR_OFFSET_NONE, "device %s, through a window of %llu bytes",
                          info->device_name, (unsigned long long)info->window_bytes);
    else
        cellar_tool_error(info->path, CELLAR_OFFSET_NONE, "device %s, through pages, without a window",
                          info->device_name);
}

/* The digits at *text as a number; *text moves behind them. */
static int digits_parse(const char **text, uint64_t *ret_number)
{
    const char *c = *text;
    uint64_t number = 0;

    if (*c < '0' || *c > '9')
        return -EINVAL;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');

        if (number > (UINT64_MAX - digit) / 10)
            return -EINVAL;
        number = number * 10 + digit;
    }
    *text = c;
    *ret_number = number;
    return 0;
}

int cellar_tool_number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    uint64_t number;

    if (digits_parse(&text, &number) != 0 || *text != '\0' || number < min || number > max)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

int cellar_tool_bytes_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_bytes)
{
    uint64_t number, unit = 1;

    if (digits_parse(&text, &number) != 0)
        return -EINVAL;
    if (*text != '\0') {
        const char *letter = strchr("KMG", *text);

        if (letter == NULL || text[1] != '\0')
            return -EINVAL;
        unit = *letter == 'K' ? UINT64_C(1) << 10 : *letter == 'M' ? UINT64_C(1) << 20 : UINT64_C(1) << 30;
    }
    if (number > UINT64_MAX / unit || number * unit < min || number * unit > max)
        return -EINVAL;
    *ret_bytes = number * unit;
    return 0;
}

static int nibble(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

int cellar_tool_key_parse(const char *text, struct cellar_key *ret_key)
{
    struct cellar_key key;

    for (size_t i = 0; i < CELLAR_KEY_BYTES; i++) {
        int high = nibble(text[2 * i]);
        int low = high < 0 ? -1 : nibble(text[2 * i + 1]);

        if (low < 0)
            return -EINVAL;
        key.bytes[i] = (unsigned char)(high << 4 | low);
    }
    if (text[KEY_DIGITS] != '\0')
        return -EINVAL;
    *ret_key = key;
    return 0;
}

/* Reads up to capacity bytes, to the end of the file. */
static ssize_t read_up_to(int fd, char *buffer, size_t capacity)
{
    size_t done = 0;

    while (done < capacity) {
        ssize_t got = read(fd, buffer + done, capacity - done);

        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0)
            done += (size_t)got;
    }
    return (ssize_t)done;
}

int cellar_tool_key_read(const char *path, struct cellar_key *ret_key)
{
    char text[KEY_DIGITS + 3];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int error = fd < 0 ? -errno : 0;

    if (error == 0) {
        ssize_t length = read_up_to(fd, text, sizeof text - 1);

        close(fd);
        if (length < 0) {
            error = (int)length;
        } else {
            text[length] = '\0';
            if (length == KEY_DIGITS + 1 && text[KEY_DIGITS] == '\n')
                text[KEY_DIGITS] = '\0';
            if (cellar_tool_key_parse(text, ret_key) == 0)
                return 0;
            cellar_tool_error(path, 0, "found no key, expected 64 hexadecimal digits and a newline");
            return -EINVAL;
        }
    }
    if (error != -ENOENT)
        cellar_tool_error(path, CELLAR_OFFSET_NONE, "cannot read the key: %s", cellar_strerror(error));
    return error;
}

static int write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t put = write(fd, bytes, length);

        if (put < 0 && errno != EINTR)
            return -errno;
        if (put > 0) {
            bytes += put;
            length -= (size_t)put;
        }
    }
    return 0;
}

/* Gives the file at hidden its name, where nothing must be. 0 or a negative error. */
static int name_file(const char *hidden, const char *path)
{
    int fd;

    if (link(hidden, path) == 0) {
        unlink(hidden);
        return 0;
    }
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    /* A file system without hard links: the name is taken first. */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    close(fd);
    if (rename(hidden, path) == 0)
        return 0;
    fd = -errno;
    unlink(path);
    return fd;
}

/* Writes text to a file of mode 0600 that appears under its name whole or not at all. */
static int write_file(const char *path, const char *text, size_t length)
{
    char *hidden;
    int error = 0, fd;

    if (asprintf(&hidden, "%s.XXXXXX", path) < 0)
        return -ENOMEM;
    fd = mkostemp(hidden, O_CLOEXEC);
    if (fd < 0) {
        error = -errno;
        free(hidden);
        return error;
    }
    error = write_all(fd, text, length);
    if (error == 0 && fsync(fd) != 0)
        error = -errno;
    if (close(fd) != 0 && error == 0)
        error = -errno;
    if (error == 0)
        error = name_file(hidden, path);
    if (error != 0)
        unlink(hidden);
    free(hidden);
    return error;
}

int cellar_tool_key_write(const char *path, const struct cellar_key *key)
{
    char text[KEY_DIGITS + 1];
    int error;

    for (size_t i = 0; i < CELLAR_KEY_BYTES; i++) {
        text[2 * i] = "0123456789abcdef"[key->bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[key->bytes[i] & 15];
    }
    text[KEY_DIGITS] = '\n';
    error = write_file(path, text, sizeof text);
    if (error != 0 && error != -EEXIST)
        cellar_tool_error(path, CELLAR_OFFSET_NONE, "cannot write the key: %s", cellar_strerror(error));
    return error;
}

/* True where standard output is a pipe or socket that nobody reads any more. */
static bool reader_is_gone(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

int cellar_tool_output_flush(void)
{
    static bool told;
    /* A stream that failed earlier only says that it did; errno speaks for this very flush. */
    bool failed_before = ferror(stdout) != 0;
    int error = fflush(stdout) == 0 ? 0 : -errno;

    if (error == 0 && !failed_before)
        return 0;
    if (!told && error != -EPIPE && !reader_is_gone())
        cellar_tool_error("standard output", CELLAR_OFFSET_NONE, "%s",
                          error != 0 ? cellar_strerror(error) : "not everything could be written");
    told = true;
    return CELLAR_EXIT_SYSTEM;
}

int cellar_tool_finish(int exit_code)
{
    int flushed = cellar_tool_output_flush();

    return flushed != 0 ? flushed : exit_code;
}
