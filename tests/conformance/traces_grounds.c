/* traces_grounds.c - the devices that the traces are replayed on. */
#include "traces.h"

#include <cellar/device.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef CELLAR_TESTS_NBD
#include "nbd_fixture.h"
#endif

/* Makes a file with these bytes that has no name any more when this returns. */
static int open_file(int (*open_path)(const char *, int, unsigned, struct cellar_device **), int flags,
                     const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    FILE *stream;
    int fd, error = 0;

    snprintf(path, sizeof path, "%s/cellar-trace-XXXXXX", folder != NULL && *folder != '\0' ? folder : "/tmp");
    fd = mkstemp(path);
    if (fd < 0)
        return -errno;
    stream = fdopen(fd, "wb");
    if (stream == NULL) {
        close(fd);
        error = -ENOMEM;
    } else {
        if (fwrite(bytes, 1, length, stream) != length)
            error = -EIO;
        if (fclose(stream) != 0)
            error = -EIO;
    }
    if (error == 0)
        error = open_path(path, CELLAR_OPEN_WRITE | flags, 0, ret_device);
    unlink(path);
    return error;
}

static int open_mapped(const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    return open_file(cellar_device_open_file, 0, bytes, length, ret_device);
}

static int open_pread(const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    return open_file(cellar_device_open_pread, 0, bytes, length, ret_device);
}

static bool no_direct;

/* The pages of the traces are smaller than blocks: byte by byte over it. */
static int open_direct(const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    struct cellar_device *blocks;
    int error = open_file(cellar_device_open_pread, CELLAR_OPEN_DIRECT, bytes, length, &blocks);

    no_direct = error == -EINVAL;
    if (error != 0)
        return no_direct ? CELLAR_NONE : error;
    return cellar_device_open_bytes(blocks, ret_device);
}

static int open_memory(const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    return cellar_device_open_memory(bytes, length, length, ret_device);
}

#ifdef CELLAR_TESTS_NBD

static struct nbd_server *server;

static int open_nbd(const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    if (!nbd_is_here())
        return CELLAR_NONE;
    if (server == NULL)
        server = nbd_server_start("file", "@/disk", NULL);
    support_file_write(nbd_server_path(server, "disk"), bytes, length);
    *ret_device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    return 0;
}

static bool end_nbd(void)
{
    if (server != NULL)
        nbd_server_end(server);
    server = NULL;
    return nbd_is_here();
}

#else

static int open_nbd(const unsigned char *bytes, size_t length, struct cellar_device **ret_device)
{
    (void)bytes;
    (void)length;
    (void)ret_device;
    return CELLAR_NONE;
}

static bool end_nbd(void)
{
    return false;
}

#endif

const struct trace_ground trace_grounds[] = {
    {"file", open_mapped}, {"pread", open_pread}, {"direct", open_direct}, {"memory", open_memory}, {"nbd", open_nbd},
    {"functions", NULL},   {NULL, NULL},
};

void trace_grounds_end(void)
{
    if (no_direct)
        printf("not on direct: the file system has no O_DIRECT\n");
    if (!end_nbd())
        printf("not on nbd: no libnbd, or no nbdkit\n");
}
