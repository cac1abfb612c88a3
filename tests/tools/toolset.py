"""What the tests of the tools share: running a tool, golden files, and store files made by hand.

CELLAR_TOOLS names the folder of the built tools. Golden files come from tests/data/golden, and from the golden/ of
CELLAR_SHARED (or of ../shared beside the repository) as well where that is there.
"""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
TOOLS = os.environ.get("CELLAR_TOOLS", os.path.join(REPOSITORY, "build", "tools"))
SHARED = os.environ.get("CELLAR_SHARED", os.path.join(REPOSITORY, os.pardir, "shared"))
DATA = os.path.join(REPOSITORY, "tests", "data", "golden")
MAX_INDEX = 200000  # sanitizers cannot reserve large windows
SLOT_OFFSETS = (32, 64, 96, 128)
DONE, USAGE, SYSTEM, RECOVERABLE, CORRUPT, BUSY = range(6)


def tool_path(name):
    return os.path.join(TOOLS, name)


def command(tool, *args):
    """The argument vector; arguments may be text, bytes or numbers."""
    return [tool_path(tool)] + [a if isinstance(a, (str, bytes)) else str(a) for a in args]


def run(tool, *args, stdin=b"", timeout=120, stdout=subprocess.PIPE, **more):
    """Runs a tool to its end; stdin: the bytes that it reads, or a file."""
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run(command(tool, *args), stdout=stdout, stderr=subprocess.PIPE, timeout=timeout, check=False,
                          **given, **more)


def golden_folders():
    shared = os.path.join(SHARED, "golden")
    return [folder for folder in (DATA, shared) if os.path.isdir(folder)]


class Golden:
    """One golden file: what the original wrote and what it then found in it."""

    def __init__(self, folder, entry):
        self.name = entry["name"]
        self.key = entry["key"]
        self.path = os.path.join(folder, self.name + ".db")
        with open(os.path.join(folder, self.name + ".expect.json"), encoding="ascii") as file:
            self.expect = json.load(file)
        self.ops_path = os.path.join(folder, self.name + ".ops.json")

    def ops(self):
        with open(self.ops_path, encoding="ascii") as file:
            return json.load(file)["ops"]

    def bytes(self):
        with open(self.path, "rb") as file:
            return file.read()


def goldens():
    found = []
    for folder in golden_folders():
        with open(os.path.join(folder, "MANIFEST.json"), encoding="ascii") as file:
            found += [Golden(folder, entry) for entry in json.load(file)["files"]]
    return found


# ---- store files made by hand ----

def hash96(data):
    return hashlib.blake2b(data, digest_size=12).digest()


def slot_bytes(next_index, root_index=0, key=b""):
    state = struct.pack("<II", root_index, next_index)
    return hash96(state) + hash96(key + state) + state


def start_index(bytes_per_cell):
    return -(-256 // bytes_per_cell)


def footer_bytes(size, cdr):
    return struct.pack("<HI", size, cdr)


class Store:
    """A store file in memory, with a header that is whole."""

    def __init__(self, bytes_per_cell=32, max_index=MAX_INDEX, version=1, key=bytes(range(32))):
        self.bytes_per_cell, self.max_index, self.version, self.key = bytes_per_cell, max_index, version, key
        self.start = start_index(bytes_per_cell)
        self.data = bytearray(self.start * bytes_per_cell)

    def next(self):
        return len(self.data) // self.bytes_per_cell

    def cell(self, content):
        """Appends one plain cell."""
        index = self.next()
        self.data += content.ljust(self.bytes_per_cell, b"\0")
        return index

    def chunk(self, content, size=None, cdr=0):
        """Appends one chunk, its footer as given."""
        cells = -(-(len(content) + 6) // self.bytes_per_cell)
        body = bytearray(cells * self.bytes_per_cell)
        body[:len(content)] = content
        body[-6:] = footer_bytes(len(content) if size is None else size, cdr)
        self.data += body
        return self.next() - 1

    def value(self, content):
        """Appends a value as both writers do."""
        last = 0
        for at in range(0, max(len(content), 1), 65535):
            last = self.chunk(content[at:at + 65535], cdr=last)
        return last

    def image(self, root=0, disk=None, process=None, spare_cells=0):
        """The file; disk and process are (next, root), by default all cells and root."""
        state = (self.next(), root)
        disk, process = disk or state, process or disk or state
        data = self.data + bytes(spare_cells * self.bytes_per_cell)
        data[0:32] = b"PLEBEIA TEST        " + struct.pack("<III", self.bytes_per_cell, self.max_index, self.version)
        data[32:64] = data[64:96] = slot_bytes(*disk)
        data[96:128] = data[128:160] = slot_bytes(*process, self.key)
        return bytes(data)


def content(seed, length):
    """Bytes that look random and are the same every time."""
    return hashlib.shake_128(b"%d" % seed).digest(length)


def splitmix_bytes(seed, length):
    """The byte stream of the golden files' contents."""
    mask, state, out = (1 << 64) - 1, seed, bytearray()
    while len(out) < length:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out += struct.pack("<Q", z ^ (z >> 31))
    return bytes(out[:length])


class ToolTest(unittest.TestCase):
    """A test with a folder of its own."""

    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cellar-tools-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def expect(self, code, tool, *args, **more):
        """Runs a tool that must end with this exit code."""
        done = run(tool, *args, **more)
        self.assertEqual(done.returncode, code, (tool, args, (done.stdout or b"")[-2000:], done.stderr[-2000:]))
        return done

    def info(self, store, *args, code=DONE, **more):
        return json.loads(self.expect(code, "celldump", "info", store, "--json", *args, **more).stdout)

    def assert_usage(self, tool, *args):
        done = self.expect(USAGE, tool, *args)
        self.assertEqual(done.stdout, b"")
        self.assertTrue(done.stderr)
        return done

    def check_common_options(self, tool):
        """--help, --version, no arguments, an unknown option."""
        done = self.expect(DONE, tool, "--help")
        self.assertIn(b"Usage: " + tool.encode(), done.stdout)
        self.assertEqual(done.stderr, b"")
        done = self.expect(DONE, tool, "--version")
        self.assertRegex(done.stdout, rb"^" + tool.encode() + rb" .*\d+\.\d+\.\d+\n$")
        self.assertIn(b"Usage: " + tool.encode(), self.assert_usage(tool).stderr)
        self.assert_usage(tool, "--no-such-option")


def main():
    unittest.main(argv=sys.argv, verbosity=1)
