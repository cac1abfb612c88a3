/* device_pread.c - a file by pread and pwrite alone. */
#include "device/file.h"

const struct cellar_device_ops cellar_pread_ops = {
    .name = "pread",
    .size = cellar_file_size,
    .read = cellar_file_read,
    .write = cellar_file_write,
    .write_durable = cellar_file_write_durable,
    .sync = cellar_file_fdatasync,
    .grow = cellar_file_grow,
    .trim = cellar_file_trim,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_file_descriptor,
    .incarnation = cellar_file_incarnation,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

const struct cellar_device_ops cellar_pread_read_ops = {
    .name = "pread",
    .size = cellar_file_size,
    .read = cellar_file_read,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_file_descriptor,
    .incarnation = cellar_file_incarnation,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

int cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device)
{
    return cellar_file_open(path, flags & ~(CELLAR_OPEN_DIRECT | CELLAR_FILE_NO_LINK), mode,
                            (flags & CELLAR_OPEN_DIRECT) != 0 ? CELLAR_FILE_DIRECT : CELLAR_FILE_PREAD, ret_device);
}
