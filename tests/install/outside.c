/*
 * outside.c - a program that knows Cellar only as it is installed: puts a value into a store and reads it back, and
 * walks through a cache and a pipeline. Prints the library's version.
 */
#include <cellar/cellar.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int error, const char *what)
{
    if (error != 0) {
        fprintf(stderr, "outside: %s: %s\n", what, cellar_strerror(error));
        exit(EXIT_FAILURE);
    }
}

static void must_hold(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "outside: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void use_store(const char *path)
{
    static const char text[] = "from the outside";
    struct cellar_config config = {{0}, 32, 4096, 1};
    struct cellar_writer *writer;
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;
    uint32_t index;
    char buffer[sizeof text];
    size_t size_bytes;

    memset(config.head, ' ', sizeof config.head);
    must(cellar_writer_create(path, &config, NULL, &writer), "create");
    must(cellar_writer_write_value(writer, text, sizeof text, &index), "write_value");
    must(cellar_writer_set_root(writer, index), "set_root");
    must(cellar_writer_close(writer), "close");

    must(cellar_reader_open(path, NULL, &reader), "open");
    snapshot = cellar_reader_snapshot(reader);
    must(cellar_snapshot_read_value(&snapshot, snapshot.root_index, buffer, sizeof buffer, &size_bytes), "read_value");
    must_hold(size_bytes == sizeof text && memcmp(buffer, text, sizeof text) == 0, "the value came back different");
    cellar_reader_close(reader);
}

static void use_pipeline(void)
{
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;
    uint32_t value;

    must(cellar_device_open_memory(NULL, 8192, 8192, &device), "open_memory");
    must(cellar_pipeline_open(device, 4096, 2, &pipeline), "pipeline_open");
    must(cellar_pipeline_set_u32_be(pipeline, 4094, UINT32_C(0x01020304)), "set_u32_be");
    must(cellar_pipeline_commit(pipeline), "commit");
    must(cellar_cache_get_u32_le(cellar_pipeline_cache(pipeline), 4094, &value), "get_u32_le");
    must_hold(value == UINT32_C(0x04030201), "the integer came back different");
    cellar_pipeline_close(pipeline);
    must(cellar_device_close(device), "device_close");
}

int main(int argc, char **argv)
{
    must_hold(argc == 2, "usage: outside STORE");
    use_store(argv[1]);
    use_pipeline();
    puts(cellar_version_string());
    return EXIT_SUCCESS;
}
