"""Two kinds of charts, as scripts of gnuplot: bars beside each other in groups, and lines."""

import dataclasses
import math

from reporting.result import engine_name

COLOURS = {
    "cellar": 0x1F5FBF,
    "lmdb": 0xD9822B,
    "sqlite": 0x4F9E58,
    "rocksdb": 0x9A5FB4,
    "kernel": 0xB05050,
    "limit": 0x808080,
}
OTHER_COLOUR = 0x404040
MARKS = {"cellar": 7, "lmdb": 9, "sqlite": 5, "rocksdb": 13, "limit": 6}
OTHER_MARK = 4
# Shapes of the points that stand on bars, with gnuplot's number of each.
POINT_KINDS = [6, 8, 4]

WIDTH = 1100
ROW_PIXELS = 19
HEAD_PIXELS = 30  # above a chart of bars, for its title; twice with a key
FOOT_PIXELS = 66  # below it, for its tics and its caption
PANEL_PIXELS = 500
LETTER_PIXELS = 7.6  # of labels, in a wide font


@dataclasses.dataclass
class Bar:
    """One row of a chart of bars; low and high are the ends of its spread."""

    engine: str
    label: str
    value: float
    text: str
    low: float = 0.0
    high: float = 0.0
    points: tuple = ()


@dataclasses.dataclass
class BarChart:
    """groups is a list of (title, bars); axis the tics of a logarithmic axis, or None for a linear one."""

    title: str
    caption: list
    groups: list
    points: tuple = ()  # what the points of the bars are called
    unit: str = "ns"
    line: float = 0.0  # a line across all bars


@dataclasses.dataclass
class Panel:
    """A chart of lines; series is a list of (engine, [(x, y)])."""

    title: str
    x_title: str
    y_title: str
    series: list
    x_tics: list
    y_tics: list | None = None  # None: a linear axis from 0
    lines: tuple = ()  # (y or None, x or None, text) of lines across


def quoted(text):
    """A literal of gnuplot, in which nothing but the quote itself is special."""
    return "'" + text.replace("'", "''") + "'"


def colour(engine):
    return COLOURS.get(engine, OTHER_COLOUR)


def number(value):
    return f"{value:.6g}"


