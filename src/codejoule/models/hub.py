"""Weights from the Hugging Face hub, or one message that says why they cannot be had."""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from codejoule.common.hub import TIMEOUT_S, Refusal, download_bar, hub_errors, refusal_of, said
from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError, require_room
from codejoule.domain.text import size
from codejoule.models.folder import has_chat_template, has_tokenizer, weight_files

_FINAL = (Refusal.revision, Refusal.repository, Refusal.name)
"""Answers about which no cached snapshot knows better."""
_TOKENIZER = ("tokenizer_config.json", "chat_template.jinja", "chat_template.json")
"""What tells whether a tokenizer knows chats."""
_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja")
_PATTERNS = (*_BESIDE, "*.safetensors")


def fetch(
    repository: str,
    revision: str,
    *,
    remedy: str,
    check: Callable[[Path], object] = Path,
    weights: bool = True,
) -> tuple[Path, str]:
    """Folder and commit of a repository's snapshot, downloaded unless it is in the cache.

    Asks the hub which commit `revision` is; where the hub cannot be reached within seconds
    or keeps its door shut, a complete snapshot in the cache serves. Otherwise raises
    `UserError` that ends with `remedy`. `check` is given the folder as soon as ``config.json`` is
    there, and may refuse it before the weights are downloaded; without `weights` they never are.
    """
    from huggingface_hub import HfApi, constants

    patterns = _PATTERNS if weights else _BESIDE
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="codejoule")
    cache = Path(constants.HF_HUB_CACHE)
    doing("asking the Hugging Face hub", repository)
    try:
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        if info.gated:
            # The hub describes a gated repository to everyone; this asks whether it gives it.
            api.auth_check(repository)
    except hub_errors() as error:
        final = refusal_of(error) in _FINAL
        if not final and (cached := _cached(repository, revision, cache, weights=weights)):
            return cached
        reason = _reason(error, repository, revision)
        raise UserError(f"{repository}: {reason}; {remedy}") from error
    missing = {
        file.rfilename: file.size or 0
        for file in info.siblings or ()
        if any(Path(file.rfilename).match(pattern) for pattern in patterns)
        and not _is_there(repository, file.rfilename, str(info.sha), cache)
    }
    cached = _cached(repository, str(info.sha), cache, weights=weights)
    if cached and missing.keys().isdisjoint(_TOKENIZER):
        return cached
    full = f"move the cache with HF_HOME, make room, or {remedy}"
    needed = sum(missing.values())
    require_room(cache, needed, what=f"{repository}: needs", remedy=full)
    doing(f"downloading {repository}", size(needed))
    try:
        options: dict[str, Any] = {"endpoint": api.endpoint}
        first = _snapshot(repository, revision, cache, patterns=["config.json"], **options)
        if (first / "config.json").exists():
            check(first)
        # By its name, so that the cache knows later, without the hub, what the name stands for.
        bar = download_bar(repository, needed)
        options |= {"patterns": patterns, "tqdm_class": bar}
        folder = _snapshot(repository, revision, cache, **options)
    except ConfigError:
        raise
    except hub_errors() as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{repository}: the disk of {cache} is full; {full}") from error
        reason = _reason(error, repository, revision)
        raise UserError(f"{repository}: {reason}; {remedy}") from error
    return folder, folder.name


def fetch_config(repository: str, revision: str, *, remedy: str, tokenizer: bool = False) -> Path:
    """Folder with a repository's ``config.json``: from the cache, else from the hub.

    With `tokenizer`, the hub is asked for the files that tell of chats, too, unless the cache has a
    chat template; where the hub does not give them, the cached folder serves without. Raises
    `UserError` that ends with `remedy`.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    cache, endpoint = Path(constants.HF_HUB_CACHE), os.environ.get("HF_ENDPOINT")
    cached = None
    with suppress(LocalEntryNotFoundError):
        folder = _snapshot(
            repository, revision, cache, patterns=["config.json"], local_files_only=True
        )
        cached = folder if (folder / "config.json").exists() else None
    if cached and (has_chat_template(cached) or not tokenizer):
        return cached
    doing("asking the Hugging Face hub", repository)
    patterns = ("config.json", *_TOKENIZER)
    try:
        folder = _snapshot(repository, revision, cache, patterns=patterns, endpoint=endpoint)
    except hub_errors() as error:
        if cached:
            return cached
        reason = _reason(error, repository, revision)
        raise UserError(f"{repository}: {reason}; {remedy}") from error
    if not (folder / "config.json").exists():
        raise UserError(f"{repository}: has no config.json, so it is no checkpoint; {remedy}")
    return folder


def _reason(error: Exception, repository: str, revision: str) -> str:
    """Why the hub did not serve, and what would help."""
    from huggingface_hub import errors

    answered = isinstance(error, errors.HfHubHTTPError)
    return {
        Refusal.licence: "the hub gives these weights only to accounts that have accepted their "
        f"licence; accept it on https://huggingface.co/{repository} and log in (`hf auth login`, "
        "or HF_TOKEN)",
        Refusal.revision: f"the hub has no revision {revision!r} of it; correct model.revision",
        Refusal.repository: "the hub has no such repository, or does not show it to you; correct "
        "model.id, or log in (`hf auth login`, or HF_TOKEN)",
        Refusal.name: f"not a repository's name ({said(error)}); correct model.id",
        Refusal.offline: "not whole in the cache, and HF_HUB_OFFLINE forbids asking the hub; unset "
        "it",
    }.get(
        refusal_of(error),
        f"the hub answered with an error ({said(error)})"
        if answered
        else f"the hub cannot be reached ({said(error)}) and it is not whole in the cache",
    )


def _cached(
    repository: str, revision: str, cache: Path, *, weights: bool
) -> tuple[Path, str] | None:
    """A complete snapshot in the cache and its commit; without `weights` it need have none."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(repository, revision, cache, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    # A snapshot's folder exists from the first file on, and is named after the commit. Loading the
    # model alone leaves weights without a tokenizer.
    complete = (folder / "config.json").exists() and has_tokenizer(folder)
    return (folder, folder.name) if complete and (weight_files(folder) or not weights) else None


def _is_there(repository: str, file: str, commit: str, cache: Path) -> bool:
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(
        repository, file, cache_dir=cache, revision=commit
    )
    return isinstance(found, str)


def _snapshot(
    repository: str,
    revision: str,
    cache: Path,
    *,
    patterns: Sequence[str] = _PATTERNS,
    **options: Any,
) -> Path:
    import huggingface_hub

    folder = huggingface_hub.snapshot_download(
        repository, revision=revision, cache_dir=cache, allow_patterns=list(patterns), **options
    )
    return Path(folder)
