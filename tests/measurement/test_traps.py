"""What would falsify a figure without a word is found: records made by hand, and words checked."""

import logging

import numpy as np
import pytest

from codejoule.config import UserError
from codejoule.measurement.feed import RECORD, Kind, Records
from codejoule.measurement.ledger import Ledger
from codejoule.measurement.processes import foreign_among
from codejoule.measurement.window import require_agreement

TICKS = [(Kind.tick, 0, 0, 0.1 * n - 0.004, 0.1 * n, 1000.0 + 30.0 * n) for n in range(60)]


class Given:
    devices = ("gpu:0",)

    def __init__(self, *extra: tuple[object, ...]) -> None:
        rows = sorted([*TICKS, *extra], key=lambda row: row[4])
        self._records: Records = np.array(rows, dtype=RECORD)

    def read(self) -> Records:
        records, self._records = self._records, self._records[:0]
        return records

    def close(self) -> None:
        pass


def test_even_power_is_read_as_it_is() -> None:
    entry = Ledger(Given()).entry(1.03, 3.03, {})
    assert entry.by_device_j["gpu:0"] == pytest.approx(600.0, rel=1e-6)
    assert entry.ticks == 20
    assert entry.integrated_j is None


def test_a_machine_that_was_suspended_is_an_error_for_the_windows_it_touches() -> None:
    ledger = Ledger(Given((Kind.suspended, 0, 0, 2.0, 2.0, 35.0)))
    with pytest.raises(UserError, match=r"suspended for 35\.0 s: .*keep the machine awake"):
        ledger.entry(1.0, 3.0, {})
    ledger = Ledger(Given((Kind.suspended, 0, 0, 2.0, 2.0, 35.0)))
    assert ledger.entry(4.0, 5.0, {}).by_device_j["gpu:0"] == pytest.approx(300.0)


def test_a_stranger_counts_only_while_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(Kind.foreign, 0, 0, t, t, 4242.0) for t in (1.0, 1.5)]
    with pytest.raises(UserError, match="process 4242, which is not part of this run, uses gpu:0"):
        Ledger(Given(*rows)).entry(0.5, 2.0, {})
    assert Ledger(Given(*rows)).entry(3.0, 4.0, {}).by_device_j["gpu:0"] > 0
    ledger = Ledger(Given(*rows), warn_of_foreign=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert ledger.entry(0.5, 2.0, {}).by_device_j["gpu:0"] > 0
    assert caplog.text.count("process 4242") == 1


def test_ids_of_another_namespace_leave_one_process_as_our_own() -> None:
    assert foreign_among([10], {10, 11}) == []
    assert foreign_among([10, 0], {10, 11}) == [0]
    assert foreign_among([0], {10}) == []
    assert foreign_among([0, 0], {10}) == [0]
    assert foreign_among([1], {10}) == [1]


def test_zeus_disagreeing_with_the_ledger_is_an_error() -> None:
    require_agreement("batch", "gpu:0", 100.0, (99.0, 101.0))
    with pytest.raises(UserError, match=r"Zeus' begin/end window around 'batch' has 90\.00 J on"):
        require_agreement("batch", "gpu:0", 90.0, (99.0, 101.0))


def test_a_window_before_the_first_tick_is_an_error() -> None:
    with pytest.raises(UserError, match=r"opened 1\.\d+ s before the first tick of gpu:0"):
        Ledger(Given()).entry(-1.5, 3.0, {})