def powers(low, high):
    """The powers of ten from the one below low up to high."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)]


def tic_list(tics):
    return "(" + ", ".join(f"{quoted(text)} {number(value)}" for value, text in tics) + ")"


def time_text(ns):
    for unit in ("ns", "µs", "ms"):
        if ns < 1000:
            return f"{ns:g} {unit}"
        ns /= 1000
    return f"{ns:g} s"


def heading(title, caption, height):
    """What every script begins with; the caption is two lines at the bottom."""
    return [
        f"set terminal svg size {WIDTH},{height} font 'sans-serif,12' background '#ffffff' noenhanced",
        "set encoding utf8",
        "set border linecolor rgb '#606060'",
        "set tics textcolor rgb '#202020'",
        f"set label 1 {quoted(title)} at screen 0.01, screen {number(1 - 14 / height)} left font 'sans-serif:Bold,14'",
        *(f"set label {2 + index} {quoted(text)} at screen 0.01, screen {number((28 - 17 * index) / height)} left "
          "font 'sans-serif,11' textcolor rgb '#404040'" for index, text in enumerate(caption)),
    ]


def bar_axis(chart, bars):
    """The logarithmic axis of a chart of bars: the commands, and where the bars begin."""
    values = [value for bar in bars for value in (bar.value, bar.low, bar.high, *bar.points) if value > 0]
    tics = powers(min(values) / 1.5, max(values))
    show = time_text if chart.unit == "ns" else lambda value: f"{value:g}"
    longest = max(*(len(bar.label) for bar in bars), *(1.25 * len(title) for title, _ in chart.groups))
    share = longest * LETTER_PIXELS / WIDTH + 0.02
    text_share = (max(len(bar.text) for bar in bars) + 2) * LETTER_PIXELS / (WIDTH * (0.985 - share))
    room = (max(values) / tics[0]) ** (text_share / (1 - text_share))  # for the text behind the longest bar
    decade_pixels = (0.985 - share) * WIDTH / math.log10(max(values) * room / tics[0])
    every = math.ceil(60 / decade_pixels)
    return [
        f"set lmargin at screen {number(share)}",
        "set rmargin at screen 0.985",
        "set logscale x",
        f"set xrange [{number(tics[0])}:{number(max(values) * room)}]",
        f"set xtics {tic_list([(tic, show(tic)) for tic in tics[::every]])}",
        "set grid xtics linecolor rgb '#d8d8d8'",
    ], tics[0]


def bar_lines(chart):
    """The groups one below the other: (row, None or a bar, title of the group)."""
    row = 0
    for title, bars in chart.groups:
        yield row, None, title
        row += 1
        for bar in bars:
            yield row, bar, title
            row += 1
        row += 0.4


def point_block(placed, index):
    return [f"{number(bar.points[index])} {number(row)}" for row, bar in placed if bar.points]


def bar_labels(lines):
    """The titles of the groups, and what stands behind the bars."""
    for name, (row, bar, title) in enumerate(lines, 10):
        if bar:
            gap = 1.4 if bar.points else 0.7
            place = f"first {number(max(bar.value, bar.high, *bar.points))}, first {number(row)} left offset {gap},0"
            yield f"set label {name} {quoted(bar.text)} at {place} font 'sans-serif,11' textcolor rgb '#202020'"
        else:
            place = f"screen 0.01, first {number(row)} left"
            yield f"set label {name} {quoted(title)} at {place} font 'sans-serif:Bold,12'"


def bar_script(chart):
    """The script of a chart of bars."""
    lines = list(bar_lines(chart))
    placed = [(row, bar) for row, bar, _ in lines if bar]
    last = lines[-1][0]
    head = HEAD_PIXELS * (2 if chart.points else 1)
    height = head + FOOT_PIXELS + int(ROW_PIXELS * (last + 1.6))
    key = f"at screen 0.985, screen {number(1 - 34 / height)} right top horizontal" if chart.points else "off"
    axis, start = bar_axis(chart, [bar for _, bar in placed])
    script = [
        *heading(chart.title, chart.caption, height),
        f"set tmargin at screen {number(1 - head / height)}",
        f"set bmargin at screen {number(FOOT_PIXELS / height)}",
        f"set yrange [{number(last + 0.8)}:-0.8]",
        *axis,
        f"set ytics scale 0 font 'sans-serif,11' {tic_list([(row, bar.label) for row, bar in placed])}",
        f"set key {key}",
        *bar_labels(lines),
    ]
    if chart.line > 0:
        line = number(chart.line)
        script.append(f"set arrow 1 from first {line}, graph 0 to first {line}, graph 1 nohead linecolor rgb '#c03030' "
                      "dashtype 2 front")
    return "\n".join(script + bar_plot(chart, placed, start)) + "\n"


def bar_plot(chart, placed, start):
    """The data of a chart of bars, and the command that plots them."""
    script = ["$bars << END"]
    for row, bar in placed:
        script.append(f"{number(bar.value)} {number(row)} {number(start)} {number(bar.value)} {number(row - 0.36)} "
                      f"{number(row + 0.36)} {colour(bar.engine)}")
    script.append("END")
    plots = ["$bars using 1:2:3:4:5:6:7 with boxxyerror fill solid 1 noborder linecolor rgb variable notitle"]
    spread = [f"{number(bar.value)} {number(row)} {number(bar.low)} {number(bar.high)}"
              for row, bar in placed if bar.high > bar.low > 0]
    if spread:
        script += ["$spread << END", *spread, "END"]
        plots.append("$spread using 1:2:3:4 with xerrorbars pointtype 0 linecolor rgb '#202020' notitle")
    for index, title in enumerate(chart.points):
        block = point_block(placed, index)
        if block:
            script += [f"$points{index} << END", *block, "END"]
            plots.append(f"$points{index} using 1:2 with points pointtype {POINT_KINDS[index]} pointsize 0.9 "
                         f"linewidth 1.5 linecolor rgb '#202020' title {quoted(title)}")
    return [*script, "plot " + ", \\\n     ".join(plots)]


def mark(engine):
    return f"pointtype {MARKS.get(engine, OTHER_MARK)} pointsize 0.8 linecolor rgb {colour(engine)}"


def panel_axes(panel):
    points = [point for _, line in panel.series for point in line]
    commands = [
        f"set xrange [{number(panel.x_tics[0][0] * 0.9)}:{number(max(x for x, _ in points) * 1.1)}]",
        f"set xtics {tic_list(panel.x_tics)}",
    ]
    if panel.y_tics is None:
        top = max(y for _, y in points + [(0, y) for y, _, _ in panel.lines if y])
        return commands + ["unset logscale y", f"set yrange [0:{number(top * 1.12)}]", "set ytics auto"]
    return commands + [
        "set logscale y",
        f"set yrange [{number(panel.y_tics[0][0] * 0.95)}:{number(panel.y_tics[-1][0] * 1.05)}]",
        f"set ytics {tic_list(panel.y_tics)}",
    ]


def panel_script(panel, index, count):
    """The commands for the panel so many of so many, from the left."""
    left, right = index / count + 0.075, (index + 1) / count - 0.015
    script = [
        *(["unset label", "unset arrow"] if index > 0 else []),
        f"set lmargin at screen {number(left)}",
        f"set rmargin at screen {number(right)}",
        f"set title {quoted(panel.title)}",
        f"set xlabel {quoted(panel.x_title)}",
        f"set ylabel {quoted(panel.y_title)}",
        *panel_axes(panel),
    ]
    for name, (y, x, text) in enumerate(panel.lines, 10):
        ends = (f"graph 0, first {number(y)} to graph 1, first {number(y)}" if y
                else f"first {number(x)}, graph 0 to first {number(x)}, graph 1")
        place = (f"graph 0.99, first {number(y)} right offset 0,0.5" if y
                 else f"first {number(x)}, graph 0.96 left offset 0.5,0")
        script += [
            f"set arrow {name} from {ends} nohead linecolor rgb '#c03030' dashtype 2 back",
            f"set label {name} {quoted(text)} at {place} textcolor rgb '#c03030'",
        ]
    plots = []
    for name, (engine, line) in enumerate(panel.series):
        block = f"$line{index}_{name}"
        script += [f"{block} << END", *(f"{number(x)} {number(y)}" for x, y in line), "END"]
        plots.append(f"{block} using 1:2 with linespoints linewidth 2 {mark(engine)}")
    return [*script, "plot " + ", \\\n     ".join(plots)]


def key_labels(engines, height):
    """What the lines of all panels mean, below the title. A key of gnuplot's own is no wider than its panel."""
    y = number(1 - 38 / height)
    return [f"set label {20 + index} {quoted(engine_name(engine))} at screen {number(0.08 + 0.1 * index)}, screen {y} "
            f"left offset 1,0 point {mark(engine)}" for index, engine in enumerate(engines)]


def panels_script(title, caption, panels):
    """The script of charts of lines, side by side."""
    height = PANEL_PIXELS
    script = [
        *heading(title, caption, height),
        f"set tmargin at screen {number(1 - 86 / height)}",
        f"set bmargin at screen {number(95 / height)}",
        "set logscale x",
        "set grid linecolor rgb '#d8d8d8'",
        "set key off",
        *key_labels(list(dict.fromkeys(engine for panel in panels for engine, _ in panel.series)), height),
        "set multiplot",
    ]
    for index, panel in enumerate(panels):
        script += panel_script(panel, index, len(panels))
    return "\n".join([*script, "unset multiplot"]) + "\n"
