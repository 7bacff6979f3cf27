"""Who may judge beside the workers: as many as have a program that sleeps."""

import threading
import time

from codejoule.sandbox.admission import Admission
from codejoule.sandbox.host_memory import HostMemory


class Busy:
    """A worker on one program, which takes a share of a core."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.program = 1
        self._start_s = time.monotonic()

    def progress(self) -> tuple[int, float] | None:
        return self.program, self.share * (time.monotonic() - self._start_s)

    def taken_bytes(self) -> int:
        return 0

    def evict(self) -> None:
        raise AssertionError("it has taken nothing")


class Roomy(HostMemory):
    def available_bytes(self) -> int:
        return 2**40


def _run(admission: Admission, worker: Busy, ended: threading.Event) -> threading.Thread:
    def work() -> None:
        with admission.place(worker):
            ended.wait()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _stand_in(
    admission: Admission, begun: list[bool], ended: threading.Semaphore
) -> threading.Thread:
    def work() -> None:
        with admission.place(Busy(1.0), spare=True) as granted:
            begun.append(granted)
            if granted:
                ended.acquire()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_as_many_stand_ins_begin_as_workers_sleep() -> None:
    over, ended, one_ended = threading.Event(), threading.Event(), threading.Semaphore(0)
    admission = Admission(Roomy(), most=9)
    begun: list[bool] = []
    threads = [_run(admission, Busy(share), ended) for share in (1.0, 0.0, 0.02)]
    threads += [threading.Thread(target=admission.watch, args=(over,), daemon=True)]
    threads[-1].start()
    threads += [_stand_in(admission, begun, one_ended) for _ in range(4)]
    time.sleep(3.5)
    assert begun == [True, True]
    one_ended.release()
    time.sleep(1.5)
    assert begun == [True, True, True]
    over.set()
    threads[3].join()
    one_ended.release(2)
    ended.set()
    for thread in threads:
        thread.join()
    assert begun == [True, True, True, False]


def test_a_worker_that_begins_another_program_is_not_asleep() -> None:
    over, ended = threading.Event(), threading.Event()
    worker = Busy(0.0)
    admission = Admission(Roomy(), most=9)
    begun: list[bool] = []
    threads = [
        _run(admission, worker, ended),
        threading.Thread(target=admission.watch, args=(over,), daemon=True),
        _stand_in(admission, begun, threading.Semaphore(0)),
    ]
    threads[1].start()
    for _ in range(7):
        worker.program += 1
        time.sleep(0.4)
    over.set()
    ended.set()
    for thread in threads:
        thread.join()
    assert begun == [False]
