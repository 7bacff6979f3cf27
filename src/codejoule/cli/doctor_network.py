"""What ``codejoule doctor`` asks of the network: the hub and a tracking server."""

import http.client
import os
import shutil
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from codejoule.config import nearest_folder

NETWORK_TIMEOUT_S = 3.0
LARGEST_DOWNLOAD_BYTES = 16 * 10**9
"""Weights of a 7 B model in bf16, the usual first download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    item: str
    """What was looked at."""
    ok: bool
    """Whether it is there."""
    detail: str
    """What was found, and what it means."""
    fix: str | None = None
    """How to get it, where it is missing."""
    required: bool = False
    """Whether ``make demo`` needs it."""


def hub_findings() -> list[Finding]:
    """The hub, its token, and the disk behind its cache."""
    return [_hub(), _hub_token(), _hub_cache()]


def _hub() -> Finding:
    endpoint = _without_password(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    fix = "without it: model=starter, or weights=local path=..., or weights=random"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return Finding(
            item="hub",
            ok=False,
            detail=f"{endpoint} is switched off by HF_HUB_OFFLINE: only cached models and suites",
            fix="unset HF_HUB_OFFLINE",
        )
    problem = _unreachable(endpoint)
    return Finding(
        item="hub",
        ok=problem is None,
        detail=f"{endpoint} answers" if problem is None else f"{endpoint}: {problem}",
        fix=f"check the network and HF_ENDPOINT; {fix}",
    )


def _hub_file(variable: str, usual: str) -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get(variable, home / usual))


def _hub_token() -> Finding:
    file = _hub_file("HF_TOKEN_PATH", "token")
    where = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.getenv(name)), None)
    if where is None and file.is_file():
        where = str(file)
    return Finding(
        item="hub token",
        ok=where is not None,
        detail=f"from {where}" if where else "none: gated models (Llama) cannot be downloaded",
        fix="hf auth login, or set HF_TOKEN",
    )


def _hub_cache() -> Finding:
    cache = _hub_file("HF_HUB_CACHE", "hub")
    free_bytes = shutil.disk_usage(nearest_folder(cache)).free
    need = f"{LARGEST_DOWNLOAD_BYTES / 10**9:.0f} GB"
    return Finding(
        item="hub cache",
        ok=free_bytes >= LARGEST_DOWNLOAD_BYTES,
        detail=f"{free_bytes / 10**9:.0f} GB free for {cache}; a 7 B model takes {need}",
        fix="set HF_HOME to a larger disk",
    )


def tracking_server_findings() -> list[Finding]:
    """The server that MLFLOW_TRACKING_URI names; nothing where it names none."""
    uri = _without_password(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if not uri.startswith(("http://", "https://")):
        return []
    problem = _unreachable(f"{uri}/health")
    detail = f"{uri} answers" if problem is None else f"{uri}: {problem}"
    return [
        Finding(
            item="tracking server",
            ok=problem is None,
            detail=f"{detail} (MLFLOW_TRACKING_URI, for tracking=server)",
            fix="check the address and that the server runs",
        )
    ]


def _unreachable(url: str) -> str | None:
    """Why `url` gives no answer within `NETWORK_TIMEOUT_S`; None if it does."""
    outcome: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S).close()
            outcome.append(None)
        except urllib.error.HTTPError as error:
            # Whoever refuses politely is there; a failing server or gateway is not.
            outcome.append(None if error.code < 500 else f"HTTP {error.code}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(f"no answer ({getattr(error, 'reason', error)})")

    # Resolving a name has no time-out of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_TIMEOUT_S)
    return outcome[0] if outcome else f"no answer within {NETWORK_TIMEOUT_S:g} s"


def _without_password(url: str) -> str:
    """`url` as it may be asked and shown: without user and password."""
    parts = urlsplit(url.rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
