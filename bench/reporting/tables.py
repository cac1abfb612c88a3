"""The tables of the documentation."""

from reporting.result import (CELLAR, LIMIT, by_workload, digits, duration, engine_name, engines_in, fastest, figure,
                              first, machine_line, ratio)

# The rows of the README, and what they are called there.
README_ROWS = [
    ("read-random", "read a cell at random"),
    ("read-sequential", "read a cell in order"),
    ("append", "append a cell, a commit every 100,000"),
    ("commit", "append a cell and commit it (visible, not durable)"),
    ("commit-word", "the same, published by one word (`CELLAR_PUBLISH_WORD`)"),
    ("commit-durable", "append a cell and flush it (durable)"),
    ("value-write-64KiB", "write a value of 64 KiB"),
    ("value-copy-64KiB", "copy a value of 64 KiB out"),
    ("value-pieces-64KiB", "find a value of 64 KiB without copying it"),
    ("open-read", "open for read"),
    ("open-write", "open for write"),
]
LIMIT_REMARK = " The limit reads a file of its own, which the kernel may map by larger pages than Cellar's."
ROCKSDB_REMARK = " What RocksDB commits is visible in its own process alone."


def plain(text):
    """Text that stays in its cell of a table and in its part of the page."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def table_line(cells):
    return "| " + " | ".join(cells) + " |"


def table(described, entries):
    """A table: described is (head, rule, what makes the cell of an entry) for each column."""
    return [
        table_line([head for head, _, _ in described]),
        "|" + "|".join(rule for _, rule, _ in described) + "|",
        *(table_line([cell(entry) for _, _, cell in described]) for entry in entries),
    ]


def rate(row):
    return f"{row['bytes'] / (row['ns_per_op'] * row['ops']):.2f}" if row["bytes"] else "–"


def speed(row, rows):
    """How many times as fast as the first row of its series."""
    reference = next((other for other in rows if "series" in row and other.get("series") == row["series"]), None)
    return ratio(reference, row) if reference else "–"


def alike(row, rows):
    """Those that do the same as the row: for stores of its size, or with as many readers."""
    same = ("cells", "readers")
    return [other for other in rows if all(other.get(name) == row.get(name) for name in same)]


def latencies(row):
    latency = row.get("latency")
    return " / ".join(duration(latency[name]) for name in ("p50_ns", "p99_ns", "p999_ns")) if latency else "–"


def longest(row):
    return duration(row["latency"]["max_ns"]) if "latency" in row else "–"


def columns(rows):
    """What the table of a workload shows of its rows."""
    described = [
        ("engine", "---", lambda row: plain(row["engine"])),
        ("mode", "---", lambda row: plain(row["mode"])),
        ("median", "---:", lambda row: duration(row["ns_per_op"])),
        ("p10 – p90", "---:", lambda row: f"{duration(row['ns_per_op_p10'])} – {duration(row['ns_per_op_p90'])}"),
        ("GB/s", "---:", rate),
        ("× limit", "---:", lambda row: ratio(row, fastest(alike(row, rows), LIMIT))),
        ("× cellar", "---:", lambda row: ratio(row, first(alike(row, rows), CELLAR))),
        ("runs", "---:", lambda row: str(row["repetitions"])),
    ]
    if any("cells" in row for row in rows):
        described.insert(2, ("cells", "---:", lambda row: f"{row['cells']:,}" if "cells" in row else "–"))
    elif any("series" in row for row in rows):
        described.append(("speed", "---:", lambda row: speed(row, rows)))
    if any("latency" in row for row in rows):
        described.append(("p50 / p99 / p99.9", "---:", latencies))
        described.append(("longest", "---:", longest))
    if any("seen" in row for row in rows):
        described.append(("seen", "---", lambda row: plain(row.get("seen", ""))))
    return described


def measure_columns(measures):
    described = [
        ("engine", "---", lambda measure: plain(measure["engine"])),
        ("mode", "---", lambda measure: plain(measure["mode"])),
        ("figure", "---:", lambda measure: figure(measure["value"], measure["unit"])),
    ]
    if any("seen" in measure for measure in measures):
        described.append(("seen", "---", lambda measure: plain(measure.get("seen", ""))))
    return described


def aims_table(aims):
    described = [
        ("aim", "---", lambda aim: plain(aim["text"])),
        ("bound", "---:", lambda aim: f"{'≥' if aim['at_least'] else '≤'} {aim['bound']:g}"),
        ("measured", "---:", lambda aim: f"{aim['measured']:.3g}"),
        ("", "---", lambda aim: plain(aim.get("moot") or ("met" if aim["met"] else "missed"))),
    ]
    return ["", "### Aims", "", *table(described, aims)]


def notes_list(notes):
    """What was left out of a workload; the modes of one engine with the same reason share a line."""
    reasons = {}
    for note in notes:
        reasons.setdefault((note["engine"], note["text"]), []).append(note["mode"])
    lines = [f"- {plain(engine)} ({plain('; '.join(modes))}): {plain(text)}"
             for (engine, text), modes in reasons.items()]
    return ["", "Left out:", "", *lines] if lines else []


def section(name, entries, described, notes, what):
    return [
        "",
        f"### {name}",
        "",
        f"{what}: {plain(entries[0]['title'])}. Class: {plain(entries[0]['guarantee'])}.",
        "",
        *table(described, entries),
        *notes_list(notes),
    ]


def full_table(result):
    """Every row and every measure, by workload."""
    notes = by_workload(result.get("notes", []))
    lines = [machine_line(result) + "."]
    if result.get("aims"):
        lines += aims_table(result["aims"])
    for name, rows in by_workload(result["rows"]).items():
        lines += section(name, rows, columns(rows), notes.pop(name, []), "One operation")
    for name, measures in by_workload(result.get("measures", [])).items():
        lines += section(name, measures, measure_columns(measures), notes.pop(name, []), "Measured")
    for name, left_out in notes.items():
        lines += ["", f"### {name}", *notes_list(left_out)]
    return "\n".join(lines)


def beside(row, cellar, times):
    """A time, and in brackets how many times another."""
    return f"{duration(row['ns_per_op'])} ({digits(times(row['ns_per_op'], cellar['ns_per_op']))})" if row else "–"


def short_table(result):
    """What the README shows: Cellar, each peer's and the limit's fastest way."""
    groups = by_workload(result["rows"])
    shown = [(groups[name], text) for name, text in README_ROWS if first(groups.get(name, []), CELLAR)]
    peers = [engine for engine in engines_in([row for rows, _ in shown for row in rows])
             if engine not in (CELLAR, LIMIT)]
    lines = [
        table_line(["one operation", "Cellar", *map(engine_name, peers), "the machine's limit"]),
        "|---|---:|" + "---:|" * len(peers) + "---:|",
    ]
    for rows, text in shown:
        cellar = first(rows, CELLAR)
        cells = [text, duration(cellar["ns_per_op"])]
        cells += [beside(fastest(rows, peer), cellar, lambda theirs, ours: theirs / ours) for peer in peers]
        cells += [beside(fastest(rows, LIMIT), cellar, lambda theirs, ours: ours / theirs)]
        lines.append(table_line(cells))
    lines += [
        "",
        "Medians of interleaved runs; each peer's and the limit's fastest way that gives the same guarantee. In "
        "brackets: how many times as long as Cellar a peer takes; how many times as long as the limit Cellar takes. "
        "Cells of 64 bytes." + LIMIT_REMARK + (ROCKSDB_REMARK if "rocksdb" in peers else ""),
        machine_line(result) + ".",
    ]
    return "\n".join(lines)
