"""The charts of the documentation: which figures of a result each of them shows."""

import math

from reporting.plot import Bar, BarChart, Panel, bar_script, panels_script
from reporting.result import (LIMIT, by_workload, duration, engine_name, engines_in, fastest, figure)

READS = [
    ("read-random", "at random"),
    ("read-ordered", "in order, each index from data"),
    ("read-sequential", "in order"),
    ("read-random-cold", "at random, nothing of the store in memory"),
    ("read-sequential-cold", "in order, nothing of the store in memory"),
]
# Rows of medians, those of single operations, and their title.
COMMITS = [
    ("commit", "commit-latency", "visible, not durable"),
    ("commit-word", "commit-word-latency", "visible, not durable, published by one word"),
    ("commit-durable", "durable-latency", "durable"),
]
OPENINGS = [
    ("open-read", "for read, 1 MiB"),
    ("open-write", "for write, 1 MiB"),
    ("open-read-100GiB", "for read, 100 GiB (sparse)"),
    ("open-write-100GiB", "for write, 100 GiB (sparse)"),
    ("open-write-crash", "for write after a crash, 1 MiB"),
]
WEIGHTS = [
    ("space", "bytes on the disk / bytes of cells, after close"),
    ("write-amplification-append", "bytes written / bytes of cells, bulk append"),
    ("write-amplification-durable", "bytes written / bytes of cells, one a durable commit"),
]
SIZES = [("1KiB", 2**10), ("64KiB", 2**16), ("1MiB", 2**20)]
SAME_MAPPING = "memcpy, cellar's file mapped"
MEMCPY_SHARE = 0.85  # of memcpy's bandwidth, that a goal asks for


def without_path(mode):
    """A mode without the data path in brackets, which all of Cellar's rows here share."""
    return mode.removesuffix(" [window]")


def label(entry):
    return f"{engine_name(entry['engine'])}: {without_path(entry['mode'])}"


def time_bar(row):
    return Bar(row["engine"], label(row), row["ns_per_op"], duration(row["ns_per_op"]), row["ns_per_op_p10"],
               row["ns_per_op_p90"])


def caption(result, text):
    """Two lines: what is shown, and where it was measured."""
    machine = result["machine"]
    return [text, f"{machine['processor']}, {machine['cores']} cores; {machine['kernel']}; "
                  f"{result['file_system']['type']}; run {result['scale']} of {result['date'][:10]}."]


def best_of_each(rows):
    """The fastest row of each engine."""
    return [fastest(rows, engine) for engine in engines_in(rows)]


def bars_of(groups, workloads, choose):
    """Groups of bars for those workloads that were measured."""
    return [(title, [time_bar(row) for row in choose(groups[name])]) for name, title in workloads if name in groups]


def reads(result, groups):
    shown = bars_of(groups, READS, best_of_each)
    text = "Median and p10 to p90; each engine's fastest way."
    return shown and bar_script(BarChart("Read one 64-byte cell", caption(result, text), shown))


def append(result, groups):
    shown = bars_of(groups, [("append", "a commit after every 100,000; visible, not durable")], lambda rows: rows)
    text = "Median and p10 to p90."
    return shown and bar_script(BarChart("Append one 64-byte cell, in bulk", caption(result, text), shown))


def opening(result, groups):
    shown = bars_of(groups, OPENINGS, best_of_each)
    text = "Median and p10 to p90."
    return shown and bar_script(BarChart("Open a store", caption(result, text), shown))


def commit_bar(row, latencies):
    """The median of a row; and what single operations took, from the row of latencies of the same mode."""
    bar = time_bar(row)
    timed = next((other for other in latencies if (other["engine"], other["mode"]) == (row["engine"], row["mode"])
                  and "latency" in other), None)
    bar.low = bar.high = 0.0
    if timed:
        bar.points = tuple(timed["latency"][name] for name in ("p50_ns", "p99_ns", "p999_ns"))
        bar.text += f" ({' / '.join(map(duration, bar.points))})"
    return bar


def commits(result, groups):
    shown = [(title, [commit_bar(row, groups.get(latencies, [])) for row in groups[name]])
             for name, latencies, title in COMMITS if name in groups]
    text = "Bar: median of runs. Points, and figures in brackets: single operations, with what the clock takes itself."
    return shown and bar_script(BarChart("Append one 64-byte cell and commit it", caption(result, text), shown,
                                         ("p50", "p99", "p99.9")))


