"""Who may judge beside the workers."""

import threading
import time

from codejoule.sandbox.stand_in import StandIns


class Busy:
    """A worker on one sample, which takes a share of a core."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.sample = 1
        self._start_s = time.monotonic()

    def progress(self) -> tuple[int, float] | None:
        return self.sample, self.share * (time.monotonic() - self._start_s)


def test_as_many_stand_ins_begin_as_workers_sleep() -> None:
    over = threading.Event()
    stand_ins = StandIns([Busy(1.0), Busy(0.0), Busy(0.02)])
    begun: list[bool] = []
    threads = [threading.Thread(target=stand_ins.watch, args=(over,))]
    threads += [threading.Thread(target=lambda: begun.append(stand_ins.begin())) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(3.5)
    assert begun == [True, True]
    stand_ins.end()
    time.sleep(1.5)
    assert begun == [True, True, True]
    over.set()
    for thread in threads:
        thread.join()
    assert begun == [True, True, True, False]


def test_a_worker_that_begins_another_sample_is_not_asleep() -> None:
    over = threading.Event()
    worker = Busy(0.0)
    stand_ins = StandIns([worker])
    begun: list[bool] = []
    threads = [threading.Thread(target=stand_ins.watch, args=(over,))]
    threads += [threading.Thread(target=lambda: begun.append(stand_ins.begin()))]
    for thread in threads:
        thread.start()
    for _ in range(7):
        worker.sample += 1
        time.sleep(0.4)
    over.set()
    for thread in threads:
        thread.join()
    assert begun == [False]
