"""Time and energy by the thesis' equations 3.27 to 3.34, as printed."""


def prefill_compute(*, n: float, b: float, s: float) -> float:
    """Operations of prefill, equation 3.27: ``2 n b s``.

    Parameters
    ----------
    n, b, s : float
        Parameters, sequences, prompt tokens of each.

    Returns
    -------
    float
        Floating-point operations.
    """
    return 2 * n * b * s


def prefill_memory(*, n: float) -> float:
    """Bytes read by prefill, equation 3.28: ``2 n``, two bytes per parameter.

    Parameters
    ----------
    n : float
        Parameters.

    Returns
    -------
    float
        Bytes.
    """
    return 2 * n


def decode_compute(*, n: float, b: float) -> float:
    """Operations of one decode step, equation 3.29: ``2 n b``.

    Parameters
    ----------
    n, b : float
        Parameters and sequences.

    Returns
    -------
    float
        Floating-point operations.
    """
    return 2 * n * b


def decode_memory(*, n: float) -> float:
    """Bytes read by one decode step, equation 3.30: ``2 n``.

    Parameters
    ----------
    n : float
        Parameters.

    Returns
    -------
    float
        Bytes.
    """
    return 2 * n


def time_to_first_token_s(
    *, compute: float, memory: float, flop_per_s: float, bytes_per_s: float
) -> float:
    """Time to first token, equation 3.31: computation and reading, one after the other.

    Parameters
    ----------
    compute, memory : float
        Of equations 3.27 and 3.28.
    flop_per_s, bytes_per_s : float
        The card's rates.

    Returns
    -------
    float
        Seconds. The two overlap in fact: the larger of them bounds the time.
    """
    return compute / flop_per_s + memory / bytes_per_s


def time_per_output_token_s(
    *, compute: float, memory: float, flop_per_s: float, bytes_per_s: float
) -> float:
    """Time per output token, equation 3.32: as equation 3.31, of a decode step.

    Parameters
    ----------
    compute, memory : float
        Of equations 3.29 and 3.30.
    flop_per_s, bytes_per_s : float
        The card's rates.

    Returns
    -------
    float
        Seconds.
    """
    return compute / flop_per_s + memory / bytes_per_s


def total_generation_time_s(*, ttft_s: float, tpot_s: float, tokens: float) -> float:
    """Total generation time, equation 3.33: ``TTFT + TPOT n_tokens``.

    Parameters
    ----------
    ttft_s, tpot_s : float
        Of equations 3.31 and 3.32 [s].
    tokens : float
        Output tokens.

    Returns
    -------
    float
        Seconds. Prefill makes the first of the tokens, so ``tokens - 1`` steps would do.
    """
    return ttft_s + tpot_s * tokens


def energy_j(*, power_w: float, time_s: float) -> float:
    """Energy, equation 3.34: ``P t``.

    Parameters
    ----------
    power_w : float
        The machine's power [W]; the thesis has no model of it.
    time_s : float
        Time that it runs [s].

    Returns
    -------
    float
        Joules.
    """
    return power_w * time_s
