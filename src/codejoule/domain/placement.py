"""Which GPU holds which layer of a model that one GPU is too small for."""

from collections.abc import Sequence
from itertools import accumulate


def place_layers(
    layer_bytes: Sequence[int], *, first_bytes: int, last_bytes: int, gpus: int
) -> tuple[int, ...]:
    """Deal a decoder's layers out to GPUs so that the fullest holds as little as possible.

    Parameters
    ----------
    layer_bytes : sequence of int, shape (n,)
        Memory of each layer, its share of the cache included [bytes].
    first_bytes : int
        What the first GPU holds besides: the embedding [bytes].
    last_bytes : int
        What the last GPU holds besides: the head [bytes].
    gpus : int
        GPUs to use, all of them; at most one per layer.

    Returns
    -------
    tuple of int, shape (n,)
        Each layer's GPU, from 0, never falling: a token crosses from one GPU to the next
        ``gpus - 1`` times.

    Raises
    ------
    ValueError
        For fewer than 1 GPU, or more than there are layers.
    """
    n = len(layer_bytes)
    if not 1 <= gpus <= n:
        raise ValueError(f"gpus={gpus}: must be at least 1 and at most {n}, the number of layers")
    before = [0, *accumulate(layer_bytes)]
    extra = [first_bytes, *[0] * (gpus - 1)]
    extra[-1] += last_bytes
    # best[i]: the least that the fullest of the GPUs so far must hold for the first i layers.
    best = [before[i] + extra[0] for i in range(n + 1)]
    cuts: list[list[int]] = []
    for gpu in range(1, gpus):
        chosen = [0] * (n + 1)
        for end in range(n, gpu, -1):
            loads = [
                (max(best[start], before[end] - before[start] + extra[gpu]), start)
                for start in range(gpu, end)
            ]
            best[end], chosen[end] = min(loads)
        cuts.append(chosen)
    placed = [0] * n
    end = n
    for gpu in range(gpus - 1, 0, -1):
        start = cuts[gpu - 1][end]
        placed[start:end] = [gpu] * (end - start)
        end = start
    return tuple(placed)
