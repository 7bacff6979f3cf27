"""``codejoule new model``: a file that makes a model of one's own a choice with a name."""

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from codejoule.config import ConfigError, UserError, write_whole
from codejoule.config.installation import conf_folders
from codejoule.config.own_model import GGUF, fields_of, is_own_model
from codejoule.domain import FAMILIES
from codejoule.models.folder import has_chat_template, read_config
from codejoule.models.gguf import gguf_config, gguf_has_chat_template
from codejoule.models.hub import fetch_config

_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_LATER = "told by the tokenizer when the model is loaded"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``codejoule new``."""
    parser = subparsers.add_parser(
        "new",
        help="write the file of a model of your own into ./conf/model",
        description="Write conf/model/NAME.yaml below the working directory, with what is known of "
        "the model filled in. From then on model=NAME is a choice wherever codejoule is started "
        "from this folder, or with --config-dir conf. A file that is there is never overwritten.",
        epilog="example: codejoule new model my_coder --from /data/checkpoints/coder-7b",
    )
    parser.add_argument("what", choices=["model"], help="what to add")
    parser.add_argument("name", metavar="NAME", help="its name, as it will be recorded")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PLACE",
        required=True,
        help="a checkpoint's folder, a GGUF file, or org/name on the hub (org/name@revision)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file and say where it is."""
    file = Path("conf") / "model" / f"{args.name}.yaml"
    _check(args.name, args.source, file)
    # A name without a slash is a folder here: nothing else can be meant.
    word = args.source if is_own_model(args.source) else f"./{args.source}"
    fields = {**fields_of(word), "name": args.name}
    found, notes = _known(fields)
    write_whole(file, _text(args.source, fields | found))
    print(f"{file} is written; codejoule run model={args.name} runs it from this folder.")
    for note in notes:
        print(note)
    return 0


def _check(name: str, source: str, file: Path) -> None:
    if not _NAME.fullmatch(name) or name.endswith(GGUF):
        raise ConfigError(
            f"{name}: not a name for a choice; use letters, digits, _, - and ., a letter first"
        )
    for folder in conf_folders():
        there = folder / "model" / file.name
        if there.exists():
            raise ConfigError(f"{name}: {there} is there already; choose another name, or edit it")
    if not source:
        raise ConfigError("--from: names no place; give a folder, a GGUF file or org/name")


def _known(fields: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the model's own files say, and what to tell of it."""
    notes, told = list[str](), True
    if fields.get("path"):
        place = Path(fields["path"])
        if place.is_file():
            config, chats = gguf_config(place), gguf_has_chat_template(place)
        else:
            config, chats = read_config(place), has_chat_template(place)
        # Its config.json is read wherever it is needed: a copy could differ from it.
        found: dict[str, Any] = {}
    else:
        remedy = "model.architecture and model.variant are left open"
        try:
            folder = fetch_config(fields["id"], fields["revision"], remedy=remedy, tokenizer=True)
        except UserError as error:
            return {}, [f"note: {error}"]
        config, chats = read_config(folder), has_chat_template(folder)
        found = {"architecture": config}
        told = chats or (folder / "tokenizer_config.json").exists()
    if told:
        found["variant"] = "instruct" if chats else "base"
    else:
        notes.append(
            f"note: {fields['id']}: no tokenizer_config.json in the cache, nor from the hub; "
            "model.variant is left open"
        )
    kind = config.get("model_type")
    if kind not in FAMILIES:
        notes.append(
            f"note: the estimator does not know models of type {kind} (it knows "
            f"{', '.join(sorted(FAMILIES))}); they run all the same, without predictions"
        )
    return found, notes


def _text(source: str, fields: dict[str, Any]) -> str:
    """The file, in the order of conf/base/model.yaml."""
    lines = [
        f"# A model of one's own, from {source}.",
        "# What is not said here is as in codejoule's conf/base/model.yaml (codejoule run --help).",
        "defaults:",
        "  - /base/model@_here_",
        "  - _self_",
        "",
    ]
    comments = {
        "variant": "# base (continues text) or instruct (answers in a chat): "
        + ("by its chat template." if fields["variant"] else f"{_LATER}."),
        "architecture": "# The repository's config.json, for predictions before it is downloaded.",
    }
    order = ("name", "id", "revision", "weights", "path", "variant", "architecture")
    for key in (key for key in order if key in fields):
        lines += [comments[key]] if key in comments else []
        lines.append(yaml.safe_dump({key: fields[key]}, sort_keys=False).rstrip())
    return "\n".join(lines) + "\n"
