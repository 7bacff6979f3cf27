"""The Hugging Face hub: what it says no with, whoever asks."""

from enum import Enum

from codejoule.config import first_line

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


def said(error: BaseException) -> str:
    """An error's words as part of a sentence."""
    return first_line(error).rstrip(".")
