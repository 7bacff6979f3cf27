"""Weights from the Hugging Face hub, or one message that says why they cannot be had."""

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config import UserError
from codejoule.models.folder import weight_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TIMEOUT_S = 5.0
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


def fetch(
    repository: str, revision: str, *, hub_cache: Path | None, remedy: str
) -> tuple[Path, str]:
    """Folder and commit of a repository's snapshot, downloaded unless it is in the cache.

    Asks the hub which commit `revision` is; where the hub cannot be reached within seconds
    or keeps its door shut, a complete snapshot in the cache serves. Otherwise raises
    `UserError` that ends with `remedy`.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="codejoule")
    try:
        commit = _resolve(api, repository, revision)
    except _hub_errors() as error:
        reason, may_use_cache = _reason(error, repository, revision)
        cached = _cached(repository, revision, hub_cache) if may_use_cache else None
        if cached is not None:
            return cached
        raise UserError(f"{repository}: {reason}; {remedy}") from error
    cached = _cached(repository, commit, hub_cache)
    if cached is not None:
        return cached
    # By its name, so that the cache knows later, without the hub, what the name stands for.
    folder = _download(api, repository, revision, hub_cache=hub_cache, remedy=remedy)
    return folder, folder.name


def _resolve(api: "HfApi", repository: str, revision: str) -> str:
    info = api.model_info(repository, revision=revision, timeout=_TIMEOUT_S)
    if info.gated:
        # The hub describes a gated repository to everyone; this asks whether it gives it.
        api.auth_check(repository)
    assert info.sha is not None
    return str(info.sha)


def _hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises when the hub, the network or the disk fails it."""
    from huggingface_hub import errors

    # The base is the HTTP library's own error, which is another one in each major version.
    return (OSError, errors.HFValidationError, *errors.HfHubHTTPError.__bases__)


def _reason(error: Exception, repository: str, revision: str) -> tuple[str, bool]:
    """Why the hub did not serve, and whether a cached snapshot may stand in."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            "the hub gives these weights only to accounts that have accepted their licence; "
            f"accept it on https://huggingface.co/{repository} and log in (`hf auth login`, or "
            "HF_TOKEN)"
        ), True
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision!r} of it; correct model.revision", False
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "the hub has no such repository, or does not show it to you; correct model.id, or "
            "log in (`hf auth login`, or HF_TOKEN)"
        ), False
    if isinstance(error, errors.HFValidationError):
        return f"not a repository's name ({_first_line(error)}); correct model.id", False
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "not in the cache, and HF_HUB_OFFLINE forbids asking the hub; unset it", True
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub answered with an error ({_first_line(error)})", True
    return f"the hub cannot be reached ({_first_line(error)}) and it is not in the cache", True


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _cached(repository: str, revision: str, hub_cache: Path | None) -> tuple[Path, str] | None:
    """A complete snapshot in the cache and its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=hub_cache,
                allow_patterns=list(_PATTERNS),
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None
    # A snapshot's folder exists from the first file on, and is named after the commit.
    complete = (folder / "config.json").exists() and weight_files(folder)
    return (folder, folder.name) if complete else None


def _download(
    api: "HfApi", repository: str, revision: str, *, hub_cache: Path | None, remedy: str
) -> Path:
    from huggingface_hub import constants, snapshot_download

    cache = Path(hub_cache or constants.HF_HUB_CACHE)
    full = f"move the cache with HF_HOME, make room, or {remedy}"
    try:
        _check_room(api, repository, revision, cache, full)
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache,
                allow_patterns=list(_PATTERNS),
                endpoint=api.endpoint,
            )
        )
    except _hub_errors() as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{repository}: the disk of {cache} is full; {full}") from error
        reason, _ = _reason(error, repository, revision)
        raise UserError(f"{repository}: {reason}; {remedy}") from error


def _check_room(api: "HfApi", repository: str, revision: str, cache: Path, full: str) -> None:
    info = api.model_info(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
    needed = sum(
        file.size or 0
        for file in info.siblings or ()
        if any(Path(file.rfilename).match(pattern) for pattern in _PATTERNS)
    )
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise UserError(
            f"{repository}: needs {needed / 2**30:.1f} GiB, but {cache} has {free / 2**30:.1f} "
            f"GiB free; {full}"
        )
