/* Reading golden data: the file, its log and its expectation, and what stands in them. */
#include "golden.h"
#include <blake2.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_read(const char *path, struct bytes *ret_bytes)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    struct stat status;
    int error = fstat(descriptor, &status) == 0 ? 0 : -errno;
    unsigned char *at = error == 0 ? malloc((size_t)status.st_size + 1) : NULL;
    if (error == 0 && at == NULL)
        error = -ENOMEM;
    size_t length = 0;
    while (error == 0 && length < (size_t)status.st_size) {
        ssize_t got = read(descriptor, at + length, (size_t)status.st_size - length);
        if (got <= 0)
            error = got == 0 ? -EIO : -errno;
        else
            length += (size_t)got;
    }
    close(descriptor);
    if (error != 0) {
        free(at);
        return error;
    }
    at[length] = 0;
    *ret_bytes = (struct bytes){.at = at, .length = length};
    return 0;
}

int file_write(const char *path, const struct bytes *bytes)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return -errno;
    int error = 0;
    size_t done = 0;
    while (error == 0 && done < bytes->length) {
        ssize_t put = write(descriptor, bytes->at + done, bytes->length - done);
        if (put < 0)
            error = -errno;
        else
            done += (size_t)put;
    }
    if (close(descriptor) != 0 && error == 0)
        error = -errno;
    return error;
}

/* A JSON file: 1 where there is none, 0, or -1. */
static int load_json(const char *folder, const char *name, const char *extension, json_t **ret_json)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s%s", folder, name, extension);
    if (access(path, F_OK) != 0)
        return 1;
    json_error_t error;
    json_t *json = json_load_file(path, 0, &error);
    if (json == NULL) {
        fprintf(stderr, "conformance: %s:%d: %s\n", path, error.line, error.text);
        return -1;
    }
    *ret_json = json;
    return 0;
}

int golden_load(const char *folder, const char *name, struct golden *ret_golden)
{
    memset(ret_golden, 0, sizeof(*ret_golden));
    snprintf(ret_golden->name, sizeof(ret_golden->name), "%s", name);
    json_t *operations = NULL;
    if (load_json(folder, name, ".ops.json", &operations) < 0)
        return -1;
    if (operations != NULL) {
        ret_golden->log = json_incref(json_object_get(operations, "ops"));
        json_decref(operations);
        if (!json_is_array(ret_golden->log)) {
            fprintf(stderr, "conformance: %s/%s.ops.json: expected an array \"ops\"\n", folder, name);
            return -1;
        }
    }
    if (load_json(folder, name, ".expect.json", &ret_golden->expect) < 0)
        return -1;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s.db", folder, name);
    int error = file_read(path, &ret_golden->file);
    ret_golden->has_file = error == 0;
    if (error == 0 || (error == -ENOENT && ret_golden->expect == NULL))
        return 0;
    fprintf(stderr, "conformance: %s: %s\n", path, strerror(-error));
    return -1;
}

