"""Bytes of a number in each dtype that a model runs in."""

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
