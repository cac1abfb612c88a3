"""Draws scripts by gnuplot, and knows without it whether a picture is that of a script.

A picture ends with a line that holds two SHA-256 sums: of the script that it was drawn from, and of the picture before
that line. So it can be checked without gnuplot, whose versions draw a little differently.
"""

import hashlib
import re
import shutil
import subprocess

MARK = re.compile(r"\n<!-- bench/report: script ([0-9a-f]{64}), picture ([0-9a-f]{64}) -->\n\Z")
BOLD_FAMILY = 'font-family="sans-serif:Bold"'
BOLD = 'font-family="sans-serif" font-weight="bold"'
SECONDS = 60


class Missing(Exception):
    """There is no gnuplot, or it fails."""


def sha256(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def is_current(picture, script):
    """Whether the picture (text, or None) was drawn from the script, and is as it was drawn."""
    mark = MARK.search(picture or "")
    return bool(mark) and mark.groups() == (sha256(script), sha256(picture[: mark.start()]))


def tidied(svg):
    """Without tabs and blanks at the end of lines, and without empty lines; and a bold font is a weight, where gnuplot
    leaves it in the name of the family, which is then none."""
    lines = [line.replace("\t", "  ").rstrip() for line in svg.splitlines()]
    return "\n".join(line for line in lines if line).replace(BOLD_FAMILY, BOLD)


def draw(script):
    """The picture of a script, as SVG."""
    if shutil.which("gnuplot") is None:
        raise Missing("the charts need gnuplot, which is not here (Debian: gnuplot-nox)")
    try:
        done = subprocess.run(["gnuplot", "-d", "-"], input=script, capture_output=True, encoding="utf-8", check=False,
                              timeout=SECONDS)
    except (OSError, UnicodeError, subprocess.TimeoutExpired) as error:
        raise Missing(f"gnuplot: {error}") from None
    if done.returncode != 0 or not done.stdout.rstrip().endswith("</svg>"):
        raise Missing(f"gnuplot ends with {done.returncode}: {done.stderr.strip()}")
    picture = tidied(done.stdout)
    return f"{picture}\n<!-- bench/report: script {sha256(script)}, picture {sha256(picture)} -->\n"
