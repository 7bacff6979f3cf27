"""The lease on one run, taken before anything of it is done."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from codejoule.common.progress import doing
from codejoule.config import UserError
from codejoule.tracking.lease.claims import Claim, Claims
from codejoule.tracking.lease.files import HeldFile, LeaseFiles, Seen
from codejoule.tracking.lease.owner import LostLeaseError, Owner, Watch
from codejoule.tracking.lease.server import AwayError, LeaseServer

_log = logging.getLogger(__name__)


class Lease:
    """One owner for the run whose journal lies in `folder`, among all processes that share the
    folder, and among all that share the tracking server once `claim` has been called. A thread
    gives signs of life. Whoever gives none for `lease_s` loses it to the next who wants it; a
    process that has certainly ended, on this host, at once."""

    def __init__(self, folder: Path, *, lease_s: float, wait: bool) -> None:
        """Where another owner lives, `wait` for his end, or raise `UserError`."""
        self.owner = Owner()
        self.lease_s = lease_s
        self._wait = wait
        self._folder = folder
        self._files = LeaseFiles(folder)
        self._watch = Watch(lease_s)
        self._file: HeldFile | None = None
        self._claims: Claims | None = None
        self._renewing = threading.Lock()
        self._renewed_s = time.monotonic()
        self._lost: str | None = None
        self._told_away = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True, name="lease")
        self.silent: Owner | None = None
        """From whom the run's folder was taken, where it is not known whether he has ended."""
        self.deposed: list[Claim] = []
        """Claims on the tracking server that were taken over."""

    @property
    def path(self) -> Path:
        """File by which a process that works for this one sees that the lease is held."""
        assert self._file is not None
        return self._file.path

    def __enter__(self) -> Self:
        self.owner.begin()
        try:
            self._file = self._take()
            self._renewed_s = time.monotonic()
            self._thread.start()
        except BaseException:
            self.owner.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.owner.end()
        self._thread.join(timeout=1)  # a server that is gone may hold it longer
        assert self._file is not None
        if self._lost is None:
            self._file.end()
            if not self._folder.exists():  # the run has finished, and nothing is left to own
                self._files.tidy(self._file.number + 1)

    @property
    def lost(self) -> bool:
        """Whether it is another's."""
        try:
            self.check()
        except LostLeaseError:
            return True
        return False

    def check(self) -> None:
        """Return where the lease is held for certain: to be called before anything is written.
        Raises `LostLeaseError` where it is not."""
        if time.monotonic() - self._renewed_s > self.lease_s / 2:
            self._renew()  # the thread was stopped, like all of this process
        if self._lost is not None:
            raise LostLeaseError(self._lost)
        assert self._file is not None
        self._file.check()

    def on_server(self, uri: str, experiment_id: str, fingerprint: str) -> None:
        """From here on the tracking server's runs with this fingerprint are claims, too."""
        self._claims = Claims(LeaseServer(uri, experiment_id), fingerprint, self.owner)

    @property
    def tags(self) -> Mapping[str, str]:
        """What the run must have from its beginning."""
        return {} if self._claims is None else self._claims.tags()

    def wait_for_claims(self) -> bool:
        """Wait until the server has no claim of another on the run; whether there was one. Raises
        `UserError` where one is not waited for."""
        return self._claims is not None and self._settle(self._claims.others)

    def claim(self, run_id: str) -> bool:
        """Claim by this run, made with `tags`. False where another was faster: the run must then be
        withdrawn, and all be looked at again."""
        claims = self._claims
        if claims is None:
            return True

        def larger() -> list[Claim]:
            return [each for each in claims.others() if each.run_id > run_id]

        try:
            claims.make(run_id)
            if any(each.run_id < run_id for each in claims.others()):
                claims.mine = None
                return False
            self._settle(larger)
            claims.hold()
        except AwayError as error:
            # Signs of life go on all the same: others may be able to ask, now or later.
            self._tell_away(error)
        except BaseException:
            claims.mine = None
            raise
        return True

    def _take(self) -> HeldFile:
        told = False
        while True:
            last = self._files.last()
            if last is None or self._is_free(last):
                held = self._files.take(self.owner, last)
                if held is None:
                    continue
                if last is not None and not last.word and last.owner.lives is None:
                    self.silent = last.owner
                    _log.warning(
                        "%s has given no sign of life for %g s: its run is taken over",
                        last.owner, self.lease_s,
                    )  # fmt: skip
                return held
            alive = last.owner.lives or self._watch.heard(last.owner.token)
            told = self._pause(str(last.owner), alive=alive, told=told)

    def _is_free(self, last: Seen) -> bool:
        if last.word:
            return True
        if last.owner.lives is not None:
            return not last.owner.lives
        self._watch.look(last.owner.token, last.sign)
        return self._watch.run_out(last.owner.token)

    def _settle(self, claims: Callable[[], list[Claim]]) -> bool:
        """Wait until there are none, and take over those whose owners are silent."""
        told = False
        try:
            while found := claims():
                for claim in found:
                    self._watch.look(claim.run_id, claim.sign)
                ended = [claim for claim in found if self._has_ended(claim)]
                for claim in ended:
                    assert self._claims is not None
                    self._claims.depose(claim)
                    self.deposed.append(claim)
                if not ended:
                    first = found[0]
                    alive = first.held and (first.lives or self._watch.heard(first.run_id))
                    told = self._pause(str(first), alive=alive, told=told)
        except AwayError as error:
            self._tell_away(error)
        return told

    def _has_ended(self, claim: Claim) -> bool:
        if claim.lives is None:
            return self._watch.run_out(claim.run_id)
        return not claim.lives

    def _pause(self, who: str, *, alive: bool | None, told: bool) -> bool:
        """Wait a little for an owner, or raise where he is known to live and not waited for."""
        if alive and not self._wait:
            raise UserError(
                f"{who} is working on this run; wait until it has ended, or end it there and "
                "start again (an owner that dies without a word loses the run after "
                f"tracking.lease_s={self.lease_s:g})"
            )
        if self._wait and not told:
            _log.warning("%s is working on this run: this job waits for its end", who)
        doing(f"waiting for {who}" if self._wait else f"looking whether {who} lives")
        time.sleep(_pause_s(self.lease_s))
        return True

    def _tell_away(self, error: Exception) -> None:
        if self._told_away:
            return
        self._told_away = True
        _log.warning(
            "the tracking server cannot be asked whether another host works on this run (%s): "
            "only processes that share this tracking folder are seen", error,
        )  # fmt: skip

    def _live(self) -> None:
        while not self._ended.wait(self.lease_s / 3):
            self._renew()

    def _renew(self) -> None:
        with self._renewing:
            if self._lost is not None:
                return
            assert self._file is not None
            try:
                if (claims := self._claims) is not None:
                    try:
                        claims.renew()
                    except LostLeaseError as error:
                        self._file.lose(str(error))
                    except AwayError as error:
                        # Nobody else can ask it either, or will see this sign of life late.
                        _log.debug("no sign of life on the server: %s", error)
                self._file.renew()
                self._renewed_s = time.monotonic()
            except LostLeaseError as error:
                self._lost = str(error)


def is_owned(folder: Path, *, lease_s: float) -> bool:
    """Whether somebody works on the run whose journal lies in `folder`. An owner on another host is
    looked at until he gives a sign of life, or has given none for `lease_s`."""
    files, watch = LeaseFiles(folder), Watch(lease_s)
    while (last := files.last()) is not None and not last.word:
        if last.owner.lives is not None:
            return last.owner.lives
        watch.look(last.owner.token, last.sign)
        if watch.heard(last.owner.token) or watch.run_out(last.owner.token):
            return watch.heard(last.owner.token)
        doing(f"looking whether {last.owner} lives")
        time.sleep(_pause_s(lease_s))
    return False


def _pause_s(lease_s: float) -> float:
    return min(0.5, lease_s / 20)
