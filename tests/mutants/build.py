"""Builds the library of a mutant, and the programs that test it.

The library is one shared object that hides nothing, and every program is linked against it once: a mutant then costs
the compilation of one file and a link. Where a program has functions __wrap_NAME, which ld --wrap would call, the
shared object calls NAME by a jump that the program's own function comes before.
"""

import collections
import hashlib
import platform
import re
import shlex
import shutil
import subprocess
import threading

FLAGS = ["-std=c11", "-O1", "-g0", "-fPIC", "-w", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"]
HARDER = "-O3"  # what is the same here is the same program, too
NAME = "libcellar_mutant.so"
JUMPS = {"x86_64": "jmp", "aarch64": "b"}
MODES = ("window", "writes", "durable", "blocks-512", "path", "path-pages", "compat", "failing", "failing-writes")
SCENARIOS = ("create", "append", "flush", "back", "again", "repair", "truncate", "read", "keys", "cache", "pipeline",
             "eager")
# Programs of several files: which of these, and with which arguments they run.
FOLDERS = {
    "conformance": ("*.c", [["golden"], ["traces"]]),
    "crash": ("*.c", [["--mode", mode, "--runs", "1", "--steps", "30"] for mode in MODES]),
    "faults": ("[!k]*.c", [["--only", scenario] for scenario in SCENARIOS]),
}
WRAPPED = re.compile(r"(?:set|list)\((?:APPEND )?\w*WRAPPED\s+(\w[\w\s]*)\)")

# A test program: the sources of its binary, which may be that of several, and with which arguments it runs.
Program = collections.namedtuple("Program", "name binary sources arguments")


class BuildError(Exception):
    pass


def command(arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False, **options)
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def package(*names):
    """Flags for compiling and linking, or None where one isn't there."""
    done = subprocess.run(["pkg-config", "--cflags", "--libs", *names], capture_output=True, text=True, check=False)
    return shlex.split(done.stdout) if done.returncode == 0 else None


def programs_of(root):
    """By name: the unit tests, and what else is fast."""
    found = {}
    for source in sorted((root / "tests/unit").glob("test_*.c")):
        name = source.stem.removeprefix("test_")
        found[name] = Program(name, name, [source], [])
    for folder, (pattern, runs) in FOLDERS.items():
        sources = sorted((root / "tests" / folder).glob(pattern))
        for arguments in runs if sources else ():
            name = "-".join([folder, *[word for word in arguments[:2] if word[0] != "-"]])
            found[name] = Program(name, folder, sources, arguments)
    return found


def wrapped_by(root, program):
    """The functions that come past the program, as its sources or the list of its folder say."""
    if program.binary not in FOLDERS:
        return set(re.findall(r"\b__wrap_(\w+)\(", program.sources[0].read_text()))
    text = (root / "tests" / program.binary / "CMakeLists.txt").read_text()
    return {name for names in WRAPPED.findall(text) for name in names.split()}


class Builder:
    def __init__(self, root, work, compiler):
        self.root, self.work, self.compiler = root, work, compiler
        uring = package("liburing")
        self.has_uring = uring is not None
        version = re.search(r"project\(cellar VERSION ([\d.]+)", (root / "CMakeLists.txt").read_text()).group(1)
        self.flags = [*FLAGS, f"-DCELLAR_HAVE_URING={int(self.has_uring)}", f'-DCELLAR_VERSION="{version}"',
                      f"-I{root / 'include'}", f"-I{root / 'src'}"]
        self.libraries = [*package("libb2"), *(uring or []), "-pthread"]
        self.linker = ["-fuse-ld=lld"] if shutil.which("ld.lld") else []
        self.sources = sorted([*root.glob("src/*.c"), *root.glob("src/*/*.c")])
        self.wraps = sorted({name for program in programs_of(root).values() for name in wrapped_by(root, program)})
        self.not_for_leaks = {*FOLDERS}  # binaries that fail, or are slow, where leaks are looked for
        self.lock, self.locks, self.hashes, self.needs = threading.Lock(), {}, {}, {}

    def object_of(self, source, folder):
        return folder / ("+".join(source.relative_to(self.root).parts) + ".o")

    def compile(self, source, folder, text=None, before=(), more=()):
        """Into folder; text: what the file is to say instead."""
        output = self.object_of(source, folder)
        text = source.read_text() if text is None else text
        command([self.compiler, *before, *self.flags, *more, "-x", "c", "-c", "-", "-o", output],
                input=f'#line 1 "{source.relative_to(self.root)}"\n{text}')
        return output

    def needs_of(self, source):
        """The headers of the project that a file includes, also by way of others."""
        with self.lock:
            if source not in self.needs:
                text = command([self.compiler, *self.flags, f"-I{self.root / 'tests/support'}", "-MM", source])
                self.needs[source] = set(text.replace("\\\n", " ").split()[1:])
            return self.needs[source]

    def base(self, jobs):
        """The library without a mutant: its objects, and what they hash to."""
        folder = self.work / "base"
        folder.mkdir()
        jobs.each(lambda source: self.compile(source, folder), self.sources)
        for source in self.sources:
            self.hashes[source] = self.hash_of(self.object_of(source, folder))
        self._jumps(folder)
        self.link(folder, {})

    @staticmethod
    def hash_of(path):
        return hashlib.sha256(path.read_bytes()).digest()

    def _jumps(self, folder):
        jump = JUMPS.get(platform.machine())
        if jump is None:
            self.wraps = []
        text = "".join(f'__asm__(".globl __wrap_{name}\\n.type __wrap_{name}, %function\\n'
                       f'__wrap_{name}: {jump} __real_{name}@PLT\\n");\n'.replace("@PLT", "@PLT" * (jump == "jmp"))
                       for name in self.wraps)
        path = folder / "jumps.c"
        path.write_text(text + "extern int cellar_jumps;\n")
        command([self.compiler, "-fPIC", "-c", path, "-o", folder / "jumps.o"])

    def link(self, folder, changed, more=()):
        """The shared object in folder; changed: objects by source in place of the ones without a mutant."""
        base = self.work / "base"
        objects = [changed.get(source, self.object_of(source, base)) for source in self.sources]
        command([self.compiler, "-shared", *self.linker, f"-Wl,-soname,{NAME}", "-o", folder / NAME, *objects, *more,
                 base / "jumps.o", *self._wrap_flags(self.wraps), *self.libraries])

    @staticmethod
    def _wrap_flags(names):
        return [f"-Wl,--wrap={name}" for name in names]

    def program(self, program, folder, include=()):
        """The path of the program, linked into folder if it isn't there; include: flags that come first."""
        path = folder / f"test_{program.binary}"
        with self.lock:
            lock = self.locks.setdefault(path, threading.Lock())
        with lock:
            if not path.exists():
                self._link_program(program, path, include)
        return path

    def _link_program(self, program, path, include):
        sources, binary = list(program.sources), program.binary
        data = self.root / "tests/data"
        flags = [f"-I{self.root / 'tests/support'}", f'-DCONFORMANCE_BESIDE="{data}"', f'-DCONFORMANCE_COPY="{data}"',
                 f"-DFAULTS_RING={int(self.has_uring)}"]
        if binary not in ("crash", "faults"):
            sources += sorted((self.root / "tests/support").glob("*.c"))
        libraries = package("cmocka", "libb2", *(["jansson"] if binary == "conformance" else []))
        wraps = wrapped_by(self.root, program)
        if libraries is None or not wraps <= set(self.wraps):
            raise BuildError(f"{program.name} can't be linked here")
        leaks = [] if binary in self.not_for_leaks else ["-fsanitize=leak"]
        command([self.compiler, *include, *self.flags, *flags, *leaks, "-rdynamic", *self.linker, *sources, "-o", path,
                 self.work / "base" / NAME, *self._wrap_flags(sorted(wraps)), *self.libraries, *libraries])
