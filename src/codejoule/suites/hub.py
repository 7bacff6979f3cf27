"""Fetches a suite's file from the Hugging Face hub, or from its cache."""

import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from codejoule.common.hub import TIMEOUT_S, Refusal, hub_errors, refusal_of, said
from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError


def fetch(
    suite: str, hub_id: str, file: str, revision: str, *, endpoint: str | None = None
) -> tuple[Path, str]:
    """Path of `file` in the dataset `hub_id`, and the commit it is from. A pinned commit that the
    cache holds is used without a word to the hub, and what the cache holds serves where the hub
    cannot be reached or refuses. Else raises `UserError`; `ConfigError` for an id that no
    repository can have."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    place = {"repo_type": "dataset", "revision": revision, "endpoint": endpoint}
    download = partial(hf_hub_download, hub_id, file, **place)
    cached = None
    try:
        with suppress(LocalEntryNotFoundError):
            cached = download(local_files_only=True)
        if cached is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
            # One question settles whether there is a network: a download of huggingface_hub 2.4
            # tries six times over 23 s before it believes that there is none.
            get_hf_file_metadata(hf_hub_url(hub_id, file, **place), timeout=TIMEOUT_S)
            doing(f"downloading {file} of {hub_id}")
            cached = download()
    except hub_errors() as error:
        if refusal_of(error) is Refusal.name:
            raise ConfigError(
                f"suite.hub_id={hub_id}: {error}; give OWNER/NAME, or null"
            ) from error
        if cached is None:
            raise UserError(
                f"suite={suite}: cannot get {file} of the dataset {hub_id} at revision {revision}: "
                f"{_reason(error, endpoint)}, and the cache does not hold it. Download that file "
                f"on a machine with access (https://huggingface.co/datasets/{hub_id}) and name it: "
                "suite.path=FILE (codejoule evaluate: --suite FILE); suite=starter needs no "
                "download"
            ) from error
    path = Path(cached)
    # The cache keeps it below snapshots/COMMIT/.
    return path, path.parts[path.parts.index("snapshots") + 1]


def _reason(error: Exception, endpoint: str | None) -> str:
    from huggingface_hub import constants

    return {
        Refusal.licence: "it is gated: accept its terms on the hub and log in with `hf auth login`",
        Refusal.repository: "the hub has no such dataset, or it is private",
        Refusal.revision: "the dataset has no such revision",
        Refusal.file: "the dataset has no such file",
        Refusal.offline: "the hub is switched off (HF_HUB_OFFLINE)",
    }.get(
        refusal_of(error),
        f"the hub ({endpoint or constants.ENDPOINT}) cannot be reached ({said(error)})",
    )
