"""The errors of the Hugging Face hub, in words for users."""

import io
from enum import Enum
from typing import Any

from tqdm import tqdm

from codejoule.common.progress import doing
from codejoule.config import first_line
from codejoule.domain.text import size

TIMEOUT_S = 5.0
"""Time to wait for the hub's first answer."""


class Refusal(Enum):
    """Why something cannot be had."""

    licence = "only accounts that have accepted its licence get it"
    repository = "no such repository, or none that is shown to this account"
    revision = "no such revision"
    file = "no such file"
    name = "a name that no repository can have"
    offline = "HF_HUB_OFFLINE forbids asking"
    unreachable = "no answer, or one that is an error of the hub's own"


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises when the hub, the network or the disk fails it."""
    from huggingface_hub import errors

    # The base is the HTTP library's own error, which is another one in each major version.
    return (OSError, errors.HFValidationError, *errors.HfHubHTTPError.__bases__)


def refusal_of(error: Exception) -> Refusal:
    """What one of `hub_errors` means."""
    from huggingface_hub import errors

    # Each kind stands before those that it is one of.
    kinds = {
        errors.GatedRepoError: Refusal.licence,
        errors.RevisionNotFoundError: Refusal.revision,
        errors.RepositoryNotFoundError: Refusal.repository,
        errors.HFValidationError: Refusal.name,
        errors.LocalEntryNotFoundError: Refusal.unreachable,
        errors.EntryNotFoundError: Refusal.file,
        errors.OfflineModeIsEnabled: Refusal.offline,
    }
    return next((no for kind, no in kinds.items() if isinstance(error, kind)), Refusal.unreachable)


def download_bar(what: str, total_bytes: int) -> type:
    """A class for the client's ``tqdm_class``, which tells of a download's progress in bytes."""
    most_bytes: float = 0

    class Told(tqdm):  # type: ignore[type-arg]
        # A thread that looks after bars.
        monitor_interval = 0

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **(options | {"file": io.StringIO(), "disable": False}))

        def display(self, *_: object, **__: object) -> None:
            # Of what is received and of what is written there is a bar each.
            nonlocal most_bytes
            if self.unit == "B" and self.n > most_bytes:
                most_bytes = self.n
                doing(f"downloading {what}", f"{size(most_bytes)} of {size(total_bytes)}")

    return Told


def said(error: BaseException) -> str:
    """An error's words as part of a sentence."""
    return first_line(error).rstrip(".")
