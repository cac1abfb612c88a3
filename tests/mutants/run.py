"""Runs test programs against a library: in which order, for how long, and which at all."""

import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import build

CALLS_BYTES = 1 << 22
IDLE_SECONDS = 3.0
LEAKS_SECONDS = 0.3
BASE_LIMIT_SECONDS = 300
FILE_BYTES_MAX = 1 << 36


class Jobs:
    """A function for each of many things, some at a time."""

    def __init__(self, executor):
        self.executor = executor

    def each(self, function, things):
        return list(self.executor.map(function, things))


class Result:
    """How one run of a program went: status is "passed", "failed" or "hung"."""

    def __init__(self, status, wall_seconds, cpu_seconds):
        self.status, self.wall_seconds, self.cpu_seconds = status, wall_seconds, cpu_seconds


def _limits(cpu_seconds):
    def set_limits():
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
    return set_limits


def _session(leader):
    """The states of the processes of a session, and the time that they have used, in ticks."""
    states, ticks = set(), 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == leader:
            states.add(fields[0])
            ticks += int(fields[11]) + int(fields[12])
    return states, ticks


class _Watch:
    """Notices a program whose processes all sleep, for longer than any of them has a reason to."""

    def __init__(self, leader):
        self.leader, self.ticks, self.since, self.next = leader, -1, time.monotonic(), time.monotonic() + 1

    def sleeps(self):
        now = time.monotonic()
        if now < self.next:
            return False
        states, ticks = _session(self.leader)
        if ticks != self.ticks or states - {"S", "Z", "T"}:
            self.ticks, self.since = ticks, now
        self.next = now + 0.2
        return now - self.since > IDLE_SECONDS


def _wait(process, wall_limit):
    """The status of a process that has ended within its limits, or "hung"; the leader may still run then."""
    begin, watch = time.monotonic(), _Watch(process.pid)
    while time.monotonic() - begin < wall_limit and not watch.sleeps():
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid != 0:
            process.returncode = code
            if os.WIFSIGNALED(code) and os.WTERMSIG(code) in (signal.SIGXCPU, signal.SIGKILL):
                return "hung", usage
            return "passed" if code == 0 else "failed", usage
        time.sleep(min(0.02, 0.001 + (time.monotonic() - begin) / 20))
    return "hung", None


