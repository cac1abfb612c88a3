"""survivors.txt: mutants that no test can or need find, each with its reason.

An entry names the file, the line as it is and as the mutant has it, and the reason:

    src/cell/alloc.c
    - if (target > alloc->max_index)
    + if (target >= alloc->max_index)
      Equal already: the assignment changes nothing.

Lines are compared without the blanks around them, so an entry outlives every edit elsewhere. One reason may stand below
several pairs of lines. What begins with # is a comment.
"""

import mutate


class Explained:
    def __init__(self, reasons):
        self.reasons = reasons  # by (file, line before, line after)

    def reason(self, mutant, text):
        return self.reasons.get((mutant.file, *mutate.lines_of(mutant, text)))

    def stale(self, texts):
        """Entries that fit no mutant, of the files in texts."""
        left = {key for key in self.reasons if key[0] in texts}
        for file in {key[0] for key in left}:
            for mutant in mutate.mutants_of(file, texts[file]):
                left.discard((file, *mutate.lines_of(mutant, texts[file])))
        return sorted(f"{file}: {after}" for file, _, after in left)


def read(path):
    reasons, file, pairs, before, told = {}, "", [], "", False
    for line in path.read_text().splitlines() if path.exists() else ():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] not in "-+ ":
            file, pairs = line.strip(), []
        elif line[0] == "-":
            if told:
                pairs, told = [], False
            before = line[1:].strip()
        elif line[0] == "+":
            pairs.append((file, before, line[1:].strip()))
        else:
            told = True
            for key in pairs:
                reasons[key] = f"{reasons.get(key, '')} {line.strip()}".strip()
    return Explained(reasons)
