"""Results as `bench --json FILE` and `bench_pages --json FILE` write them, and their figures as text."""

import json
import math

LIMIT = "limit"
CELLAR = "cellar"

# What a result must hold. A field that is missing or of another kind is an error that names it.
TOP_FIELDS = {
    "date": str,
    "scale": str,
    "machine": dict,
    "file_system": dict,
    "versions": dict,
    "rows": list,
}
# What it may hold: bench has goals, single figures and what was left out, bench_pages aims.
TOP_EXTRAS = {"aims": list, "goals": list, "measures": list, "notes": list}
MACHINE_FIELDS = {"processor": str, "cores": int, "memory_bytes": int, "kernel": str}
FILE_SYSTEM_FIELDS = {"type": str, "options": str}
VERSION_FIELDS = {"compiler": str, "build": str, "cellar": str}
ROW_FIELDS = {
    "workload": str,
    "engine": str,
    "mode": str,
    "title": str,
    "guarantee": str,
    "ns_per_op": float,
    "ns_per_op_p10": float,
    "ns_per_op_p90": float,
    "ns_per_op_minimum": float,
    "ops": int,
    "bytes": int,
    "repetitions": int,
}
# Rows of a series are compared with its first; a row may say what else was seen, how many read, how large the store
# was, and how long single operations took.
ROW_EXTRAS = {"series": str, "seen": str, "readers": int, "cells": int, "latency": dict}
LATENCY_FIELDS = {"samples": int, "p50_ns": float, "p99_ns": float, "p999_ns": float, "max_ns": float}
AIM_FIELDS = {"text": str, "measured": float, "bound": float, "at_least": bool, "met": bool}
AIM_EXTRAS = {"moot": str}
MEASURE_FIELDS = {
    "workload": str,
    "title": str,
    "guarantee": str,
    "engine": str,
    "mode": str,
    "value": float,
    "unit": str,
}
MEASURE_EXTRAS = {"seen": str}
NOTE_FIELDS = {"workload": str, "engine": str, "mode": str, "text": str}
GOAL_FIELDS = {
    "name": str,
    "row": int,
    "text": str,
    "workload": str,
    "mode": str,
    "unit": str,
    "figure": float,
    "bounds": list,
    "runs": list,
    "verdict": str,
}
GOAL_EXTRAS = {"limit": dict, "ratio": float}
GOAL_LIMIT_FIELDS = {"mode": str, "figure": float}
BOUND_FIELDS = {
    "text": str,
    "kind": str,
    "engine": str,
    "mode": str,
    "reference": float,
    "measured": float,
    "bound": float,
    "at_least": bool,
    "excess": float,
    "held": bool,
}
BOUND_EXTRAS = {"moot": str}
VERDICTS = ("held", "close", "missed", "moot")


class Malformed(Exception):
    """A file doesn't hold what it should; the text says where and what."""


def is_kind(value, kind):
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) < 1e300 and math.isfinite(value)
    if kind is str:
        return isinstance(value, str) and value.isprintable()
    return isinstance(value, kind) and (kind is not int or abs(value) < 2**63)


def require(where, found, fields):
    if not isinstance(found, dict):
        raise Malformed(f"{where} is no object")
    for name, kind in fields.items():
        if name not in found:
            raise Malformed(f"{where} has no field '{name}'")
        if not is_kind(found[name], kind):
            raise Malformed(f"{where}: '{name}' is {str(found[name])[:60]!r}, expected {kind.__name__}")


def allow(where, found, fields):
    require(where, found, {name: kind for name, kind in fields.items() if name in found})


def check_row(where, row):
    require(where, row, ROW_FIELDS)
    allow(where, row, ROW_EXTRAS)
    spread = (row["ns_per_op_minimum"], row["ns_per_op_p10"], row["ns_per_op"], row["ns_per_op_p90"])
    if not 0 < spread[0] <= spread[1] <= spread[2] <= spread[3]:
        raise Malformed(f"{where}: minimum, p10, median and p90 are out of order: {spread}")
    if row["ops"] <= 0 or row["repetitions"] <= 0 or row["bytes"] < 0:
        raise Malformed(f"{where}: nothing was measured")
    if row.get("readers", 1) <= 0 or row.get("cells", 1) <= 0:
        raise Malformed(f"{where}: no readers, or no cells")
    if "latency" in row:
        latency = row["latency"]
        require(f"{where}: latency", latency, LATENCY_FIELDS)
        spread = (latency["p50_ns"], latency["p99_ns"], latency["p999_ns"], latency["max_ns"])
        if latency["samples"] <= 0 or not 0 < spread[0] <= spread[1] <= spread[2] <= spread[3]:
            raise Malformed(f"{where}: no latencies, or out of order: {spread}")


