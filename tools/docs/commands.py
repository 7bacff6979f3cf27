"""The page of the commands: what ``--help`` says, for each of them."""

import argparse
import os
from unittest.mock import patch

from codejoule.cli import build_parser

_HEAD = """# Commands

This page is made from the commands' own `--help`. Guides show them at work:
[five minutes](../start.md), [choose a model](../guides/choose.md),
[a CI gate](../guides/ci-gate.md).

Exit codes are 0 for success and 2 for wrong input, unless a command says otherwise below.
With `HYDRA_FULL_ERROR=1` an error shows its traceback.
"""

_RUN = """## `codejoule run`

```text
usage: codejoule run [-m] [KEY=VALUE ...] [--cfg job] [--info] [--help] [--config-dir DIR] [--quiet]
```

It measures one job, or with `-m` a sweep ([guide](../guides/sweep.md)). The arguments are
[the configuration's](configuration.md), and the flags are Hydra's. The exit code is 0 if every job
has finished, and 1 if one has failed. Ctrl-C is 130; the same command then continues.
"""


def commands_page() -> str:
    """One section for each command, in the order of ``codejoule --help``."""
    with patch.dict(os.environ, COLUMNS="92", NO_COLOR="1"):
        parser, _ = build_parser()
        sections = [_HEAD, _section("codejoule", parser)]
        sections += [
            _RUN if name == "run" else _section(f"codejoule {name}", command)
            for name, command in _commands(parser).items()
        ]
    return "\n".join(sections)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (choices,) = (
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(choices)


def _section(title: str, parser: argparse.ArgumentParser) -> str:
    return f"## `{title}`\n\n```text\n{parser.format_help().rstrip()}\n```\n"
