"""Where instructions go, as valgrind's callgrind counts them: runs of bench under it, and what they add up to."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from reporting.result import CELLAR, LIMIT, Malformed, digits, load, require
from reporting.tables import plain, table

ENTRY_FIELDS = {
    "workload": str,
    "engine": str,
    "mode": str,
    "function": str,
    "instructions": float,
    "system_calls": float,
    "parts": list,
}
PART_FIELDS = {"name": str, "share": float}
LEAST_SHARE = 0.02  # of what is named; the rest is added up
OTHERS = "others"
LOOP = "the driver's loop, with what is inline"
LIBRARY_NAMES = {"libb2": "BLAKE2b (libb2)", "ld-linux-x86-64": "the dynamic linker"}

FUNCTION = re.compile(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+\S*?:(\S+)(?: \[(.*)\])?\s*")
WITH_CALLS = re.compile(r"\s*[\d,]+ \(\s*[\d.]+%\)\s+([\d,]+) \(\s*[\d.]+%\)\s+\S*?:(\S+)(?: \[.*\])?\s*")
SECONDS = 600


class Failed(Exception):
    """valgrind is missing, or the bench fails under it."""


@dataclasses.dataclass
class Case:
    """The rows of one mode; function is the driver's, in which all of the operation happens and nothing else."""

    workload: str
    function: str
    engine: str = CELLAR
    mode: str = ""  # "": all of them


CASES = [
    Case("read-random", "cellar_read_random", mode="cellar_snapshot_cell"),
    Case("read-random", "cellar_read_random", mode="cellar_snapshot_get"),
    Case("read-random", "limit_read_random", LIMIT, "plain array, mapped file"),
    Case("read-random", "limit_read_random", LIMIT, "plain array, mapped file, index checked"),
    Case("read-random", "lmdb_read_random_as_set_up", "lmdb", "mdb_get, one read txn"),
    Case("read-sequential", "cellar_read_sequential", mode="cellar_snapshot_cell"),
    Case("read-sequential", "limit_read_sequential", LIMIT, "plain array, mapped file"),
    Case("read-sequential", "lmdb_read_sequential", "lmdb", "mdb_cursor_get MDB_NEXT"),
    Case("append", "cellar_append", mode="one cell a call, into allocated space"),
    Case("append", "cellar_append", mode="256 cells a call, into allocated space"),
    Case("append", "limit_append", LIMIT, "memcpy into an allocated mapping"),
    Case("append", "limit_append", LIMIT, "pwrite of 256 KiB batches, allocated file"),
    Case("append", "lmdb_append", "lmdb", "MDB_APPEND, NOSYNC|WRITEMAP"),
    Case("commit", "cellar_commit", mode="append, set_root, commit"),
    Case("commit", "limit_commit", LIMIT, "two BLAKE2b (libb2) and 128 header bytes"),
    Case("commit", "lmdb_commit", "lmdb", "MDB_APPEND of one, txn commit, NOSYNC|WRITEMAP"),
    Case("commit-word", "cellar_commit", mode="append, set_root, commit, CELLAR_PUBLISH_WORD"),
    Case("commit-word", "limit_commit", LIMIT, "memcpy of the cell and one atomic store"),
    Case("commit-durable", "cellar_commit_durable", mode="append, set_root, flush"),
    Case("commit-durable", "cellar_commit_durable", mode="append, set_root, flush, two_barriers"),
    Case("commit-durable", "limit_commit_durable", LIMIT),
    Case("commit-durable", "lmdb_commit", "lmdb", "MDB_APPEND of one, txn commit, default sync"),
    Case("refresh-none", "cellar_refresh", mode="cellar_reader_refresh, with the writer's key"),
    Case("refresh-none", "cellar_refresh", mode="cellar_reader_refresh, CELLAR_PUBLISH_WORD"),
    Case("refresh-none", "lmdb_refresh", "lmdb"),
    Case("refresh-new", "cellar_refresh", mode="cellar_reader_refresh, with the writer's key"),
    Case("refresh-new", "cellar_refresh", mode="cellar_reader_refresh, CELLAR_PUBLISH_WORD"),
    Case("hash", "run_whole", LIMIT, "init, key, 8 bytes, final"),
    Case("hash", "run_prepared", LIMIT, "copy of a state after the key, 8 bytes, final"),
    Case("value-write-1KiB", "cellar_value_write", mode="write_value, into allocated space"),
    Case("value-write-64KiB", "cellar_value_write", mode="write_value, into allocated space"),
    Case("value-write-64KiB", "limit_value_write", LIMIT, "memcpy into an allocated mapping"),
    Case("value-copy-1KiB", "cellar_value_copy"),
    Case("value-copy-1KiB", "limit_value_copy", LIMIT),
    Case("value-copy-64KiB", "cellar_value_copy"),
    Case("value-pieces-64KiB", "cellar_value_pieces"),
    Case("value-pieces-1MiB", "cellar_value_pieces"),
    Case("value-pieces-1MiB", "lmdb_value_pieces", "lmdb"),
    Case("open-read", "cellar_open_read"),
    Case("open-read", "lmdb_open_read", "lmdb"),
    Case("open-write", "cellar_open_write"),
    Case("open-write", "lmdb_open_write", "lmdb"),
    Case("open-write-crash", "cellar_open_write"),
    Case("hit-get-near", "cached_get"),
    Case("hit-fix-near", "cached_fix"),
    Case("pipeline-set", "set_all"),
    Case("pipeline-get", "get_all"),
    Case("pipeline-commit", "commit_all"),
]


