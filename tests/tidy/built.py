"""Checks that look at a build: what its targets are made of, what its tests run, what the library exports."""

import functools
import json
import pathlib
import re
import shlex
import subprocess

from tree import find, name_of

# Compiled by a script, not by a target.
BUILT_BY_SCRIPT = {"tests/install/outside.c": "tests/install/check", "tests/mutants/calls.c": "tests/mutants/run.py"}
# Built where libnbd is.
OPTIONAL = ("src/device/nbd/", "tests/nbd/")
# Helpers of the inline functions: their callers are what is called.
PRIVATE_INLINE = re.compile(r"cellar_(decode|encode)_\w+|cellar_(cache|pipeline)_peek")

ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)")
EXPORTED = re.compile(r'visibility\s*\(\s*"default"\s*\)')
LITERAL = re.compile(r'"(?:\\.|[^"\\])*"')
MARKER = re.compile(r'# \d+ "([^"]*)"')
DEFINES_MAIN = re.compile(r"^int main\(", re.MULTILINE)


def compile_commands(context):
    """Source file -> its entries in compile_commands.json."""
    entries = {}
    for entry in json.loads((context.build / "compile_commands.json").read_text(encoding="utf-8")):
        source = (pathlib.Path(entry["directory"]) / entry["file"]).resolve()
        entries.setdefault(source, []).append(entry)
    return entries


def check_built(context):
    """a source file of the library, the tools or the tests that no target builds"""
    built = compile_commands(context)
    has_optional = context.root / "src/device/nbd/link.c" in built
    problems = []
    for path in find(context.root, "src", "tools", "tests", suffixes={".c"}):
        name = name_of(context.root, path)
        if name.startswith(OPTIONAL) and not has_optional:
            continue
        script = BUILT_BY_SCRIPT.get(name)
        if script and path.name in (context.root / script).read_text(encoding="utf-8"):
            continue
        if path not in built:
            problems.append(f"{name}: no target builds it")
    return problems


def target_of(entry):
    words = shlex.split(entry["command"])
    output = words[words.index("-o") + 1]
    return re.search(r"CMakeFiles/([^/]+)\.dir/", output).group(1)


def check_run(context):
    """a test program that no test runs"""
    # Not asked of ctest: it would begin a new log in the middle of the run that this check is a part of.
    lists = [path.read_text(encoding="utf-8") for path in context.build.rglob("CTestTestfile.cmake")]
    commands = re.findall(r"^add_test\((.*)\)$", "\n".join(lists), re.MULTILINE)
    run = {pathlib.PurePath(word).name for command in commands for word in re.findall(r'"([^"]*)"', command)}
    problems = []
    for source, entries in compile_commands(context).items():
        if context.root / "tests" not in source.parents or not DEFINES_MAIN.search(source.read_text(encoding="utf-8")):
            continue
        for target in map(target_of, entries):
            if target not in run:
                problems.append(f"{name_of(context.root, source)}: no test runs {target}")
    return problems


def text_from(preprocessed, folder):
    """Those lines that come from files in the folder, without literals."""
    kept, inside = [], False
    for line in preprocessed.splitlines():
        marker = MARKER.match(line)
        if marker:
            inside = folder in pathlib.Path(marker.group(1)).resolve().parents
        elif inside:
            kept.append(line)
    return "\n".join(kept)


def declarations(text):
    """What stands at the top level of C text, one by one, function bodies as {}."""
    depth, current = 0, []
    for token in re.findall(r"[{};]|[^{};]+", text):
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
        if depth == 0 and token == ";":
            yield "".join(current)
            current = []
        elif depth == 0 and token == "}":
            current.append("{}")
            if "(" in "".join(current):  # a function's body; what a type's body ends goes on to its semicolon
                yield "".join(current)
                current = []
        elif depth == 0:
            current.append(token)


@functools.lru_cache
def public_functions(root, compiler):
    """(exported, inline) names of the functions of the public headers."""
    done = subprocess.run([compiler, "-std=c11", "-D_GNU_SOURCE", "-E", f"-I{root}/include", "-x", "c", "-"],
                          input="#include <cellar/cellar.h>\n", capture_output=True, text=True, check=True)
    exported, inline = set(), set()
    for declaration in declarations(text_from(done.stdout, root / "include" / "cellar")):
        name = re.search(r"(\w+)\s*\(", ATTRIBUTE.sub(" ", declaration))
        if name and EXPORTED.search(declaration):
            exported.add(name.group(1))
        elif name and declaration.endswith("{}") and not PRIVATE_INLINE.fullmatch(name.group(1)):
            inline.add(name.group(1))
    return exported, inline


def preprocess(entry):
    words = shlex.split(entry["command"])
    at = words.index("-o")
    del words[at:at + 2]
    words[words.index("-c")] = "-E"
    return subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True, check=True).stdout


def check_called(context):
    """a function of the public headers that no test calls"""
    tests = context.root / "tests"
    named = set()
    for source, entries in compile_commands(context).items():
        if tests in source.parents:
            text = LITERAL.sub('""', text_from(preprocess(entries[0]), tests))
            named.update(re.findall(r"\bcellar_\w+", text))
    exported, inline = public_functions(context.root, context.compiler)
    return [f"{name}: no test calls it" for name in sorted((exported | inline) - named)]


def check_symbols(context):
    """a symbol that the shared library exports and no public header declares, or the other way round"""
    done = subprocess.run(["nm", "-D", "--defined-only", str(context.library)], capture_output=True, text=True,
                          check=True)
    symbols = {line.split()[2].split("@")[0] for line in done.stdout.splitlines()}
    exported, _ = public_functions(context.root, context.compiler)
    return ([f"{name}: exported, but in no public header" for name in sorted(symbols - exported)] +
            [f"{name}: in a public header, but not exported" for name in sorted(exported - symbols)])
