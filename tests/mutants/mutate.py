"""What is changed in a file: every mutant is the file with one small piece replaced.

Left as they are: preprocessor lines, assertions (they say what can't be), the dimensions of arrays, and memory
orders (on machines that keep stores in order a weaker one makes no difference that a test could see).
"""

import collections
import re

import syntax

# id: FILE:LINE:COLUMN:KIND. body: the first and the last line of the function, or None. start and end: the offsets of
# what text replaces.
Mutant = collections.namedtuple("Mutant", "id file line body start end text")

BINARY = {
    "<": ("relation", "<="), "<=": ("relation", "<"), ">": ("relation", ">="), ">=": ("relation", ">"),
    "==": ("equality", "!="), "!=": ("equality", "=="),
    "&&": ("logic", "||"), "||": ("logic", "&&"),
    "+": ("arithmetic", "-"), "-": ("arithmetic", "+"), "*": ("arithmetic", "/"), "/": ("arithmetic", "*"),
    "%": ("arithmetic", "/"), "+=": ("arithmetic", "-="), "-=": ("arithmetic", "+="),
    "*=": ("arithmetic", "/="), "/=": ("arithmetic", "*="), "%=": ("arithmetic", "/="),
    "<<": ("shift", ">>"), ">>": ("shift", "<<"), "<<=": ("shift", ">>="), ">>=": ("shift", "<<="),
    "&": ("bits", "|"), "|": ("bits", "&"), "^": ("bits", "&"),
    "&=": ("bits", "|="), "|=": ("bits", "&="), "^=": ("bits", "&="),
}
STEPS = {"++": "--", "--": "++"}
CHECKS = ("CELLAR_CHECK", "assert", "static_assert", "_Static_assert")
NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([uUlL]*)\Z")
# Where the condition of a ?: begins, at the latest behind one of these.
BEFORE_TERNARY = {"=", ",", "?", ":", "return", "+=", "-=", "|=", "&=", "*=", ";", "{", "}", "(", "["}


class _Maker:
    def __init__(self, file, text):
        self.file = file
        self.source = syntax.Source(text)
        self.mutants = []
        self.inside = [None] * len(self.source.tokens)
        for body in self.source.bodies:
            for index in range(body.first, body.last + 1):
                self.inside[index] = body
        self.checked = self._checked()

    def _checked(self):
        """The tokens of assertions."""
        source, indices = self.source, set()
        for index, token in enumerate(source.tokens):
            if token.text in CHECKS and source.is_sign(index + 1, "("):
                indices.update(range(index, source.partners[index + 1] + 1))
        return indices

    def add(self, kind, first, last, text):
        """Tokens first to last become text; the file keeps its lines."""
        start, end = self.source.tokens[first].start, self.source.tokens[last].end
        at, body = self.source.tokens[first], self.inside[first]
        lost = self.source.text.count("\n", start, end) - text.count("\n")
        lines = self.source.lines_of(body) if body else None
        self.mutants.append(Mutant(f"{self.file}:{at.line}:{at.column}:{kind}", self.file, at.line, lines, start, end,
                                   text + "\n" * lost))

    def text_of(self, first, last):
        return self.source.text[self.source.tokens[first].start:self.source.tokens[last].end]

    def signs(self):
        for index, token in enumerate(self.source.tokens):
            if token.kind != "sign" or index in self.checked or self.inside[index] is None:
                continue
            if token.text in BINARY and self.source.is_binary(index):
                self.add(*BINARY[token.text][:1], index, index, BINARY[token.text][1])
            elif token.text in STEPS:
                self.add("step", index, index, STEPS[token.text])
            elif token.text in ("!", "~"):
                self.add("not", index, index, "")
            elif token.text == "?":
                self._ternary(index)

    def _ternary(self, index):
        first, opening = index, {close: at for at, close in self.source.partners.items()}
        while self.source.tokens[first - 1].text not in BEFORE_TERNARY:
            first = opening.get(first - 1, first - 1)
        self.add("negate", first, index - 1, f"!({self.text_of(first, index - 1)})")

    def words(self):
        for index, token in enumerate(self.source.tokens):
            if index in self.checked:
                continue
            if token.kind == "number":
                self._number(index, token)
            elif token.text in ("true", "false") and self.inside[index] is not None:
                self.add("bool", index, index, "false" if token.text == "true" else "true")

    def _number(self, index, token):
        match = NUMBER.match(token.text)
        if match is None:
            return
        if self._is_dimension(index):
            return
        value, suffix = int(match.group(1), 0), match.group(2)
        shown = hex if match.group(1)[:2] in ("0x", "0X") else str
        self.add("constant-plus", index, index, shown(value + 1) + suffix)
        if value == 1:
            self.add("constant-zero", index, index, "0" + suffix)

    def _is_dimension(self, index):
        """Of an array that is declared: a larger one makes no difference."""
        if self.inside[index] is None:
            return any(first < index < close for first, close in self.source.partners.items()
                       if self.source.is_sign(first, "["))
        if not self.source.is_sign(index - 1, "["):
            return False
        for part in self.source.parts:
            if part.kind == "declaration" and part.first < index < part.last:
                return self._is_declared(part, index - 1)
        return False

    def _is_declared(self, part, at):
        """Whether the bracket at at belongs to a name that the declaration declares, not to one in an initialiser."""
        opening = {close: first for first, close in self.source.partners.items()}
        while self.source.is_sign(at - 1, "]"):
            at = opening[at - 1]
        depth = sum((self.source.is_sign(index, "(") or self.source.is_sign(index, "{"))
                    - (self.source.is_sign(index, ")") or self.source.is_sign(index, "}"))
                    for index in range(part.first, at))
        before = self.source.tokens[at - 2]
        return depth == 0 and (before.kind == "word" or before.text in ("*", ","))

    def statements(self):
        for part in self.source.parts:
            first, last = part.first, part.last
            if first in self.checked:
                continue
            if part.kind == "condition":
                self.add("negate", first, last, f"!({self.text_of(first, last)})")
            elif part.kind in ("break", "continue"):
                self.add("delete", first, last, ";")
                self.add("exchange", first, last, "continue;" if part.kind == "break" else "break;")
            elif part.kind == "expression":
                self.add("delete", first, last, ";")
            elif part.kind == "return":
                self._return(first, last)

    def _return(self, first, last):
        if last == first + 1:
            self.add("delete", first, last, ";")
        elif self.text_of(first + 1, last - 1) not in ("0", "NULL", "false") and self._has_value(first):
            self.add("return-zero", first, last, "return 0;")

    def _has_value(self, index):
        return self.source.has_value(self.inside[index])


def mutants_of(file, text):
    """All mutants of a file, in the order in which they stand there."""
    maker = _Maker(file, text)
    maker.signs()
    maker.words()
    maker.statements()
    return sorted(maker.mutants, key=lambda mutant: (mutant.start, mutant.id))


def apply(mutant, text):
    return text[:mutant.start] + mutant.text + text[mutant.end:]


def lines_of(mutant, text):
    """The line that is changed, before and after, without the blanks around."""
    before, after = text.split("\n"), apply(mutant, text).split("\n")
    return before[mutant.line - 1].strip(), after[mutant.line - 1].strip()
