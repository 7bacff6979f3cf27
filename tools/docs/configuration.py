"""The page of the configuration: every key, from the comments of ``conf/`` and the schemas."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from codejoule.config.installation import conf_folder
from codejoule.config.schema import ExperimentConfig

_HEAD = """# Configuration

This page is made from the comments of `conf/base/*.yaml` and the ranges of the schemas.
Write `group=choice` to choose a file of a group, and `group.key=value` to set one key:

```text
codejoule run model=qwen_7b quant=gptq4 batch=b8 suite.limit=20
```

`codejoule run --cfg job` prints every key with the value that it will have. A misspelt key or an
impossible value is an error before anything is loaded.
"""

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[a-z_0-9]+):(?P<value>.*)$")
_GROUP_COMMENT = re.compile(r"- (?P<group>\w+): (?P<choice>\S+)\s+# (?P<what>.*?)\s*\(conf/\w+\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """One key as a YAML file has it."""

    name: str
    """With dots between levels."""
    value: str
    """As it is written; empty where keys of its own follow."""
    comment: str
    """The comment above it, as one line."""


def configuration_page() -> str:
    """The groups one by one, then the keys that are in none."""
    conf = conf_folder()
    main = (conf / "config.yaml").read_text(encoding="utf-8")
    groups = {found["group"]: found for found in _GROUP_COMMENT.finditer(main)}
    schemas = get_type_hints(ExperimentConfig)
    sections = [_HEAD]
    for group, found in groups.items():
        what = f"{found['what'][0].upper()}{found['what'][1:]}".replace("`", "")
        sections += [f"## `{group}`\n\n{what}. The default is `{group}={found['choice']}`.\n"]
        sections += [_choices(conf / group), ""]
        base = (conf / "base" / f"{group}.yaml").read_text(encoding="utf-8")
        sections += [_table(_keys(base), schemas[group], prefix=f"{group}.")]
    own = [key for key in _keys(main) if not key.name.startswith(("defaults", "hydra"))]
    sections += ["## Keys of no group\n", _table(own, ExperimentConfig, prefix="")]
    presets = conf / "experiment"
    sections += ["## `+experiment`\n\nA preset is a whole sweep of its own.\n", _choices(presets)]
    return "\n".join(sections) + "\n"


def _choices(folder: Path) -> str:
    lines = ["| choice | what it is |", "|---|---|"]
    for path in sorted(folder.glob("*.yaml"), key=_by_number):
        lines.append(f"| `{path.stem}` | {_cell(_first_comment(path))} |")
    return "\n".join(lines)


def _by_number(path: Path) -> list[tuple[str, int]]:
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", path.stem)]


def _first_comment(path: Path) -> str:
    """The first comment of a choice; where it has none, what it sets."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if line.startswith("#") and not line.startswith("# @"):
            comment.append(line.removeprefix("#").strip())
        elif comment:
            return " ".join(comment)
    return ", ".join(f"`{line}`" for line in lines if re.match(r"[a-z_]+: *\S", line))


def _keys(text: str) -> list[_Key]:
    """The keys of a YAML file with the comments above them, in their order."""
    found: list[_Key] = []
    comment: list[str] = []
    parents: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        if key := _KEY.match(line):
            parents = [*parents[: len(key["indent"]) // 2], key["key"]]
            value = key["value"].partition(" #")[0].strip()
            found.append(_Key(name=".".join(parents), value=value, comment=" ".join(comment)))
        comment = []
    return [key for key in found if key.name != "defaults"]


def _table(keys: list[_Key], schema: Any, *, prefix: str) -> str:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key in keys:
        if not key.value:  # its keys follow
            continue
        meaning = " ".join([key.comment, *_facts(schema, key.name.split("."), key.comment)]).strip()
        value = "" if key.value == "???" else f"`{key.value}`"
        lines.append(f"| `{prefix}{key.name}` | {value} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def _facts(schema: Any, path: list[str], comment: str) -> Iterator[str]:
    """The range of a field, and its choices where the comment does not name them all."""
    hints = get_type_hints(schema)
    kind = hints[path[0]]
    if len(path) > 1:
        if is_dataclass(kind):
            yield from _facts(kind, path[1:], comment)
        return
    for part in get_args(kind) or (kind,):
        if isinstance(part, type) and issubclass(part, Enum):
            named = [_written(each) for each in part]
            if not all(re.search(rf"\b{re.escape(name)}\b", comment) for name in named):
                yield f"Choices: {', '.join(f'`{name}`' for name in named)}."
    (field,) = (each for each in fields(schema) if each.name == path[0])
    if need := field.metadata.get("need"):
        yield f"It {need}." if need.startswith("must") else f"Limit: {need}."


def _written(choice: Enum) -> str:
    return choice.value if isinstance(choice.value, str) else choice.name


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
