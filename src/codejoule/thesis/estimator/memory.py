"""Cache and memory by the thesis' equations 3.23 to 3.26, as printed."""


def cache_bytes_per_token(*, n: float, h: float, m: float, p: float) -> float:
    """Key-value cache of one token, equation 3.23: ``2 n (h m) p``.

    Parameters
    ----------
    n : float
        As printed the number of parameters; layers are meant.
    h : float
        Heads; key-value heads are meant.
    m : float
        As printed the model's width; a head's is meant.
    p : float
        Bytes per number.

    Returns
    -------
    float
        Bytes. With what is meant it is `codejoule.estimate.kv_cache_bytes_per_token`.
    """
    return 2 * n * (h * m) * p


def cache_bytes(*, b: float, s: float, n: float, h: float, m: float, p: float) -> float:
    """Key-value cache of a batch, equation 3.24: ``2 b s n h m p``.

    Parameters
    ----------
    b, s : float
        Sequences, and tokens of each.
    n, h, m, p : float
        As in `cache_bytes_per_token`.

    Returns
    -------
    float
        Bytes.
    """
    return b * s * cache_bytes_per_token(n=n, h=h, m=m, p=p)


def grouped_cache_bytes(
    *, b: float, s: float, n: float, h: float, g: float, m: float, p: float
) -> float:
    """Key-value cache with grouped heads, equation 3.25: equation 3.24 with ``h / g`` heads.

    Parameters
    ----------
    b, s, n, h, m, p : float
        As in `cache_bytes`.
    g : float
        Heads that share one key-value head.

    Returns
    -------
    float
        Bytes.
    """
    return cache_bytes(b=b, s=s, n=n, h=h / g, m=m, p=p)


def vram_bytes(*, n: float, p_parameters: float, cache: float, p_cache: float) -> float:
    """Memory of a GPU, equation 3.26: ``n p_parameters + cache p_cache``.

    Parameters
    ----------
    n : float
        Parameters.
    p_parameters : float
        Bytes per parameter.
    cache : float
        Of equation 3.24 or 3.25: bytes already, so `p_cache` counts them twice.
    p_cache : float
        Bytes per number of the cache.

    Returns
    -------
    float
        Bytes.
    """
    return n * p_parameters + cache * p_cache