def run_program(path, arguments, library, scratch, wall_limit, cpu_limit, **more):
    """One run, against the library in the folder library, with an empty folder for its files."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    environment = dict(os.environ, LD_LIBRARY_PATH=str(library), TMPDIR=str(scratch), **more)
    begin = time.monotonic()
    process = subprocess.Popen([path, *arguments], env=environment, cwd=scratch, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                               preexec_fn=_limits(int(cpu_limit) + 1))
    try:
        status, usage = _wait(process, wall_limit)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if process.returncode is None:
            _, process.returncode, usage = os.wait4(process.pid, 0)
    return Result(status, time.monotonic() - begin, usage.ru_utime + usage.ru_stime)


class Suite:
    """The programs, what is known of each, and the order in which a file's mutants meet them."""

    def __init__(self, builder, programs, jobs, slow_seconds):
        self.builder, self.jobs, self.slow_seconds = builder, jobs, slow_seconds
        self.programs = {program.name: program for program in programs}
        self.folder = builder.work / "programs"
        self.folder.mkdir()
        self.costs = {}      # by name: the Result of a run without a mutant
        self.called = None   # by name: {(file, line)} of the functions that it calls
        self.killers = {}    # by file: names, the last that killed a mutant first
        self.left_out = []

    def measure(self, slow_too):
        """Builds every program and runs it once, without a mutant; what fails already is left out, or is too slow."""
        self.jobs.each(self._measure, list(self.programs.values()))
        for name in list(self.programs):
            passes = name in self.costs and self.costs[name].status == "passed"
            if passes and (slow_too or not self.is_slow(name)):
                continue
            if not passes:
                self.left_out.append(name)
            self.costs.pop(name, None)
            del self.programs[name]

    def _measure(self, program):
        """Its memory is searched for leaks at its end, but where that takes long, or doesn't do, as for a program that
        runs out of memory on purpose."""
        for leaks in (True, False):
            if not leaks:
                self.builder.not_for_leaks.add(program.binary)
            elif program.binary in self.builder.not_for_leaks:
                continue
            try:
                path = self.builder.program(program, self.folder)
            except build.BuildError as error:
                print(str(error)[-1000:])
                return
            cost = run_program(path, program.arguments, self.builder.work / "base",
                               self.builder.work / "scratch" / program.name, BASE_LIMIT_SECONDS, BASE_LIMIT_SECONDS)
            self.costs[program.name] = cost
            if cost.status == "passed" and (not leaks or cost.cpu_seconds < LEAKS_SECONDS):
                return
            if leaks:
                path.unlink()

    def profile(self):
        """Learns which functions each program calls, so that the others need not be run."""
        builder, folder = self.builder, self.builder.work / "calls"
        folder.mkdir()
        changed = {source: builder.object_of(source, folder) for source in builder.sources}
        self.jobs.each(lambda source: build.command([builder.compiler, *builder.flags, "-finstrument-functions", "-g1",
                                                     "-c", source, "-o", changed[source]]), builder.sources)
        helper = folder / "calls.o"
        build.command([builder.compiler, *builder.flags, "-c", pathlib.Path(__file__).with_name("calls.c"), "-o",
                       helper])
        builder.link(folder, changed, [helper])
        self.called = dict(self.jobs.each(self._profile, list(self.programs.values())))

    def _profile(self, program):
        folder = self.builder.work / "calls"
        record = folder / f"{program.name}.calls"
        record.write_bytes(bytes(CALLS_BYTES))
        cost = self.costs[program.name]
        run_program(self.builder.program(program, self.folder), program.arguments, folder,
                    self.builder.work / "scratch" / program.name, 20 * cost.wall_seconds + 20,
                    20 * cost.cpu_seconds + 20, CELLAR_CALLS=str(record))
        data = record.read_bytes()
        places = [hex(match.start()) for match in re.finditer(b"\1", data)]
        lines = build.command(["addr2line", "-e", folder / build.NAME], input="\n".join(places)) if places else ""
        return program.name, {(match.group(1), int(match.group(2)))
                              for match in re.finditer(r"\b(src/\S+):(\d+)", lines)}

    def is_slow(self, name):
        return self.costs[name].cpu_seconds > self.slow_seconds

    def finders(self, mutant):
        """The names of the programs that call the function that is changed, or, if it is none, any of the file. All of
        them where none seems to: calls of a function that some program stands before can't be seen."""
        if self.called is None or (mutant.body is None and mutant.file.endswith(".h")):
            return set(self.programs)
        first, last = mutant.body or (0, sys.maxsize)
        found = {name for name, calls in self.called.items()
                 if any(file == mutant.file and first <= line <= last for file, line in calls)}
        return found or set(self.programs)

    def order_for(self, file):
        killers = self.killers.get(file, [])
        return sorted(self.programs, key=lambda name: (self.is_slow(name),
                                                       killers.index(name) if name in killers else len(killers),
                                                       _strangeness(name, file), self.costs[name].cpu_seconds))

    def remember(self, file, name):
        killers = self.killers.get(file, [])
        self.killers[file] = [name] + [other for other in killers if other != name]

    def try_on(self, name, library, scratch, path=None):
        cost, program = self.costs[name], self.programs[name]
        path = path or self.builder.program(program, self.folder)
        return run_program(path, program.arguments, library, scratch, 5 * cost.wall_seconds + 2,
                           5 * cost.cpu_seconds + 1)


def _strangeness(name, file):
    """How little the name of a program says of a file: 0 for test_x.c and x.c."""
    stem = pathlib.Path(file).stem
    if name == stem:
        return 0
    if name.startswith(stem + "_"):
        return 1
    return 2 if name.split("_")[0] == stem.split("_")[0] else 3
