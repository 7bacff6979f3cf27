"""Environments of Python beside the running one: pinned by a lock, found by its hash."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codejoule.config import UserError, environments, write_whole

_MARKER = "codejoule.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedEnvironment:
    """An environment with what a lock says, built or not. What builds it and what looks for it
    agree on its place by the lock alone."""

    lock: Path
    """The file that pins every package."""
    kind: str
    """Name of the folder that such environments lie in, e.g. ``.eval-env``."""

    @property
    def folder(self) -> Path:
        """Where it lies; another lock is another folder."""
        digest = hashlib.sha256(self.lock.read_bytes()).hexdigest()[:12]
        return environments() / self.kind / f"{self.lock.stem}-{digest}"

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def complete(self) -> bool:
        """Whether it was built to its end."""
        return (self.folder / _MARKER).is_file()

    def build(self, base: str, fill: Callable[["Installer"], Mapping[str, Any]]) -> None:
        """Make it from the interpreter `base`, unless it is there: an empty environment, which
        `fill` puts everything into; what that returns is noted in it. Whoever comes second waits
        for the first. One that was killed is begun anew. Raises `UserError` where a command
        fails."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f".{self.folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.folder}: somebody else builds it; waiting ...", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if self.complete:
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            # A command that outlives us holds the lock on.
            installer = Installer(python=self.python, lock=self.lock, held=lock.fileno())
            try:
                installer.run(base, "-m", "venv", str(self.folder))
                noted = fill(installer)
            except subprocess.CalledProcessError as error:
                raise UserError(
                    f"{self.folder} cannot be built: {' '.join(error.cmd[:6])} ... ended with "
                    f"status {error.returncode}; what went wrong stands above"
                ) from error
            marker = {"lock": self.lock.name, **noted}
            write_whole(self.folder / _MARKER, json.dumps(marker, indent=2) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """Puts packages into an environment that is being built."""

    python: str
    """The environment's interpreter."""
    lock: Path
    """The file that pins every package."""
    held: int
    """A file that must stay open as long as anything works on the environment."""

    def run(
        self, *command: str, check: bool = True, **options: Any
    ) -> "subprocess.CompletedProcess[Any]":
        """Run a command that works on the environment; `options` as ``subprocess.run`` has them.
        Raises `CalledProcessError` where it fails, unless `check` is False."""
        return subprocess.run(command, check=check, pass_fds=(self.held,), **options)

    def pip(self, *arguments: str, check: bool = True) -> bool:
        """Whether the environment's pip did what `arguments` say."""
        pip = (self.python, "-m", "pip", "--disable-pip-version-check", "--quiet")
        return self.run(*pip, *arguments, check=check).returncode == 0

    def install_locked(self) -> None:
        """Install what the lock says, and nothing that it does not."""
        self.pip("install", "--no-deps", "--requirement", str(self.lock))
