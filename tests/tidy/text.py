"""Checks that need nothing but the text of the files."""

import re
import shutil
import subprocess

from tree import CODE_FOLDERS, find, lines_of, name_of

FILE_LINES = 600  # this many are too many
FUNCTION_LINES = 70  # this many are too many
LINE_COLUMNS = 120
C_SUFFIXES = {".c", ".h"}
PROSE_SUFFIXES = {".md", ".json", ".svg", ".1"}
CLANG_FORMAT_VERSION = "14"  # others format some things differently

# Written apart, so that this file passes.
LEFT_FOR_LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


class Skip(Exception):
    """The check can't be made here."""


def check_sizes(context):
    """a file of 600 lines or more"""
    problems = []
    for path in find(context.root, *CODE_FOLDERS):
        count = len(lines_of(path))
        if path.suffix not in PROSE_SUFFIXES and count >= FILE_LINES:
            problems.append(f"{name_of(context.root, path)}: {count} lines, {FILE_LINES - 1} at most")
    return problems


def check_functions(context):
    """a function of 70 lines or more, braces included"""
    problems = []
    for path in find(context.root, *CODE_FOLDERS, suffixes=C_SUFFIXES):
        start = None
        for number, line in enumerate(lines_of(path), 1):
            if line == "{":
                start = number
            elif line.startswith("}") and start is not None:
                count = number - start + 1
                if count >= FUNCTION_LINES:
                    problems.append(f"{name_of(context.root, path)}:{start}: a function of {count} lines")
                start = None
    return problems


def line_problems(line, is_code):
    if "\t" in line:
        yield "a tab"
    if line != line.rstrip():
        yield "a blank at the end of the line"
    if is_code and len(line) > LINE_COLUMNS:
        yield f"{len(line)} columns, {LINE_COLUMNS} at most"


def check_blanks(context):
    """tabs, blanks at the end of a line, lines that are too long, no newline at the end of a file"""
    problems = []
    for path in find(context.root):
        name = name_of(context.root, path)
        text = path.read_bytes().decode("utf-8")
        is_code = path.suffix not in PROSE_SUFFIXES
        for number, line in enumerate(text.split("\n"), 1):
            problems += [f"{name}:{number}: {what}" for what in line_problems(line, is_code)]
        if text and not text.endswith("\n"):
            problems.append(f"{name}: no newline at the end of the file")
        if text.endswith("\n\n"):
            problems.append(f"{name}: an empty line at the end of the file")
    return problems


def check_words(context):
    """words that leave something for later"""
    problems = []
    for path in find(context.root):
        for number, line in enumerate(lines_of(path), 1):
            for word in LEFT_FOR_LATER.findall(line):
                problems.append(f"{name_of(context.root, path)}:{number}: {word}")
    return problems


def clang_format():
    for command in (f"clang-format-{CLANG_FORMAT_VERSION}", "clang-format"):
        if shutil.which(command):
            version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
            if f"version {CLANG_FORMAT_VERSION}." in version:
                return command
    raise Skip(f"clang-format {CLANG_FORMAT_VERSION} is not here")


def check_format(context):
    """C that clang-format would write differently"""
    paths = [str(path) for path in find(context.root, *CODE_FOLDERS, suffixes=C_SUFFIXES)]
    done = subprocess.run([clang_format(), "--dry-run", "-Werror", "--style=file", *paths], capture_output=True,
                          text=True, check=False)
    problems = {}  # the first of each file
    for line in done.stderr.splitlines():
        if line.endswith("[-Wclang-format-violations]"):
            line = line.removeprefix(f"{context.root}/")
            problem = line.replace("code should be clang-formatted [-Wclang-format-violations]", "unformatted")
            problems.setdefault(line.split(":", 1)[0], problem)
    return list(problems.values())
