"""The dtype that a model runs in, and the bytes of its numbers."""

from codejoule.domain.quantization import METHODS

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def dtype_bytes(dtype: str) -> int:
    """Bytes per number.

    Parameters
    ----------
    dtype : str
        ``float32``, ``float16`` or ``bfloat16``.

    Returns
    -------
    int
        4 or 2.

    Raises
    ------
    ValueError
        For any other name.
    """
    try:
        return _BYTES[dtype]
    except KeyError:
        raise ValueError(f"dtype={dtype}: choose one of {', '.join(sorted(_BYTES))}") from None


def dtype_in_force(asked: str, method: str, *, device: str, own: str | None) -> str:
    """Name of the dtype of everything unquantized.

    Parameters
    ----------
    asked : str
        ``model.dtype``: a dtype, or ``auto``.
    method : str
        One of `METHODS`.
    device : str
        ``cpu`` or ``cuda``.
    own : str or None
        Dtype that the weights are kept in; None where their configuration names none.

    Returns
    -------
    str
        What was asked for; for ``auto`` float32 on a CPU, and on a GPU what the method's kernels
        take, else the weights' own.
    """
    if asked != "auto":
        return asked
    if device == "cpu":
        return "float32"
    return METHODS[method].gpu_dtype or own or "float32"
