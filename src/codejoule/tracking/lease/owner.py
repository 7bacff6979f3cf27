"""Who works on a run, and how somebody on another host learns that he does no longer."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from codejoule.config import UserError
from codejoule.domain import visible
from codejoule.tracking.process import lives, process_facts


class LostLeaseError(UserError):
    """Somebody else has taken the run over, because this process gave no sign of life for too
    long: it must write nothing more of it."""


_of_this_process: set[str] = set()
"""Tokens of the owners in this process that own something, or want to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that works on a run, or wants to."""

    process: Mapping[str, str] = field(default_factory=process_facts)
    """As `process_facts` has it."""
    since_s: float = field(default_factory=time.time)
    """When it began, by its own clock [s since the epoch]; it is told, and never compared."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    """Unlike that of any other owner."""

    @property
    def lives(self) -> bool | None:
        """Whether its process lives; None where that cannot be known from here. One of this process
        lives until it has ended, while another process may live on when its run has ended."""
        if self.process == process_facts():
            return self.token in _of_this_process
        return lives(self.process)

    def begin(self) -> None:
        """From here on it lives, in this process."""
        _of_this_process.add(self.token)

    def end(self) -> None:
        """It lives no more, whatever is still said of it elsewhere."""
        _of_this_process.discard(self.token)

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """What `to_text` has written. ValueError for anything else."""
        try:
            found = json.loads(text)
            owner = cls(**{name: found[name] for name in ("process", "since_s", "token")})
            owner.process["host"], owner.process["pid"], owner.since_s + 0.0
        except (KeyError, TypeError) as error:
            raise ValueError(f"{text!r} describes no owner") from error
        return owner

    def __str__(self) -> str:
        pid, host = self.process["pid"], self.process["host"]
        # Another user may have written it, so it must not steer a terminal.
        return visible(f"process {pid} on {host} (since {time.ctime(self.since_s)})")


class Watch:
    """Sees by this process' own clock for how long somebody has given no sign of life. The clocks
    of two hosts are never compared: a sign of life is anything that changes."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease_s = lease_s
        self._clock = clock
        self._seen: dict[str, tuple[object, float, float, bool]] = {}

    def look(self, who: str, sign: object) -> None:
        """Note what is seen of him now."""
        now_s = self._clock()
        before = self._seen.get(who)
        if before is None:
            self._seen[who] = (sign, now_s, 0.0, False)
        elif before[0] != sign:
            self._seen[who] = (sign, now_s, 0.0, True)
        else:
            # This process may have been stopped as well, and the other may be awake since: what
            # nobody looked at counts for one look.
            step_s = min(now_s - before[1], self.lease_s / 3)
            self._seen[who] = (sign, now_s, before[2] + step_s, before[3])

    def run_out(self, who: str) -> bool:
        """Whether he has been silent for longer than the lease."""
        return who in self._seen and self._seen[who][2] > self.lease_s

    def heard(self, who: str) -> bool:
        """Whether he has given a sign of life since he was first looked at."""
        return who in self._seen and self._seen[who][3]
