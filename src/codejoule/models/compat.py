"""Errors of gptqmodel's workers, which would end the process."""

import sys
import threading
import traceback
from functools import cache
from typing import Any


@cache
def worker_failures() -> list[BaseException]:
    """The list that collects what fails in gptqmodel's workers from the first call on.

    gptqmodel 7.6 ends the process (``os._exit``) when a task of a worker fails, though the error
    also reaches whoever waits for that task. It no longer does after this: look into the list for
    those for which nobody waited. A worker that cannot even start still ends the process, since
    its tasks would be waited for without end; why goes to the process' own standard error.
    """
    from gptqmodel.utils import threadx

    found: list[BaseException] = []
    worker: Any = threadx._DeviceWorker
    end_process = worker._abort_process
    ending = threading.Lock()

    def collect(self: Any, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        if any(frame.name == "_run_warmup" for frame in frames):
            with ending:  # workers often fail together: the first ends the process, alone
                print(
                    f"gptqmodel cannot start its workers ({type(error).__name__}: {error}); free "
                    "memory on the device, or use a published checkpoint (quant.source=hub)",
                    file=sys.__stderr__,
                    flush=True,
                )
                end_process(self, error)
        found.append(error)

    worker._abort_process = collect
    return found