def values(result, groups):
    panels = []
    for kind, title in (("value-write", "write"), ("value-copy", "read as a copy")):
        series = {}
        for text, count in SIZES:
            rows = groups.get(f"{kind}-{text}", [])
            same = [row for row in rows if row["mode"] == SAME_MAPPING]
            memcpy = fastest(same or [row for row in rows if row["mode"].startswith("memcpy")], LIMIT)
            for engine in engines_in(rows) if memcpy else []:
                row = memcpy if engine == LIMIT else fastest(rows, engine)
                series.setdefault(engine, []).append((count, memcpy["ns_per_op"] / row["ns_per_op"]))
        if series:
            panels.append(Panel(title, "bytes of a value", "bandwidth / memcpy's", list(series.items()),
                                [(count, text[:-3] + " " + text[-3:]) for text, count in SIZES],
                                lines=((MEMCPY_SHARE, None, "the goal"),)))
    text = "Median; each engine's fastest way. memcpy into an allocated mapping, and from Cellar's, is 1."
    return panels and panels_script("Values by size: bandwidth against memcpy", caption(result, text), panels)


def lines_by(rows, name, value):
    """For each engine the points (row[name], value(row, those of its engine)), in order."""
    series = []
    for engine in engines_in(rows):
        own = sorted((row for row in rows if row["engine"] == engine and name in row), key=lambda row: row[name])
        if own:
            series.append((engine, [(row[name], value(row, own)) for row in own]))
    return series


def decades(points, show):
    """Tics at the powers of ten around the points, with all between."""
    low, high = min(points), max(points)
    tics, power = [], 1.0
    while power > low:
        power /= 10
    while power * 10 <= low:
        power *= 10
    while True:
        tics.append((power, show(power)))
        if power >= high:
            return tics
        power *= 10


def short_time(ns):
    return duration(ns).replace(".00", "").replace(".0", "")


def power_text(count):
    """A power of ten."""
    return "10" + str(round(math.log10(count))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def growth(result, groups):
    panels = []
    for name, title in (("growth-append", "append in bulk"), ("growth-read-random", "read at random")):
        series = lines_by(groups.get(name, []), "cells", lambda row, _: row["ns_per_op"])
        if series:
            points = [point for _, line in series for point in line]
            panels.append(Panel(title, "cells in the store", "", series, decades([x for x, _ in points], power_text),
                                decades([y for _, y in points], short_time)))
    text = "Median of one operation."
    return panels and panels_script("Cost by size of the store, 64-byte cells", caption(result, text), panels)


def readers(result, groups):
    cores = result["machine"]["cores"]
    panels = []
    for name, title in (("readers-threads", "threads"), ("readers-processes", "processes")):
        series = lines_by(groups.get(name, []), "readers", lambda row, own: own[0]["ns_per_op"] / row["ns_per_op"])
        if series:
            counts = sorted({x for _, line in series for x, _ in line})
            panels.append(Panel(title, f"{title} that read at random", "speed against one", series,
                                [(count, str(count)) for count in counts],
                                lines=((None, cores, f"{cores} cores"),)))
    text = "Median. The limit is a plain array."
    return panels and panels_script("Several readers at once", caption(result, text), panels)


def weight_bar(measure):
    return Bar(measure["engine"], label(measure), measure["value"], figure(measure["value"], measure["unit"]))


def weights(result, _groups):
    measures = by_workload(result.get("measures", []))
    shown = [(title, list(map(weight_bar, measures[name]))) for name, title in WEIGHTS if name in measures]
    text = "Every mode. 1 is the bytes of the cells themselves."
    return shown and bar_script(BarChart("Space and write amplification", caption(result, text), shown, unit="",
                                         line=1.0))


# File name, what describes the picture, what makes its script (or nothing, where nothing of it was measured).
CHARTS = [
    ("reads", "Reads of one cell, all engines, on a logarithmic scale", reads),
    ("commits", "Commits of one cell: median, p50, p99 and p99.9", commits),
    ("append", "Bulk appends of cells", append),
    ("values", "Bandwidth of values by size, against memcpy", values),
    ("growth", "Cost of an append and of a random read, by size of the store", growth),
    ("readers", "Speed of several readers, threads and processes, against one", readers),
    ("opening", "Time to open a store", opening),
    ("weights", "Space on the disk and write amplification", weights),
]


def scripts(result):
    """File name -> (text, script) of each chart that the result has figures for."""
    groups = by_workload(result["rows"])
    made = [(name, text, script(result, groups)) for name, text, script in CHARTS]
    return {f"{name}.svg": (text, script) for name, text, script in made if script}


def charts_part(result):
    """The part of the page that shows the charts."""
    shown = scripts(result)
    if not shown:
        return "The run that this page shows has nothing to draw."
    return "\n\n".join(f"![{text}](charts/{name})" for name, (text, _) in shown.items())
