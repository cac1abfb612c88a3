"""The goals: what was wanted, what was measured, and why what is missed is missed."""

import re

from reporting.result import LIMIT, VERDICTS, Malformed, digits, engine_name, figure, machine_line
from reporting.tables import plain, table

HEADING = re.compile(r"## (\S+)")


def load_reasons(path):
    """Goal -> text, from a file with a heading `## GOAL` before each. What stands above the first is left out."""
    reasons = {}
    name = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        heading = HEADING.fullmatch(line)
        if heading:
            name = heading.group(1)
            if name in reasons:
                raise Malformed(f"{path.name}:{number}: a second reason for '{name}'")
            reasons[name] = []
        elif line.startswith("#") and name is not None:
            raise Malformed(f"{path.name}:{number}: a heading that is no '## GOAL'")
        elif name is not None:
            reasons[name].append(line)
    return {name: "\n".join(lines).strip() for name, lines in reasons.items()}


def unexplained(result, reasons):
    """What is wrong with the reasons, one line each: a missed goal without one, a reason for what is no goal."""
    goals = result.get("goals", [])
    names = {goal["name"] for goal in goals}
    problems = [f"the goal '{goal['name']}' is missed, and no reason is given"
                for goal in goals if goal["verdict"] == "missed" and not reasons.get(goal["name"])]
    return problems + [f"a reason for '{name}', which is no goal" for name in reasons if goals and name not in names]


def is_wanted(bound):
    """A bound that has to be held; the others are shown only."""
    return bound["bound"] > 0


def words(bound):
    """A bound as it is shown."""
    text = bound["text"].replace("<=", "≤").replace(">=", "≥").replace(" x ", " × ")
    return plain(re.sub(r"\bus\b", "µs", text))


def measured(bound, unit):
    """What is held against a bound: a figure, or how many times that of what it is compared with."""
    if bound["kind"] in ("absolute", "limit+"):
        return figure(bound["measured"], unit)
    tells_speed = bound["text"].startswith(">=") and not bound["at_least"]  # in words alone: times are compared
    return digits(1 / bound["measured"] if tells_speed and bound["measured"] > 0 else bound["measured"])


def bounds_cell(goal):
    cells = []
    for bound in goal["bounds"]:
        if is_wanted(bound):
            is_missed = "moot" not in bound and bound["excess"] > 1
            text = "not judged" if "moot" in bound else measured(bound, goal["unit"])
            cells.append(f"{words(bound)}: {f'**{text}**' if is_missed else text}")
    return "<br>".join(cells) or "–"


def peers_cell(goal):
    peers = {}
    for bound in goal["bounds"]:
        if bound["kind"] == "peer" and "moot" not in bound:
            name = engine_name(bound["engine"])
            peers[name] = min(bound["measured"], peers.get(name, bound["measured"]))
    return ", ".join(f"{plain(name)} {digits(times)}" for name, times in peers.items()) or "–"


def limit_cell(goal):
    return figure(goal["limit"]["figure"], goal["unit"]) if "limit" in goal else "–"


def excesses(goal):
    return ", ".join(digits(excess) for excess in goal["runs"])


def verdict_cell(goal):
    verdict = goal["verdict"]
    return f"**{verdict}**" if verdict == "missed" else verdict


COLUMNS = [
    ("", "---:", lambda goal: str(goal["row"])),
    ("goal", "---", lambda goal: f"{plain(goal['text'])} (`{goal['name']}`)"),
    ("Cellar", "---:", lambda goal: figure(goal["figure"], goal["unit"]) if goal["figure"] > 0 else "–"),
    ("limit", "---:", limit_cell),
    ("÷ limit", "---:", lambda goal: digits(goal["ratio"]) if "ratio" in goal else "–"),
    ("bounds", "---", bounds_cell),
    ("peers ÷ Cellar", "---", peers_cell),
    ("", "---", verdict_cell),
    ("runs", "---:", excesses),
]


def compared(bound):
    """What a bound that was missed was compared with."""
    if not bound["mode"]:
        return ""
    name = "the limit" if bound["engine"] == LIMIT else engine_name(bound["engine"])
    return f" ({plain(name)}: {plain(bound['mode'])})"


def fall_short(goal):
    """A line about each bound of a goal that isn't held."""
    over = [bound for bound in goal["bounds"] if is_wanted(bound) and "moot" not in bound and bound["excess"] > 1]
    return [f"- {words(bound)}: {measured(bound, goal['unit'])}, missed by {digits(100 * bound['excess'] - 100)} %"
            f"{compared(bound)}" for bound in over]


def missed_parts(goals, reasons):
    lines = []
    for goal in goals:
        lines += [
            "",
            f"#### {goal['name']}: {goal['verdict']}",
            "",
            f"{plain(goal['text'])}: {figure(goal['figure'], goal['unit'])} ({plain(goal['mode'])}).",
            "",
            *fall_short(goal),
        ]
        if reasons.get(goal["name"]):
            lines += ["", reasons[goal["name"]]]
    return lines


def moot_list(goals):
    """What could not be judged, and why."""
    lines = []
    for goal in goals:
        for bound in goal["bounds"]:
            if is_wanted(bound) and "moot" in bound:
                lines.append(f"- `{goal['name']}`, {words(bound)}: {plain(bound['moot'])}")
        if goal["verdict"] == "moot" and not goal["bounds"]:
            lines.append(f"- `{goal['name']}`: it was not measured in this run")
    return ["", "### What was not judged here", "", *lines] if lines else []


def counted(goals):
    """How many are held, close, missed, moot."""
    found = [goal["verdict"] for goal in goals]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)


def goals_part(result, reasons):
    """The table of the goals, and what is missed or close, with the reasons."""
    goals = result.get("goals", [])
    if not goals:
        return "The run that this page shows was not held against the goals."
    goals = sorted(goals, key=lambda goal: goal["row"])
    failing = [goal for goal in goals if goal["verdict"] in ("missed", "close")]
    lines = [machine_line(result) + ".", "", f"{len(goals)} goals: {counted(goals)}.", "", *table(COLUMNS, goals)]
    if failing:
        lines += ["", "### What is missed, or close", *missed_parts(failing, reasons)]
    return "\n".join(lines + moot_list(goals))
