"""The machine and the software of a run, as ``environment.json`` and tags record them."""

import platform
import socket
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

from codejoule.config import installed_versions, project_root

if TYPE_CHECKING:
    from codejoule.measurement import Hardware


def environment(hardware: "Hardware") -> dict[str, Any]:
    """Hardware, operating system, Python and every installed distribution with its version."""
    # A distribution's metadata is parsed anew with each access.
    metadata = [distribution.metadata for distribution in distributions()]
    packages = {facts["Name"]: facts["Version"] for facts in metadata}
    packages |= installed_versions(["torch"])  # with its build, which the metadata may leave out
    return {
        "hardware": asdict(hardware),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": sys.version,
        "git_commit": git_commit(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
    }


def git_commit() -> str | None:
    """Commit of this checkout, ``-dirty`` behind it where files differ; None outside of git."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or None
