"""Finds where the program in a growing answer is complete."""

import ast
import keyword
import re

from codejoule.config.schema import Split, Variant
from codejoule.domain import Task, preamble, source_lines
from codejoule.suites.grammar import bound_names, parse, unbound_names
from codejoule.suites.prompts import raw_solution
from codejoule.suites.sanitize import sanitize

_GOES_ON = re.compile(r"[\s#]|(?:elif|else|except|finally|import|from)\b")
"""Begins a line at the margin that begins no statement (it is blank, a comment or a further
clause) or one that sanitizing always keeps."""
_DEFINITION = re.compile(r"(?:async\s+def|def|class)\s+(\w+)")
_CODE = re.compile(r"#.*|\"\"\"|'''|[\"']|[\[({]|[\])}]")
_STRING = {quote: re.compile(r"\\.|" + quote, re.DOTALL) for quote in ('"', "'", '"' * 3, "'" * 3)}
_FAULTS = (SyntaxError, ValueError, MemoryError, RecursionError)


class Nesting:
    """What the lines so far have left open: brackets, a string, a continued line. It looks at no
    grammar: of text that is not Python it says something, which the parser has to confirm."""

    def __init__(self) -> None:
        self._quote = ""
        self._brackets = 0
        self._continued = False

    @property
    def is_open(self) -> bool:
        """Whether the next line goes on with a statement that has begun."""
        return bool(self._quote) or self._brackets > 0 or self._continued

    def take(self, line: str) -> None:
        """Read the next line, without its line break."""
        place = 0
        commented = False
        while (found := self._next(line, place)) is not None:
            place = found.end()
            self._pass(found.group())
            commented = not self._quote and found.group().startswith("#")
        self._continued = line.endswith("\\") and not commented
        if len(self._quote) == 1 and not self._continued:
            self._quote = ""  # such a string cannot go on; what follows is as it may be

    def _next(self, line: str, place: int) -> re.Match[str] | None:
        return (_STRING[self._quote] if self._quote else _CODE).search(line, place)

    def _pass(self, sign: str) -> None:
        if self._quote:
            self._quote = "" if sign == self._quote else self._quote
        elif sign[0] in "\"'":
            self._quote = sign
        elif sign in "([{":
            self._brackets += 1
        elif sign in ")]}":
            self._brackets = max(0, self._brackets - 1)


class ProgramEnd:
    """Finds the end of the program in an answer while it is generated. The program is complete
    when, up to here, the sanitized program defines the entry point and uses no name that it, the
    task's ``code_prompt`` or Python leaves unbound, and a line begins at the margin that starts
    something else: another definition, a use of the entry point, or what is no Python, such as a
    closing fence. The judged program is then the same as without this rule. In any doubt the answer
    goes on: where the text does not parse, while only a docstring stands in the function, for
    imports, other statements, and definitions of names that the program mentions."""

    def __init__(self, task: Task, *, split: Split, variant: Variant) -> None:
        self._task, self._split, self._variant = task, split, variant
        self._definition = re.compile(
            rf"(?:\A|[\r\n])(?:async\s+def|def|class)\s+{re.escape(task.entry_point)}\b"
        )
        self._given = _given(task)
        self._answer = ""
        self._nesting = Nesting()
        before = source_lines(raw_solution(task, "", split=split, variant=variant))
        self._begun = before.pop() if before and not before[-1].endswith(("\n", "\r")) else ""
        for line in before:
            self._nesting.take(line.rstrip("\r\n"))
        self._line_start = -len(self._begun)
        self._hopeless = False

    def feed(self, piece: str) -> int | None:
        """Take the answer's next `piece`; the number of its characters up to the program's end
        once that is complete, None before."""
        self._answer += piece
        if "\n" not in piece or self._hopeless:
            return None
        end = self._answer.rfind("\n") + 1
        fresh = self._begun + self._answer[max(0, self._line_start) : end]
        self._begun = ""
        for line in source_lines(fresh):
            if self._ends_before(line.rstrip("\r\n")):
                return self._line_start
            self._nesting.take(line.rstrip("\r\n"))
            self._line_start += len(line)
        return None

    def _ends_before(self, line: str) -> bool:
        """Whether the program is complete, and `line`, which follows, does not belong to it."""
        if self._hopeless or self._line_start < 0 or self._nesting.is_open:
            return False
        if not line or _GOES_ON.match(line) or not self._may_start_something_else(line):
            return False
        raw = raw_solution(
            self._task, self._answer[: self._line_start], split=self._split, variant=self._variant
        )
        if not self._definition.search(raw):
            return False
        try:
            parse(raw)
            program = sanitize(raw, self._task.entry_point, self._task.tested_names)
            return self._is_complete(program) and not _keeps(program, line)
        except _FAULTS:
            # A statement begins here, so no further line can change the text before it.
            self._hopeless = True
            return False

    def _is_complete(self, program: str) -> bool:
        defined = _definitions(program).get(self._task.entry_point)
        return (
            defined is not None
            and any(_does_something(statement, defined) for statement in defined.body)
            and unbound_names(program) <= self._given
            and set(self._task.tested_names) <= self._given | bound_names(program)
        )

    def _may_start_something_else(self, line: str) -> bool:
        """Whether `line` begins a definition, uses the entry point or is no Python. Before a use of
        the entry point there may be statements that make its arguments, and sanitizing keeps those
        whose names the program mentions."""
        if line.startswith("@") or _DEFINITION.match(line):
            return True
        return _mentions(line, self._task.entry_point) or not _may_be_python(line)


def _may_be_python(line: str) -> bool:
    """Whether `line` is a statement, or may begin one that further lines complete."""
    word = re.match(r"\w+", line)
    if word is not None and keyword.iskeyword(word[0]):
        return True
    nesting = Nesting()
    nesting.take(line)
    try:
        parse(line)
    except _FAULTS:
        return nesting.is_open
    return True


def _keeps(program: str, line: str) -> bool:
    """Whether sanitizing might keep a definition that begins with `line`. It drops decorated ones,
    keeps those of names that the program mentions in whatever role, and of two definitions the
    first."""
    definition = _DEFINITION.match(line)
    return (
        definition is not None
        and _mentions(program, definition[1])
        and definition[1] not in _definitions(program)
    )


def _given(task: Task) -> frozenset[str]:
    """Names that the judged program has from ``code_prompt``, which is put in front of it."""
    try:
        return bound_names(preamble(task.code_prompt))
    except _FAULTS:
        return frozenset()


def _definitions(program: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    return {
        node.name: node
        for node in parse(program).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def _does_something(
    statement: ast.stmt, owner: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
) -> bool:
    """Whether `statement` is more than a docstring or a placeholder, on a line of its own:
    sanitizing may drop a function that has all on one line."""
    idle = isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
    return not idle and statement.lineno > owner.lineno


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
