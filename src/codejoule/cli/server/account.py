"""The account that a server runs under: PostgreSQL refuses to run as root."""

import ctypes
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from codejoule.config import UserError

_USUAL = ("postgres", "nobody")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who runs the server's processes and owns its files."""

    name: str
    """Its name."""
    uid: int
    """Its number."""
    gid: int
    """Its group's."""
    is_other: bool
    """Whether it is another than this process's."""

    @classmethod
    def find(cls, named: str | None) -> "Account":
        """This process's own account; as root the one that is `named`, or PostgreSQL's own. Raises
        `UserError` where there is none."""
        own = os.geteuid()
        if own != 0:
            if named is not None:
                raise UserError(f"--user {named}: only root can choose the account")
            entry = pwd.getpwuid(own)
            return cls(name=entry.pw_name, uid=own, gid=entry.pw_gid, is_other=False)
        for name in (named,) if named else _USUAL:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid != 0:
                return cls(name=name, uid=entry.pw_uid, gid=entry.pw_gid, is_other=True)
        raise UserError(
            f"PostgreSQL does not run as root, and there is no ordinary account "
            f"{named or ' or '.join(_USUAL)}; name one that exists with --user NAME"
        )

    def give(self, folder: Path) -> None:
        """Make a folder that is this account's alone."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self.is_other:
            shutil.chown(folder, self.uid, self.gid)

    def run(self, command: Sequence[object], what: str) -> str:
        """What a command says that this account runs. Raises `UserError` where it fails."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, cwd="/",
            **self._identity(),
        )  # fmt: skip
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise UserError(f"cannot {what} as {self.name}: {said}")
        return done.stdout

    def start(
        self,
        command: Sequence[object],
        *,
        log: IO[bytes],
        env: Mapping[str, str] | None = None,
        last_signal: int,
    ) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own, where a terminal's Ctrl-C does not reach it. It
        gets `last_signal` when this process dies."""
        libc = ctypes.CDLL(None)
        return subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
            cwd="/", start_new_session=True,
            # One call of the kernel: nothing that another thread of ours could hold.
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, last_signal),  # noqa: PLW1509
            **self._identity(),
        )  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}
