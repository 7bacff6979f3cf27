"""The pages of the documentation, and the code that stands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOWTO = DOCS / "howto"
"""Pages with a test of their own, which follows them to the letter."""

PAGES = (ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if p.parent != HOWTO))

_BLOCK = re.compile(
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)'
    r"^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_NOT_RUN = ("Needs ", "Runs until ", "An example ")


@dataclass(frozen=True)
class Block:
    """One block of code; its title is what a reader sees above it."""

    page: Path
    language: str
    title: str
    text: str

    @property
    def runs(self) -> bool:
        """Whether it runs on this machine with what ships with codejoule."""
        return not self.title.startswith(_NOT_RUN)

    @property
    def exit_codes(self) -> set[int]:
        """What its last command may end with: 0, or the digits of a title like "Exit code 0 or 2"."""
        named = {int(d) for d in re.findall(r"\d", self.title)}
        return named if self.title.startswith("Exit code") else {0}

    def commands(self) -> list[list[str]]:
        """The words of each command, without comments and what stands in here-documents."""
        text = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "\n", self.text, flags=re.DOTALL)
        lines = text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page that are written in one of the languages."""
    found = []
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = block["text"].splitlines(keepends=True)
        text = "".join(line.removeprefix(block["indent"]) for line in lines)
        if block["language"] in languages:
            found.append(Block(page, block["language"], block["title"] or "", text))
    return found


def name(page: Path) -> str:
    """How a test calls a page."""
    return str(page.relative_to(ROOT))
