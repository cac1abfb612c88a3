#include <cellar/error.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char *cellar_version_string(void)
{
    return CELLAR_VERSION;
}

const char *cellar_strerror(int error)
{
    static _Thread_local char text[96];

    switch (error) {
    case 0:
        return "done";
    case CELLAR_NONE:
        return "nothing there";
    case CELLAR_ECORRUPT:
        return "the file breaks the format";
    case CELLAR_EINDEXFULL:
        return "max index is reached: no cell is left";
    case CELLAR_EBOUNDS:
        return "outside what there is";
    case CELLAR_EBADKEY:
        return "not the key of the writer that published last";
    case CELLAR_ECONFIG:
        return "the store exists with another configuration";
    case CELLAR_EBUSY:
        return "another writer has the store";
    case CELLAR_EFORKED:
        return "the handle was opened before fork";
    case CELLAR_ERETIRED:
        return "the store was truncated: open it again";
    case CELLAR_EWINDOW:
        return "the reserved address window is too small";
    case CELLAR_EPINNED:
        return "every frame of the cache is pinned, or a page is fixed for writing";
    case CELLAR_EUNKNOWN:
        return "the device can't tell whether the write happened";
    case CELLAR_EOLDPAGES:
        return "snapshots need more overwritten pages than the cache may keep";
    case CELLAR_ECHECKSUM:
        return "the bytes are not those that were written (checksum)";
    case CELLAR_ESUMS:
        return "the store's checksum file is lost or stale";
    default:
        break;
    }
    if (error < 0 && error > -4096)
        return strerror_r(-error, text, sizeof text); /* the GNU one: text, or a constant string */
    return "unknown error";
}
