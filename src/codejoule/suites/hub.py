"""A suite's file from the Hugging Face hub, or from its cache."""

import re
from pathlib import Path

from codejoule.common.hub import TIMEOUT_S, Refusal, hub_errors, refusal_of, said
from codejoule.config import ConfigError, UserError

_REASONS = {
    Refusal.licence: "it is gated: accept its terms on the hub and log in with `hf auth login`",
    Refusal.repository: "the hub has no such dataset, or it is private",
    Refusal.revision: "the dataset has no such revision",
    Refusal.file: "the dataset has no such file",
}


def fetch(
    suite: str, hub_id: str, file: str, revision: str, *, endpoint: str | None = None
) -> tuple[Path, str]:
    """Path of `file` in the dataset `hub_id`, and the commit it is from.

    A pinned commit that the cache holds is used without a word to the hub. Raises `UserError`
    where the hub cannot be reached, the dataset is gated, or it lacks the repository, the
    revision or the file; `ConfigError` for an id that no repository can have.
    """
    cached = _download(hub_id, file, revision, endpoint, local_files_only=True)
    if isinstance(cached, Path) and re.fullmatch(r"[0-9a-f]{40}", revision):
        return cached, revision
    # huggingface_hub 2.4 tries six times over 23 s before it believes that there is no
    # network; one question of our own settles it at once.
    reason = _unreachable(endpoint)
    found = cached if reason else _download(hub_id, file, revision, endpoint)
    if isinstance(found, Path):
        # The cache keeps it below snapshots/COMMIT/.
        return found, found.parts[found.parts.index("snapshots") + 1]
    raise UserError(
        f"suite={suite}: cannot get {file} of the dataset {hub_id} at revision {revision}: "
        f"{reason or found}, and the cache does not hold it. Download that file on a machine "
        f"with access (https://huggingface.co/datasets/{hub_id}) and name it: "
        "suite.path=FILE (codejoule evaluate: --suite FILE); suite=starter needs no download"
    )


def _download(
    hub_id: str, file: str, revision: str, endpoint: str | None, *, local_files_only: bool = False
) -> Path | str:
    """The file, or what stands in the way of it."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(
            hub_id,
            file,
            repo_type="dataset",
            revision=revision,
            endpoint=endpoint,
            local_files_only=local_files_only,
        )
    except hub_errors() as error:
        refusal = refusal_of(error)
        if refusal is Refusal.name:
            raise ConfigError(
                f"suite.hub_id={hub_id}: {error}; give OWNER/NAME, or null"
            ) from error
        return _REASONS.get(refusal, f"the download failed ({said(error)})")
    return Path(path)


def _unreachable(endpoint: str | None) -> str | None:
    """Why the hub cannot be asked; None where it answers, whatever it says."""
    from huggingface_hub import constants, get_session

    url = endpoint or constants.ENDPOINT
    try:
        get_session().head(url, timeout=TIMEOUT_S)
    except Exception as error:  # the HTTP library's own errors; it differs between versions
        if constants.HF_HUB_OFFLINE:
            return "the hub is switched off (HF_HUB_OFFLINE)"
        return f"the hub ({url}) cannot be reached ({error})"
    return None
