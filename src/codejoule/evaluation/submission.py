"""Programs to judge, on disk."""

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from codejoule.common.lazily import Lazily
from codejoule.config import UserError, full_disk
from codejoule.domain import Task
from codejoule.evaluation.sample import Sample


class Submission(Lazily[Sample]):
    """Samples of tasks, each read anew when it is asked for, by any thread. They lie in a file of
    their own without a name, which ends with this process: what was submitted may be packed, or
    have to be sanitized. Of each its place is held in memory."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        solutions: Iterable[tuple[str, int, str]],
        folder: Path,
        *,
        make: Callable[..., Sample] = Sample.of,
    ) -> None:
        """`solutions` are the task's id, the number of the sample, and the program, of each; what
        makes samples of them, `make`, says by which tests they are judged. Raises `UserError`
        where `folder` has no room for them."""
        self._tasks, self._make_sample = tasks, make
        self._places = array("q", [0])
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            for row in solutions:
                # Lone surrogates have no other form.
                self._file.write(json.dumps(row).encode("ascii"))
                self._places.append(self._file.tell())
            self._file.flush()
        except OSError as error:
            why = full_disk(error, folder) or error.strerror
            raise UserError(f"{folder}: cannot be written: {why}") from error
        super().__init__(len(self._places) - 1, self._sample)

    def _sample(self, place: int) -> Sample:
        begin, end = self._places[place : place + 2]
        task_id, number, solution = json.loads(os.pread(self._file.fileno(), end - begin, begin))
        return self._make_sample(self._tasks[task_id], solution, sample=number)
