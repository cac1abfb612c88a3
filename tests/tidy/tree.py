"""The project's files, as the checks see them."""

import pathlib

CODE_FOLDERS = ("src", "include", "tools", "tests", "bench", "docs/examples")
ALL_FOLDERS = (*CODE_FOLDERS, "docs", "cmake", ".ci")
# Data: what tests read, as others or fuzzers wrote it; what the bench wrote; what tools leave behind.
LEFT_OUT = (
    "tests/data/",
    "tests/fuzz/corpus/",
    "bench/results.json",
    "bench/results_pages.json",
    "__pycache__/",
    ".pyc",
)


def name_of(root, path):
    return path.relative_to(root).as_posix()


def is_text(path):
    with path.open("rb") as file:
        return b"\0" not in file.read(8192)


def find(root, *folders, suffixes=None):
    """Text files under the folders (all, and the top of the tree, if none is named), sorted."""
    found = []
    for folder in folders or ALL_FOLDERS:
        found += (root / folder).rglob("*")
    if not folders:
        found += root.iterdir()
    keep = [path for path in found
            if path.is_file() and not path.is_symlink() and (suffixes is None or path.suffix in suffixes)
            and not any(part in name_of(root, path) for part in LEFT_OUT) and is_text(path)]
    return sorted(set(keep))


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def top(root):
    return pathlib.Path(root).resolve()