void golden_unload(struct golden *golden)
{
    json_decref(golden->log);
    json_decref(golden->expect);
    free(golden->file.at);
    memset(golden, 0, sizeof(*golden));
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

int json_hex(const json_t *text, void *ret_bytes, size_t length)
{
    if (!json_is_string(text) || json_string_length(text) != 2 * length)
        return -1;
    const char *digits = json_string_value(text);
    unsigned char *bytes = ret_bytes;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(digits[2 * i]), low = hex_digit(digits[2 * i + 1]);
        if (high < 0 || low < 0)
            return -1;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return 0;
}

int json_key(const json_t *object, const char *name, struct cellar_key *ret_key)
{
    return json_hex(json_object_get(object, name), ret_key->bytes, sizeof(ret_key->bytes));
}

/* The splitmix64 stream that the contents of the golden files come from. */
static void generate(uint64_t seed, unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 8) {
        seed += UINT64_C(0x9E3779B97F4A7C15);
        uint64_t word = seed;
        word = (word ^ (word >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        word = (word ^ (word >> 27)) * UINT64_C(0x94D049BB133111EB);
        word ^= word >> 31;
        for (size_t k = 0; k < 8 && i + k < length; k++)
            bytes[i + k] = (unsigned char)(word >> (8 * k));
    }
}

int operation_content(const json_t *operation, struct bytes *ret_content)
{
    const json_t *hex = json_object_get(operation, "hex");
    const json_t *seed = json_object_get(operation, "seed");
    const json_t *length = json_object_get(operation, "len");
    struct bytes content = {.length = hex != NULL ? json_string_length(hex) / 2 : (size_t)json_integer_value(length)};
    if (hex == NULL && (!json_is_integer(seed) || !json_is_integer(length) || json_integer_value(length) < 0))
        return -1;
    content.at = malloc(content.length + 1);
    if (content.at == NULL)
        return -1;
    if (hex == NULL) {
        generate((uint64_t)json_integer_value(seed), content.at, content.length);
    } else if (json_hex(hex, content.at, content.length) != 0) {
        free(content.at);
        return -1;
    }
    *ret_content = content;
    return 0;
}

static int json_u32(const json_t *object, const char *name, uint32_t *ret_number)
{
    const json_t *number = json_object_get(object, name);
    if (!json_is_integer(number) || json_integer_value(number) < 0 || json_integer_value(number) > UINT32_MAX)
        return -1;
    *ret_number = (uint32_t)json_integer_value(number);
    return 0;
}

int operation_config(const json_t *config, struct cellar_config *ret_config)
{
    struct cellar_config read = {0};
    const json_t *hex = json_object_get(config, "head_string_hex");
    const json_t *text = json_object_get(config, "head_string");
    if (hex != NULL) {
        if (json_hex(hex, read.head, sizeof(read.head)) != 0)
            return -1;
    } else {
        if (!json_is_string(text) || json_string_length(text) != sizeof(read.head))
            return -1;
        memcpy(read.head, json_string_value(text), sizeof(read.head));
    }
    if (json_u32(config, "bytes_per_cell", &read.bytes_per_cell) != 0 ||
        json_u32(config, "max_index", &read.max_index) != 0 || json_u32(config, "version", &read.version) != 0)
        return -1;
    *ret_config = read;
    return 0;
}

bool digest_equals(const void *bytes, size_t length, const char *hex)
{
    unsigned char digest[DIGEST_BYTES];
    char text[2 * DIGEST_BYTES + 1] = "";
    if (blake2b(digest, bytes, NULL, sizeof(digest), length, 0) != 0)
        return false;
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return hex != NULL && strcmp(text, hex) == 0;
}

int json_state(const json_t *object, struct state *ret_state)
{
    struct state state = {0};
    const json_t *root = json_object_get(object, "last_root_index");
    if (json_u32(object, "current_length", &state.next_index) != 0)
        return -1;
    if (!json_is_null(root) && json_u32(object, "last_root_index", &state.root_index) != 0)
        return -1;
    *ret_state = state;
    return 0;
}

int json_outcome(const json_t *result, struct outcome *ret_outcome)
{
    const json_t *error = json_object_get(result, "error");
    const json_t *value = json_object_get(result, "ok");
    const char *kind = json_string_value(json_object_get(error, "kind"));
    if ((value == NULL) == (error == NULL) || (error != NULL && kind == NULL))
        return -1;
    *ret_outcome = (struct outcome){.error = kind, .value = value};
    return 0;
}

int outcome_code(struct outcome outcome)
{
    static const struct {
        const char *kind;
        int code;
    } kinds[] = {
        {"Index_overflow", CELLAR_EINDEXFULL},
        {"Invalid_argument", -EINVAL},
        {"Header_broken", CELLAR_ECORRUPT},
        {"Failure", CELLAR_ECORRUPT},
        {"Assert_failure", CELLAR_ECORRUPT},
        {"Invalid_writer_key", CELLAR_EBADKEY},
        {"No_such_file", -ENOENT},
    };
    if (outcome.error == NULL)
        return 0;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].kind, outcome.error) == 0)
            return kinds[i].code;
    }
    return 1;
}

long logged_skipped_cells(const json_t *logs)
{
    size_t i;
    const json_t *line;
    json_array_foreach(logs, i, line)
    {
        long cells;
        const char *text = json_string_value(line);
        if (text != NULL && sscanf(text, "warning: A Plebeia writer crash was detected. %ld disk cells", &cells) == 1)
            return cells;
    }
    return -1;
}
