"""Every link leads somewhere, from pages and from the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, HOWTO, PAGES, ROOT, name
from tools.docs.pages import GENERATED

_LINKED = (*PAGES, *sorted(HOWTO.glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")
_FILE = re.compile(
    r"`((?:src|tests|benchmarks|tools|generation|statistics)/[\w/.*-]+\.(?:py|csv|npz|json|yaml|jsonl))`"
)
"""Files of the project, from its root or from ``src/codejoule``."""
_NAMED = re.compile(r"\bdocs/[\w/-]+\.(?:md|png|svg)")


@cache
def _anchors(page: Path) -> set[str]:
    from markdown.extensions.toc import slugify, unique

    text = _text(page)
    used: set[str] = set()
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S), re.M
    ):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        unique(slugify(shown, "-"), used)
    return used


def _text(page: Path) -> str:
    if page.is_relative_to(DOCS) and str(page.relative_to(DOCS)) in GENERATED:
        return GENERATED[str(page.relative_to(DOCS))]()
    return page.read_text(encoding="utf-8")


def _exists(path: Path) -> bool:
    made = path.is_relative_to(DOCS) and str(path.relative_to(DOCS)) in GENERATED
    return made or path.exists()


@pytest.mark.parametrize("page", _LINKED, ids=name)
def test_every_link_leads_to_a_page_and_its_heading(page: Path) -> None:
    wrong = []
    for link in _LINK.finditer(
        re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    ):
        target, _, anchor = link["target"].partition("#")
        if target.startswith(("http:", "https:")):
            continue
        path = (page.parent / target).resolve() if target else page
        if not _exists(path) or (anchor and anchor not in _anchors(path)):
            wrong.append(link["target"])
    assert not wrong


def test_every_page_that_code_names_is_there() -> None:
    wrong = []
    for folder in ("src", "conf", "tests", "tools", "benchmarks"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".yaml", ".md", ".html"}:
                named = _NAMED.findall(file.read_text(encoding="utf-8"))
                wrong += [f"{file}: {path}" for path in named if not _exists(ROOT / path)]
    assert not wrong


def test_what_users_read_names_no_page_by_a_path_that_an_installed_package_lacks() -> None:
    read = [
        (file, line)
        for file in (ROOT / "conf").rglob("*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            # A string by itself is a docstring, which is for readers of the code.
            inside = [] if isinstance(node, ast.Expr) else ast.iter_child_nodes(node)
            read += [
                (file, text.value)
                for text in inside
                if isinstance(text, ast.Constant) and isinstance(text.value, str)
            ]
    named = {str(file.relative_to(ROOT)) for file, text in read if _NAMED.search(text)}
    assert named == set()
    pages = set(
        re.findall(r"^ +- ([^:\n]+): [\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.M)
    )
    told = [
        title for _, text in read for title in re.findall(r"documentation, page ([\w ]+)", text)
    ]
    assert told and not [title for title in told if not any(p.startswith(title) for p in pages)]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = _FILE.findall(page.read_text(encoding="utf-8"))
    rooms = (ROOT, ROOT / "src" / "codejoule")
    assert not [path for path in named if not any(list(room.glob(path)) for room in rooms)]


def test_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