def function_name(text, path):
    """A function as it is told: without what the C library's versions and its variants for processors add."""
    library = pathlib.PurePath(path or "").name.split(".so")[0]
    if library in LIBRARY_NAMES:
        return LIBRARY_NAMES[library]
    if text.startswith("0x") or text == "???":
        return "unknown" if library in ("", "???") else library
    name = text.split("@")[0].split("'")[0]
    if library == "libc":
        name = re.sub(r"_(avx|avx2|evex|sse2|sse42|ssse3|erms)(_\w+)?$", "", name.lstrip("_"))
    return re.sub(r"\.(part|constprop|isra|cold)\.?\d*", "", name)


def parts_of(text, function):
    """(instructions, shares by name, largest first) of what callgrind_annotate tells."""
    counts = {}
    for line in text.splitlines():
        found = FUNCTION.fullmatch(line)
        if found and "PROGRAM TOTALS" not in line:
            name = LOOP if found.group(2) == function else function_name(found.group(2), found.group(3))
            counts[name] = counts.get(name, 0) + int(found.group(1).replace(",", ""))
    total = sum(counts.values())
    shares = {}
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        shown = name if count >= LEAST_SHARE * total else OTHERS
        shares[shown] = shares.get(shown, 0) + count / total
    return total, [{"name": name, "share": round(share, 4)} for name, share in shares.items()]


def system_calls_of(text, function):
    """Those that were made in the function, by what callgrind_annotate tells of inclusive costs. (Those beside it are
    counted too, in the sum over all functions, whatever --toggle-collect says.)"""
    for line in text.splitlines():
        found = WITH_CALLS.fullmatch(line)
        if found and found.group(2) == function:
            return int(found.group(1).replace(",", ""))
    return 0


def require_valgrind():
    if shutil.which("valgrind") is None or shutil.which("callgrind_annotate") is None:
        raise Failed("valgrind is not here (Debian: valgrind)")


def annotated(profile, *options):
    return run(["callgrind_annotate", "--auto=no", "--threshold=100", *options, str(profile)], {}).stdout


def command_of(bench, case, scale, directory, profile, result):
    command = ["valgrind", "--tool=callgrind", "--collect-systime=nsec", f"--toggle-collect={case.function}",
               f"--callgrind-out-file={profile}", bench, scale, "--only", case.workload, "--engine", case.engine]
    command += ["--mode", case.mode] if case.mode else []
    return [*command, "--dir", directory, "--json", result]


def run(command, environment):
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False,
                              env={**os.environ, **environment}, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return done


def engines_of(bench):
    """The engines that the bench is built with, by its help."""
    line = next((line for line in run([bench, "--help"], {}).stdout.splitlines() if line.startswith("Engines:")), "")
    return line.split()[1:]


def operations(result):
    """How many there were while callgrind counted: those that are timed, and those of the round that isn't."""
    return sum(row["ops"] * (row["repetitions"] + 1) / row["repetitions"] for row in result["rows"])


def measure(bench, case, scale="--quick"):
    """The entry of a case, and the versions that its run tells."""
    with tempfile.TemporaryDirectory() as directory:
        profile = pathlib.Path(directory) / "callgrind"
        file = pathlib.Path(directory) / "result.json"
        run(command_of(bench, case, scale, directory, str(profile), str(file)), {"LD_BIND_NOW": "1"})
        total, parts = parts_of(annotated(profile, "--show=Ir"), case.function)
        calls = system_calls_of(annotated(profile, "--show=Ir,sysCount", "--inclusive=yes"), case.function)
        result = load(file)
    count = operations(result)
    if total == 0:
        raise Failed(f"{case.workload}: callgrind counted nothing in {case.function}")
    entry = {
        "workload": case.workload,
        "engine": case.engine,
        "mode": case.mode or "all modes",
        "function": case.function,
        "instructions": float(f"{total / count:.4g}"),
        "system_calls": float(f"{calls / count:.3g}"),
        "parts": parts,
    }
    return entry, result["versions"]


def load_where(path):
    """The entries in a file that bench/where wrote."""
    where = json.loads(path.read_text(encoding="utf-8"))
    require("the counts", where, {"compiler": str, "build": str, "entries": list})
    for number, entry in enumerate(where["entries"]):
        require(f"entry {number}", entry, ENTRY_FIELDS)
        for part in entry["parts"]:
            require(f"entry {number}: a part", part, PART_FIELDS)
        if entry["instructions"] <= 0 or entry["system_calls"] < 0:
            raise Malformed(f"entry {number}: nothing was counted")
    return where


def parts_cell(entry):
    shown = [part for part in entry["parts"] if part["share"] >= 0.005]
    return ", ".join(f"{100 * part['share']:.0f} % {plain(part['name'])}" for part in shown)


COLUMNS = [
    ("workload", "---", lambda entry: f"`{entry['workload']}`"),
    ("engine", "---", lambda entry: plain(entry["engine"])),
    ("mode", "---", lambda entry: plain(entry["mode"])),
    ("instructions", "---:", lambda entry: digits(entry["instructions"])),
    ("system calls", "---:", lambda entry: digits(entry["system_calls"]) if entry["system_calls"] >= 0.005 else "–"),
    ("where they are", "---", parts_cell),
    ("FUNCTION", "---", lambda entry: f"`{entry['function']}`"),
]


def where_part(where):
    """The table of instructions."""
    return "\n".join([
        f"Instructions and system calls of one operation; {where['compiler']}, {where['build']}.",
        "",
        *table(COLUMNS, where["entries"]),
    ])
