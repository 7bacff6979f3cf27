"""The reference names everything that a run leaves."""

import re
from collections.abc import Iterable

import pytest

from codejoule.domain import TASK_COLUMNS
from codejoule.domain.metrics import PASS_AT
from tests.docs.pages import DOCS, ROOT
from tools.docs.pages import GENERATED

_METRIC = re.compile(r'^\s+"([a-z0-9_]+)":|\["([a-z0-9_]+)"\] = ', re.MULTILINE)
_TAG = re.compile(
    r'"(codejoule\.[a-z_]+)": |= "(codejoule\.[a-z_]+)"|tags\["(codejoule\.[a-z_]+)"\]'
)


def _named(page: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", (DOCS / "reference" / page).read_text(encoding="utf-8")))


def _found(pattern: re.Pattern[str], *files: str) -> Iterable[str]:
    for file in files:
        for path in (ROOT / "src" / "codejoule").glob(file):
            for groups in pattern.findall(path.read_text(encoding="utf-8")):
                yield next(name for name in groups if name)


def test_every_metric_is_explained() -> None:
    logged = set(_found(_METRIC, "domain/metrics.py", "domain/finetuning.py"))
    assert len(logged) > 30
    named = _named("metrics.md")
    assert not [metric for metric in logged if not {metric, f"{metric}_p50_s"} & named]
    assert {f"pass_at_{k}" for k in PASS_AT} <= _named("metrics.md")


def test_every_tag_is_explained() -> None:
    set_by_runs = set(_found(_TAG, "experiment/*.py", "tracking/*.py"))
    assert len(set_by_runs) > 15
    assert not set_by_runs - _named("metrics.md")


def test_every_column_of_the_tasks_is_explained() -> None:
    assert not set(TASK_COLUMNS) - _named("artifacts.md")


@pytest.mark.parametrize("group", [p.stem for p in (ROOT / "conf" / "base").glob("*.yaml")])
def test_the_page_of_the_configuration_has_every_choice_and_key(group: str) -> None:
    page = GENERATED["reference/configuration.md"]()
    section = page.partition(f"\n## `{group}`\n")[2].partition("\n## ")[0]
    for choice in (ROOT / "conf" / group).glob("*.yaml"):
        (row,) = re.findall(rf"^\| `{choice.stem}` \| (.*) \|$", section, re.MULTILINE)
        assert row, choice.stem
    keys = re.findall(
        r"^(?: {2})?([a-z_0-9]+):.+$", (ROOT / "conf" / "base" / f"{group}.yaml").read_text(), re.M
    )
    for key in keys:
        (meaning,) = re.findall(
            rf"^\| `{group}\.(?:\w+\.)?{key}` \| .* \| (.+) \|$", section, re.MULTILINE
        )
        assert meaning, key
