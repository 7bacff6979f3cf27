"""A lease as tags of runs on a tracking server, for hosts that share no folder.

MLflow has no operation that only one of several can win. A run under way is a claim on its
fingerprint, and claims are settled by the one-bit algorithm (Lamport, The mutual exclusion problem,
part II, J. ACM 33(2), 1986), which needs no more than that what was written is read: whoever sees a
claim with a smaller id withdraws its own, and whoever sees only larger ones waits for their end.
Two can then never both go on: the later of the two to make its claim has seen the other's.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from codejoule.tracking.lease.owner import LostLeaseError, Owner
from codejoule.tracking.lease.server import LeaseServer
from codejoule.tracking.served import FINGERPRINT

LEASE = "codejoule.lease"
"""Tag with the owner of a run and his signs of life."""
TAKEN = "codejoule.taken_over"
"""Tag that says who took a run over from an owner who gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run under way, as others see it."""

    run_id: str
    """Its id."""
    owner: Owner | None
    """Whose it is; None where it does not say."""
    sign: str
    """Changes as long as he lives."""
    held: bool
    """Whether he has gone on, and waits for nobody any more."""

    @property
    def lives(self) -> bool | None:
        """Whether its process lives; None where that cannot be known from here."""
        return None if self.owner is None else self.owner.lives

    def __str__(self) -> str:
        who = "a process that leaves no word of itself" if self.owner is None else str(self.owner)
        return f"{who}, run {self.run_id}"


class Claims:
    """The claims on one fingerprint."""

    def __init__(self, server: LeaseServer, fingerprint: str, owner: Owner) -> None:
        self._server = server
        self._fingerprint = fingerprint
        self._owner = owner
        self._signs = 0
        self._held = False
        self.mine: str | None = None
        """The run that this process claims by."""

    def tags(self) -> dict[str, str]:
        """What a run must be made with to be a claim."""
        text = {"signs": self._signs, "held": self._held} | asdict(self._owner)
        return {LEASE: json.dumps(text)}

    def others(self) -> list[Claim]:
        """All but that of this process. Raises `AwayError`."""
        found = self._server.running(FINGERPRINT, self._fingerprint)
        return [_claim(run_id, tags) for run_id, tags in found.items() if run_id != self.mine]

    def make(self, run_id: str) -> None:
        """Claim by this run, which is under way and has `tags`. Raises `AwayError`."""
        self.mine, self._held = run_id, False
        if TAKEN in self._server.tags(run_id):
            self._server.untag(run_id, TAKEN)

    def hold(self) -> None:
        """Say that this process goes on. Raises `AwayError`."""
        self._held = True
        self.renew()

    def renew(self) -> None:
        """Give a sign of life. Raises `LostLeaseError` where the run is another's, and
        `AwayError`."""
        if self.mine is None:
            return
        taken = self._server.tags(self.mine).get(TAKEN)
        if taken is not None:
            raise LostLeaseError(taken)
        self._signs += 1
        self._server.tag(self.mine, self.tags())

    def depose(self, claim: Claim) -> None:
        """Take the claim from one who gave no sign of life. Raises `AwayError`."""
        # The tag first: he looks for it before he gives his next sign.
        self._server.tag(claim.run_id, {TAKEN: f"{self._owner} has taken the run over"})
        self._server.kill(claim.run_id)


def _claim(run_id: str, tags: Mapping[str, str]) -> Claim:
    text = tags.get(LEASE, "")
    try:
        owner, held = Owner.of_text(text), bool(json.loads(text).get("held"))
    except ValueError:
        owner, held = None, True
    return Claim(run_id=run_id, owner=owner, sign=text, held=held)
