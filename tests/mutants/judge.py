"""What becomes of one mutant."""

import collections
import shutil
import threading

import build
import mutate

# status: "killed", "hung" (killed by its time), "survived", "equivalent", "duplicate" (of another one) or "invalid" (it
# can't be compiled). by: the program that found it. tried: how many ran.
Verdict = collections.namedtuple("Verdict", "mutant status by tried")


class Judge:
    """For several threads, each of which has a folder of its own."""

    def __init__(self, builder, suite, root):
        self.builder, self.suite, self.root = builder, suite, root
        self.lock = threading.Lock()
        self.seen = {}    # by file: the hashes of its mutants
        self.dependents = {}

    def judge(self, mutant, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return self._judge(mutant, folder)
        except build.BuildError:
            return Verdict(mutant, "invalid", "", 0)

    def _judge(self, mutant, folder):
        changed, hashes = self._compile(mutant, folder, ())
        if all(value == self.builder.hashes[source] for source, value in hashes.items()):
            return Verdict(mutant, "equivalent", "", 0)
        if self._is_known(mutant.file, tuple(hashes.values())):
            return Verdict(mutant, "duplicate", "", 0)
        self.builder.link(folder, changed)
        verdict = self._try(mutant, folder)
        if verdict.status == "survived" and self._is_harmless(mutant, folder):
            return Verdict(mutant, "equivalent", "", verdict.tried)
        return verdict

    def _is_known(self, file, hashes):
        with self.lock:
            known = self.seen.setdefault(file, set())
            if hashes in known:
                return True
            known.add(hashes)
            return False

    def _sources_of(self, path):
        """What has to be compiled where path has changed."""
        if path.suffix == ".c":
            return [path]
        with self.lock:
            known = self.dependents.get(path)
        if known is None:
            known = [source for source in self.builder.sources if str(path) in self.builder.needs_of(source)]
            with self.lock:
                self.dependents[path] = known
        return known

    def _include(self, mutant, folder):
        """A folder that has the changed header, and the flags with which it comes first."""
        header = folder / "include" / mutant.file.removeprefix("src/")
        header.parent.mkdir(parents=True, exist_ok=True)
        path = self.root / mutant.file
        header.write_text(mutate.apply(mutant, path.read_text()))
        return [f"-I{folder / 'include'}", f"-fmacro-prefix-map={folder / 'include'}={self.root / 'src'}"]

    def _compile(self, mutant, folder, more):
        """The changed objects, and their hashes, by source."""
        path = self.root / mutant.file
        changed = {}
        for source in self._sources_of(path):
            if source == path:
                text = mutate.apply(mutant, path.read_text())
                changed[source] = self.builder.compile(source, folder, text, more=more)
            else:
                include = self._include(mutant, folder)
                changed[source] = self.builder.compile(source, folder, before=include, more=more)
        return changed, {source: self.builder.hash_of(made) for source, made in changed.items()}

    def _is_harmless(self, mutant, folder):
        """Whether a compiler that tries harder finds the same program."""
        for_base = folder / "base"
        for_base.mkdir()
        _, hashes = self._compile(mutant, folder, [build.HARDER])
        return all(value == self.builder.hash_of(self.builder.compile(source, for_base, more=[build.HARDER]))
                   for source, value in hashes.items())

    def _try(self, mutant, folder):
        finders = self.suite.finders(mutant)
        order = [name for name in self.suite.order_for(mutant.file)
                 if name in finders or self._includes(name, self.root / mutant.file)]
        for tried, name in enumerate(order, 1):
            result = self.suite.try_on(name, folder, folder / "scratch", self._own_program(name, mutant, folder))
            if result.status != "passed":
                with self.lock:
                    self.suite.remember(mutant.file, name)
                return Verdict(mutant, "killed" if result.status == "failed" else "hung", name, tried)
        return Verdict(mutant, "survived", "", len(order))

    def _includes(self, name, path):
        """Whether a program has a copy of its own of what a header defines."""
        sources = self.suite.programs[name].sources
        return path.suffix == ".h" and any(str(path) in self.builder.needs_of(source) for source in sources)

    def _own_program(self, name, mutant, folder):
        """A program that includes the changed header itself is linked for the mutant alone; None: it doesn't."""
        if not self._includes(name, self.root / mutant.file):
            return None
        return self.builder.program(self.suite.programs[name], folder, self._include(mutant, folder))
