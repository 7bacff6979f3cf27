"""The layers whose parameters the thesis counts: equations 3.3, 3.6, 3.8 and 3.11.

Symbols are those of `codejoule.thesis.estimator.equations`; arrays have a row per token.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def embed(u: "Array", w_e: "Array", w_p: "Array") -> "Array":
    """``h_0 = U W_e + W_p``, equation 3.3, of one-hot rows `u` (c, v)."""
    return u @ w_e + w_p


def multi_head_attention(
    x: "Array", w_q: "Array", w_k: "Array", w_v: "Array", w_o: "Array"
) -> "Array":
    """Causal multi-head self-attention, equation 3.6, of `x` (s, m).

    Each head's projections have the shape (h, m, d), that of the output (h d, m).
    """
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(w_q.shape[2])
    future = np.triu(np.ones((len(x), len(x)), dtype=bool), k=1)
    scores = np.where(future, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    heads = weights @ v
    return np.asarray(np.concatenate(list(heads), axis=-1) @ w_o)


def feed_forward(x: "Array", w_1: "Array", b_1: "Array", w_2: "Array", b_2: "Array") -> "Array":
    """``max(0, x W_1 + b_1) W_2 + b_2``, equation 3.8, with matrices (m, d_ff) and (d_ff, m)."""
    return np.asarray(np.maximum(0, x @ w_1 + b_1) @ w_2 + b_2)


def layer_norm(x: "Array", gamma: "Array", beta: "Array", *, epsilon: float = 1e-5) -> "Array":
    """Layer normalization, equation 3.11: rows of mean 0 and variance 1, scaled and shifted."""
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon) * gamma + beta)
