"""Steps as CUDA graphs, and the sizes for which they are captured."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from codejoule.config import UserError

_FIRST_LENGTH = 256


def batch_buckets(slots: int) -> tuple[int, ...]:
    """Numbers of rows for which a step is captured: powers of two, and `slots` itself."""
    sizes = []
    size = 1
    while size < slots:
        sizes.append(size)
        size *= 2
    return (*sizes, slots)


def length_buckets(longest: int) -> tuple[int, ...]:
    """Numbers of cached tokens for which a step is captured: each at most half more than the one
    before (and 256 the first), and `longest` itself."""
    lengths = []
    length = step = _FIRST_LENGTH
    while length < longest:
        lengths.append(length)
        # 256, 512, 768, 1024, 1536, 2048, 3072, ...
        step = max(step, _FIRST_LENGTH * 2 ** ((length // (4 * _FIRST_LENGTH)).bit_length()))
        length += step
    return (*lengths, longest)


def fit(sizes: Sequence[int], needed: int) -> int:
    """The smallest of the ascending `sizes` that holds `needed`."""
    return next(size for size in sizes if size >= needed)


Steps: TypeAlias = Callable[[int, int], None]
"""Runs a decode step of some rows over some cached tokens."""


class CapturedSteps:
    """A CUDA graph for each size that `capture` was called with."""

    def __init__(self, step: Steps) -> None:
        self._step = step
        self._graphs: dict[tuple[int, int], Any] = {}
        self._pool: Any = None

    def capture(self, rows: int, length: int) -> None:
        """Record one step of this size; it runs twice before, which compiles what it needs. Raises
        `UserError` where the model does something on the way that cannot be recorded."""
        import torch

        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(2):
                self._step(rows, length)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                self._step(rows, length)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            text = str(error).partition("\n")[0]
            raise UserError(
                f"engine=graph: a step of this model cannot be captured as a CUDA graph ({text}): "
                "something in it waits for the host; choose engine=generate"
            ) from error
        self._pool = self._pool or graph.pool()
        self._graphs[rows, length] = graph

    def __call__(self, rows: int, length: int) -> None:
        """Replay the step of this size."""
        self._graphs[rows, length].replay()

    def __len__(self) -> int:
        return len(self._graphs)