def check_measure(where, measure):
    require(where, measure, MEASURE_FIELDS)
    allow(where, measure, MEASURE_EXTRAS)
    if measure["unit"] not in ("ratio", "bytes") or measure["value"] <= 0:
        raise Malformed(f"{where}: nothing was measured, or in an unknown unit")


def check_goal(where, goal):
    require(where, goal, GOAL_FIELDS)
    allow(where, goal, GOAL_EXTRAS)
    if "limit" in goal:
        require(f"{where}: limit", goal["limit"], GOAL_LIMIT_FIELDS)
    for number, bound in enumerate(goal["bounds"]):
        require(f"{where}, bound {number}", bound, BOUND_FIELDS)
        allow(f"{where}, bound {number}", bound, BOUND_EXTRAS)
    if not goal["runs"] or not all(is_kind(excess, float) for excess in goal["runs"]):
        raise Malformed(f"{where}: no runs, or one that is no number")
    if goal["verdict"] not in VERDICTS:
        raise Malformed(f"{where}: unknown verdict '{goal['verdict']}'")


def check_aim(where, aim):
    require(where, aim, AIM_FIELDS)
    allow(where, aim, AIM_EXTRAS)


def check_note(where, note):
    require(where, note, NOTE_FIELDS)


CHECKS = {"rows": check_row, "aims": check_aim, "goals": check_goal, "measures": check_measure, "notes": check_note}


def load(path):
    """The result in a file, with every field that is used later proved to be there."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    require("the result", result, TOP_FIELDS)
    allow("the result", result, TOP_EXTRAS)
    require("machine", result["machine"], MACHINE_FIELDS)
    require("file_system", result["file_system"], FILE_SYSTEM_FIELDS)
    require("versions", result["versions"], VERSION_FIELDS)
    require("versions", result["versions"], {name: str for name in result["versions"]})
    if not result["rows"]:
        raise Malformed("there are no rows")
    for name, check in CHECKS.items():
        for number, entry in enumerate(result.get(name, [])):
            check(f"{name} {number}", entry)
    names = [goal["name"] for goal in result.get("goals", [])]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Malformed(f"there are two goals '{twice}'")
    return result


def by_workload(entries):
    """Rows or measures by workload, in the order they were measured."""
    groups = {}
    for entry in entries:
        groups.setdefault(entry["workload"], []).append(entry)
    return groups


def fastest(rows, engine):
    of_engine = [row for row in rows if row["engine"] == engine]
    return min(of_engine, key=lambda row: row["ns_per_op"], default=None)


def first(rows, engine):
    return next((row for row in rows if row["engine"] == engine), None)


def engines_in(rows):
    """The engines, in the order they were measured."""
    return list(dict.fromkeys(row["engine"] for row in rows))


def digits(value):
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def duration(ns):
    for unit in ("ns", "µs", "ms"):
        if ns < 999.5:
            return f"{digits(ns)} {unit}"
        ns /= 1000
    return f"{digits(ns)} s"


def size(count):
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def figure(value, unit):
    """A figure of a goal or a measure in its unit: ns, bytes, or a ratio of some kind."""
    if unit == "ns":
        return duration(value)
    return size(value) if unit == "bytes" else f"{value:.4f}" if unit == "ratio" and value < 1.1 else digits(value)


def ratio(row, reference):
    return digits(row["ns_per_op"] / reference["ns_per_op"]) if reference else "–"


ENGINE_NAMES = {"cellar": "Cellar", "lmdb": "LMDB", "sqlite": "SQLite", "rocksdb": "RocksDB"}


def engine_name(engine):
    return ENGINE_NAMES.get(engine, engine)


def version_of(engine, version):
    """LMDB's text names itself."""
    return version if engine in version.lower() else f"{engine_name(engine)} {version}"


def machine_line(result):
    machine = result["machine"]
    versions = result["versions"]
    engines = ", ".join(version_of(name, versions[name]) for name in versions if name not in ("compiler", "build"))
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB; "
        f"{machine['kernel']}; {result['file_system']['type']} ({result['file_system']['options']}); "
        f"{engines}; {versions['compiler']}, {versions['build']}; "
        f"run `{result['scale']}` of {result['date'][:10]}"
    )
