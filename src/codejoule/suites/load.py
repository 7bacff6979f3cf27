"""The tasks of a benchmark, from wherever the configuration says."""

import dataclasses
import difflib
import hashlib
import importlib.resources
import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path

from codejoule.config import ConfigError
from codejoule.config.installation import conf_folders
from codejoule.config.schema import SuiteConfig
from codejoule.config.typed import read_choice
from codejoule.domain import Suite, Task
from codejoule.suites.formats import Format, get_format, recognize, refuse_unread
from codejoule.suites.hub import fetch
from codejoule.suites.rows import Row, read_rows
from codejoule.suites.shown_tests import split_tests

_LOGGER = logging.getLogger(__name__)

_MOST_NAMES = 8


def load_suite(config: SuiteConfig) -> Suite:
    """The tasks that `config` selects, in the suite's order. They come from ``path`` if set, else
    from ``hub_id`` (or its cache), else from the bundled data of that name. Raises `ConfigError`
    for a faulty file or selection, `UserError` where the hub or its file cannot be had."""
    file_format = get_format(config.format)
    path, source = _locate(config)
    return _suite(config, _tasks(read_rows(path), file_format, config.shown_tests), source)


def load_suite_named(name_or_file: str) -> Suite:
    """The whole suite of that name in ``conf/suite``, or a file of tasks. A file may be in any
    known schema, which its columns tell, and whose limits it has. Raises as `load_suite` does."""
    files = {file.stem: file for folder in conf_folders() for file in folder.glob("suite/*.yaml")}
    if file := files.get(name_or_file):
        return load_suite(read_choice(file, SuiteConfig))
    path = Path(name_or_file).expanduser()
    if not path.exists():
        known = sorted(files)
        guess = difflib.get_close_matches(name_or_file, known, n=1)
        raise ConfigError(
            f"suite {name_or_file}: neither a suite nor a file; "
            + (f"did you mean {guess[0]}? " if guess else "")
            + f"choose one of {', '.join(known)}, or name a .jsonl, .jsonl.gz or .parquet file"
        )
    rows = read_rows(path)
    name, file_format = path.name.partition(".")[0], recognize(rows[0])
    config = SuiteConfig(name=name, path=str(path), format=file_format.name)
    return _suite(config, _tasks(rows, file_format, None), str(path))


def _locate(config: SuiteConfig) -> tuple[Path, str]:
    """File to read, and how the source is to be named."""
    if config.path is not None:
        path = Path(config.path).expanduser()
        return path, str(path)
    if config.hub_id is not None:
        if config.hub_file is None:
            raise ConfigError(
                f"suite.hub_file=null: which file of {config.hub_id} holds the tasks? "
                "Name it, e.g. suite.hub_file=data/test-00000-of-00001.parquet"
            )
        path, commit = fetch(config.name, config.hub_id, config.hub_file, config.hub_revision)
        return path, f"hub:{config.hub_id}@{commit}"
    data = importlib.resources.files("codejoule.suites") / "data"
    bundled = Path(str(data)) / f"{config.name}.jsonl"
    if not bundled.is_file():
        names = sorted(file.stem for file in bundled.parent.glob("*.jsonl"))
        raise ConfigError(
            f"suite.name={config.name}: no tasks to load; set suite.path or suite.hub_id, or "
            f"choose a bundled suite ({', '.join(names) or 'none is installed'})"
        )
    return bundled, f"bundled:{config.name}"


def _tasks(rows: Sequence[Row], file_format: Format, shown: int | None) -> list[Task]:
    seen: dict[str, Row] = {}
    tasks = []
    for row in rows:
        row.require(file_format.columns)
        refuse_unread(row, file_format)
        task = _with_shown_tests(file_format.convert(row), row, file_format, shown)
        if not task.entry_point.isidentifier():
            raise row.fault(f"entry_point {task.entry_point!r} is not the name of a function")
        if task.task_id in seen:
            first = seen[task.task_id].where
            raise row.fault(f"task_id {task.task_id} is not unique; it stands at {first}, too")
        seen[task.task_id] = row
        tasks.append(task)
    return tasks


def _with_shown_tests(task: Task, row: Row, file_format: Format, shown: int | None) -> Task:
    """`task` with its first `shown` tests apart; as it is where they cannot be parted."""
    if shown is None or (parted := split_tests(task, shown)) is None:
        return task
    if file_format.prompts is None:
        return parted
    complete_prompt, instruct_prompt = file_format.prompts(row, shown)
    return dataclasses.replace(
        parted, complete_prompt=complete_prompt, instruct_prompt=instruct_prompt
    )


def _suite(config: SuiteConfig, tasks: Sequence[Task], source: str) -> Suite:
    selected = _select(tasks, config)
    if config.shown_tests is not None:
        _tell_unparted(selected, config.shown_tests)
    return Suite(
        name=config.name,
        tasks=tuple(selected),
        checksum=_checksum(selected),
        source=source,
        **dataclasses.asdict(config.limits),
    )


def _tell_unparted(tasks: Sequence[Task], shown: int) -> None:
    """Name the tasks that have no tests to show; `ConfigError` if all of them have none."""
    whole = [task.task_id for task in tasks if not task.shown_test]
    if not whole:
        return
    why = "too few tests, or their source does not come apart"
    if len(whole) == len(tasks):
        raise ConfigError(
            f"suite.shown_tests={shown}: no task has tests to show and others to be judged by "
            f"({why}); show fewer, or leave it null"
        )
    names = ", ".join(whole[:_MOST_NAMES])
    more = f" and {len(whole) - _MOST_NAMES} more" if len(whole) > _MOST_NAMES else ""
    _LOGGER.warning(
        "suite.shown_tests=%d: %d of %d tasks have none to show (%s): %s%s; all of their tests "
        "stay hidden",
        shown, len(whole), len(tasks), why, names, more,
    )  # fmt: skip


def _select(tasks: Sequence[Task], config: SuiteConfig) -> list[Task]:
    """The named tasks, in the suite's order or shuffled; of these the first ``limit``."""
    tasks = _named(tasks, config)
    if config.shuffle is not None:
        random.Random(config.shuffle).shuffle(tasks)
    return tasks[: config.limit]


def _named(tasks: Sequence[Task], config: SuiteConfig) -> list[Task]:
    if config.task_ids is None:
        return list(tasks)
    known = [task.task_id for task in tasks]
    unknown = [name for name in config.task_ids if name not in set(known)]
    if unknown:
        near = dict.fromkeys(match for name in unknown for match in _near(name, known))
        raise ConfigError(
            f"suite.task_ids: {config.name} has no task {', '.join(unknown)}; "
            + (f"did you mean {', '.join(near)}? " if near else "")
            + f"It has {len(known)} tasks, {known[0]} to {known[-1]}"
        )
    wanted = set(config.task_ids)
    return [task for task in tasks if task.task_id in wanted]


def _near(name: str, known: Sequence[str]) -> list[str]:
    by_number = [task_id for task_id in known if task_id.endswith(f"/{name.rpartition('/')[2]}")]
    return by_number[:1] or difflib.get_close_matches(name, known, n=2)


def _checksum(tasks: Sequence[Task]) -> str:
    """SHA-256 over the tasks' contents; domains and tested names are ours, no content of the
    suite."""
    digest = hashlib.sha256()
    for task in tasks:
        content = dataclasses.asdict(task)
        del content["domains"], content["tested_names"]
        for later in ("plus_test", "shown_test"):
            if not content[later]:
                del content[later]
        line = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
