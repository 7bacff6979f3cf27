"""The sizes for which steps are captured."""

from collections.abc import Sequence

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
