"""C as far as mutants need it: tokens, functions and statements of a file that clang-format has formatted."""

import collections
import re

# start and end are offsets into the text, line and column count from 1.
Token = collections.namedtuple("Token", "kind text start end line column")

# kind: "condition", "return", "break", "continue", "expression" or "declaration"; first and last are indices of tokens,
# both of them inside.
Part = collections.namedtuple("Part", "kind first last")

# Tokens of a function's body, from its opening to its closing brace.
Body = collections.namedtuple("Body", "name first last")

PATTERN = re.compile(r"""
    (?P<skip>     \s+ | //[^\n]* | /\*.*?\*/ | (?:(?<=\n)|\A)[ \t]*\#(?:\\\n|[^\n])* )
  | (?P<string>   "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<number>   \.?[0-9](?:[eEpP][+-]|[.\w])* )
  | (?P<word>     [A-Za-z_]\w* )
  | (?P<sign>     \.\.\. | <<= | >>= | -> | \+\+ | -- | && | \|\| | [-+*/%&|^<>=!]= | << | >> | . )
""", re.VERBOSE | re.DOTALL)

TYPES = set("""auto char const double enum extern float int long register short signed static struct union unsigned void
    volatile bool size_t ssize_t off_t mode_t _Atomic _Alignas _Static_assert static_assert""".split())
OPENING, CLOSING = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}


def tokens_of(text):
    tokens, line, line_start = [], 1, 0
    for match in PATTERN.finditer(text):
        kind, start = match.lastgroup, match.start()
        if kind != "skip":
            tokens.append(Token(kind, match.group(), start, match.end(), line, start - line_start + 1))
        newlines = match.group().count("\n")
        if newlines:
            line += newlines
            line_start = start + match.group().rindex("\n") + 1
    return tokens


def partners_of(tokens):
    """The index of the closing bracket by that of the opening one."""
    partners, stack = {}, []
    for index, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        if token.text in OPENING:
            stack.append(index)
        elif token.text in CLOSING:
            partners[stack.pop()] = index
    return partners


class Source:
    """A file: its text, tokens, function bodies, and the parts of their statements."""

    def __init__(self, text):
        self.text = text
        self.tokens = tokens_of(text)
        self.partners = partners_of(self.tokens)
        self.bodies, self.parts = [], []
        self._find_bodies()
        for body in self.bodies:
            at = body.first + 1
            while at < body.last:
                at = self._statement(at)

    def is_sign(self, index, text):
        return self.tokens[index].kind == "sign" and self.tokens[index].text == text

    def is_binary(self, index):
        """An operator with a blank on both sides: that is how clang-format sets the binary ones, and no others."""
        token = self.tokens[index]
        return self.text[token.start - 1].isspace() and self.text[token.end:token.end + 1].isspace()

    def _find_bodies(self):
        at, name = 0, ""
        while at < len(self.tokens):
            if self.is_sign(at, "("):
                name = self.tokens[at - 1].text
                at = self.partners[at] + 1
                if at < len(self.tokens) and self.is_sign(at, "{"):
                    self.bodies.append(Body(name, at, self.partners[at]))
                    at = self.partners[at] + 1
            elif self.tokens[at].text in OPENING and self.tokens[at].kind == "sign":
                at = self.partners[at] + 1
            else:
                at += 1

    def _end_of(self, at):
        """The index of the semicolon that ends what begins at at."""
        while not self.is_sign(at, ";"):
            at = self.partners.get(at, at) + 1
        return at

    def _condition(self, first, last):
        if first <= last:
            self.parts.append(Part("condition", first, last))

    def _for(self, at):
        """at: the opening parenthesis; its second part is a condition."""
        begin = self._end_of(at + 1)
        end = self._end_of(begin + 1)
        self._condition(begin + 1, end - 1)
        return self._statement(self.partners[at] + 1)

    def _branch(self, at, text):
        close = self.partners[at + 1]
        if text != "switch":
            self._condition(at + 2, close - 1)
        after = self._statement(close + 1)
        if text == "if" and after < len(self.tokens) and self.tokens[after].text == "else":
            after = self._statement(after + 1)
        return after

    def _label(self, at):
        while not self.is_sign(at, ":"):
            at = self.partners.get(at, at) + 1
        return at + 1

    def _statement(self, at):
        """Takes the statement that begins at at apart; the index behind it."""
        text = self.tokens[at].text
        if text == "{":
            close, at = self.partners[at], at + 1
            while at < close:
                at = self._statement(at)
            return close + 1
        if text in ("if", "while", "switch"):
            return self._branch(at, text)
        if text == "for":
            return self._for(at + 1)
        if text == "do":
            after = self._statement(at + 1)
            self._condition(after + 2, self.partners[after + 1] - 1)
            return self.partners[after + 1] + 2
        if text in ("case", "default") or (self.tokens[at].kind == "word" and self.is_sign(at + 1, ":")):
            return self._label(at)
        end = self._end_of(at)
        self._simple(at, end)
        return end + 1

    def _simple(self, at, end):
        first = self.tokens[at]
        if at == end or first.text == "goto":
            return
        if first.text in ("return", "break", "continue"):
            self.parts.append(Part(first.text, at, end))
        elif self._declares(at):
            self.parts.append(Part("declaration", at, end))
        else:
            self.parts.append(Part("expression", at, end))

    def _declares(self, at):
        first, second = self.tokens[at], self.tokens[at + 1]
        if first.kind != "word":
            return False
        return first.text in TYPES or second.kind == "word" or (second.text == "*" and not self.is_binary(at + 1))

    def lines_of(self, body):
        """The first line of the function's head, and its last line."""
        return self._head(body), self.tokens[body.last].line

    def has_value(self, body):
        """Whether the function returns one: its head doesn't begin with void, or says void with a star."""
        at = body.first - 1
        while at > 0 and self.tokens[at - 1].text not in (";", "}") and self.tokens[at - 1].line >= self._head(body):
            at -= 1
        words = [token.text for token in self.tokens[at:body.first]][:4]
        return "void" not in words or words[words.index("void") + 1] == "*"

    def _head(self, body):
        """The line where the function's head begins."""
        at = body.first - 1
        opening = next(index for index, close in self.partners.items() if close == at)
        return self.tokens[opening - 1].line
