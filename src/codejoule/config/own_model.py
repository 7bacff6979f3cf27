"""A model of one's own as one word: ``model=/path/to/folder``, ``model=file.gguf``,
``model=org/name``."""

import os
import re
from pathlib import Path

from codejoule.config.errors import ConfigError

GGUF = ".gguf"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_WHAT_THERE_IS = (
    "give a checkpoint's folder (model=/path/to/folder), a GGUF file (model=file.gguf) or a "
    "repository of the hub (model=org/name)"
)


def is_own_model(word: str) -> bool:
    """Whether `word` names a model by its place, which no preset's name does."""
    return "/" in word or word.startswith("~") or word in (".", "..") or word.endswith(GGUF)


def fields_of(word: str) -> dict[str, object]:
    """The fields of ``model`` that `word` stands for, where `is_own_model`; its variant is told by
    the tokenizer, its architecture by ``config.json``. What lies on this machine goes before a
    repository of that name. Raises `ConfigError` for a place where no model is."""
    path = _absolute(Path(word).expanduser())
    if path.exists():
        check_place(path, f"model={word}")
        return {"name": name_of(path), "weights": "local", "path": str(path), "variant": None}
    if _REPOSITORY.fullmatch(word) and not word.endswith(GGUF):
        repository, _, revision = word.partition("@")
        name = repository.rpartition("/")[2]
        return {
            "name": name, "id": repository, "revision": revision or "main", "variant": None
        }  # fmt: skip
    raise ConfigError(f"model={word}: {_not_there(word, path)}; {_WHAT_THERE_IS}")


def _not_there(word: str, path: Path) -> str:
    url = re.match(r"https?://(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", word)
    if url:
        return f"an address; the repository's name is enough: model={url[1]}"
    there = next(folder for folder in path.parents if folder.is_dir())
    start = "" if word.startswith(("/", "~")) else f" (relative paths start at {Path.cwd()})"
    why = f"no such file or folder{start}: {there} has no {path.relative_to(there).parts[0]}"
    of_hub = re.fullmatch(r"([A-Za-z0-9][\w.-]*/[\w.-]+)/(\S+\.gguf)", word)
    if of_hub:
        why += f"; a file of the hub is downloaded first: hf download {of_hub[1]} {of_hub[2]}"
    return why


def check_place(path: Path, setting: str) -> None:
    """Refuse a folder that is no checkpoint and a file that is no GGUF, in the name of the
    `setting` that gave it; `ConfigError` says what would help."""
    if path.is_file():
        _check_file(path, setting)
        return
    if not path.is_dir():
        raise ConfigError(f"{setting}: no such file or folder; correct the path")
    if (path / "config.json").is_file():
        return
    why = "holds no config.json; a checkpoint's folder holds config.json, *.safetensors and the "
    why += "tokenizer's files"
    files = sorted(file.name for file in path.glob(f"*{GGUF}"))
    inside = sorted(file.parent.name for file in path.glob("*/config.json"))
    if (path / "adapter_config.json").is_file():
        help_ = (
            f"this is an adapter (LoRA) without its model: model=MODEL model.adapter={path}, with "
            "the model that it was trained with"
        )
    elif files:
        help_ = f"give the GGUF file itself: {setting.rstrip('/')}/{files[0]}"
    elif inside:
        help_ = f"these folders in it do: {', '.join(inside[:5])}"
    else:
        help_ = "correct the path, or save the model there with its save_pretrained"
    raise ConfigError(f"{setting}: {why}; {help_}")


def _check_file(path: Path, setting: str) -> None:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"GGUF":
        return
    if path.suffix == GGUF:
        raise ConfigError(
            f"{setting}: does not begin like a GGUF file (but with {magic!r}); download it again "
            "(a file of a few hundred bytes may be a pointer of Git LFS), or give another"
        )
    folder = path.parent
    if (folder / "config.json").is_file():
        raise ConfigError(f"{setting}: a file of a checkpoint; give its folder: model={folder}")
    raise ConfigError(f"{setting}: a file that is no GGUF; {_WHAT_THERE_IS}")


def name_of(path: Path) -> str:
    """What a model at `path` is called: after its folder, or its GGUF file."""
    path = _absolute(path)
    if path.is_file():
        return path.stem
    if path.parent.name == "snapshots":
        # Of the hub's cache, where folders are named after commits: models--OWNER--NAME.
        return path.parents[1].name.rpartition("--")[2]
    return path.name


def _absolute(path: Path) -> Path:
    """Without following links, so that a link gives a model a name."""
    return Path(os.path.normpath(Path.cwd() / path))
