"""Which room may include which: stairs only go down, through the doors of the rooms below.

    5   tools/   tests/   bench/
    4   src/*.c                     the store
    3   src/cell/   src/sum/        siblings, but that sum asks cell what is flushed
    2   src/page/                   knows no format
    1   src/device/   src/format/   siblings
    0   src/base/
"""

import fnmatch
import re

from tree import find, lines_of, name_of

INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')

# What each room may include of the project; a name without a slash is a file beside it. The doors: of base every
# header; of format format.h; of device <cellar/device.h>, device.h, for the pages queue.h and, for the store alone,
# file.h; of page the public cache.h and pipeline.h; of cell every header.
MAY_INCLUDE = {
    "include/cellar/error.h": (),
    "include/cellar/device.h": ("cellar/error.h",),
    "include/cellar/cache.h": ("cellar/error.h", "cellar/device.h"),
    "include/cellar/pipeline.h": ("cellar/error.h", "cellar/device.h", "cellar/cache.h"),
    "include/cellar/store.h": ("cellar/error.h", "cellar/device.h"),
    "include/cellar/sums.h": ("cellar/error.h", "cellar/store.h"),
    "include/cellar/nbd.h": ("cellar/error.h", "cellar/device.h"),
    "include/cellar/cellar.h": ("cellar/*.h",),
    "src/base/*": ("base/*.h", "cellar/error.h"),
    "src/format/*": ("base/*.h", "format/*.h", "cellar/*.h"),
    "src/device/*": ("base/*.h", "device/*.h", "cellar/error.h", "cellar/device.h"),
    # A library of its own, as anybody could write it.
    "src/device/nbd/*": ("*.h", "cellar/error.h", "cellar/device.h", "cellar/nbd.h"),
    "src/page/*": ("base/*.h", "page/*.h", "device/device.h", "device/queue.h", "cellar/error.h", "cellar/device.h",
                   "cellar/cache.h", "cellar/pipeline.h"),
    "src/cell/*": ("base/*.h", "cell/*.h", "format/format.h", "device/device.h", "cellar/*.h"),
    "src/sum/*": ("base/*.h", "cell/record.h", "sum/*.h", "format/format.h", "device/device.h", "device/file.h",
                  "cellar/*.h"),
    "src/*": ("*.h", "base/*.h", "cell/*.h", "sum/*.h", "format/format.h", "device/device.h", "device/file.h",
              "cellar/*.h"),
    # celldump reads the format itself, so that it works on a broken file; which records hold is asked, not known twice.
    "tools/celldump*": ("*.h", "format/format.h", "cell/record.h", "base/bytes.h", "cellar/*.h"),
    "tools/*": ("*.h", "cellar/*.h"),
    "bench/*": ("*.h", "cellar/*.h"),
    "bench/pages/*": ("*.h", "cellar/*.h"),
    # The simulator replays traces through the policies themselves, without a cache around them.
    "bench/evict/replay_own*": ("*.h", "page/evict.h", "cellar/*.h"),
    "bench/evict/*": ("*.h", "cellar/*.h"),
}

# Headers of other libraries that one file alone includes.
ONE_USER = {
    "blake2.h": "src/base/hash.c",
    "liburing.h": "src/device/queue_ring.c",
    "libnbd.h": "src/device/nbd/nbd.h",
    "xxhash.h": "src/base/xxh3.c",
}


def matches(name, pattern):
    """fnmatch, but a * stays within one folder."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def room_of(name):
    return next((room for room in MAY_INCLUDE if matches(name, room)), None)


def refusal(name, quoted, angled):
    """Why the file may not include this, or None."""
    if angled and not angled.startswith("cellar/"):
        user = ONE_USER.get(angled)
        return f"only {user} includes <{angled}>" if user and name.startswith("src/") and name != user else None
    header = quoted or angled
    if quoted and quoted.startswith("cellar/"):
        return f"public headers are included with angle brackets: {quoted}"
    room = room_of(name)
    if room is None:
        return f"no room of the house: {name}"
    if any(matches(header, pattern) for pattern in MAY_INCLUDE[room]):
        return None
    return f"{room} may not include {header}"


def check_includes(context):
    """an include that goes up, or past a door"""
    problems = []
    for path in find(context.root, "src", "include", "tools", "bench", suffixes={".c", ".h"}):
        name = name_of(context.root, path)
        for number, line in enumerate(lines_of(path), 1):
            found = INCLUDE.match(line)
            reason = found and refusal(name, *found.groups())
            if reason:
                problems.append(f"{name}:{number}: {reason}")
    return problems
