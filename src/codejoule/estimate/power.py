"""Power of a card at work."""

from dataclasses import dataclass

from codejoule.estimate.card import Card

IDLE_SHARE = 0.11
"""Idle power over the power limit where a card's was not measured: that of an H200 (77 of 700 W),
which need not be another card's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """Shares of the power limit that a card takes on top of idle."""

    active_share: float
    """With clocks up and a kernel in flight, whatever it does."""
    bandwidth_share: float
    """At the peak memory bandwidth; in proportion below it."""
    compute_share: float
    """At the peak rate; in proportion below it. Above 1 for decoding's narrow matrices, which
    fill a fraction of a tensor core: the limit then holds."""

    def power_w(
        self, card: Card, *, bytes_per_s: float, flop_per_s: float, peak_flop_per_s: float
    ) -> float | None:
        r"""Mean power while the card moves and computes at these rates.

        Parameters
        ----------
        card : Card
            Limit, idle power and bandwidth.
        bytes_per_s, flop_per_s : float
            Rates at which it works.
        peak_flop_per_s : float
            Its peak in the precision of the multiplications.

        Returns
        -------
        float or None
            Watts, at most the limit; None where the card's limit is not known.

        Notes
        -----
        .. math:: P = \min\left(P_l,\; P_0 + P_l\left(\alpha
            + \beta \frac{D/t}{B} + \gamma \frac{O/t}{F}\right)\right)

        with the limit :math:`P_l`, idle power :math:`P_0` and the fields of this class in their
        order. Equation 3.34 of Buis (2024) has a constant power instead.
        """
        if card.power_limit_w is None:
            return None
        share = (
            self.active_share
            + self.bandwidth_share * bytes_per_s / card.bandwidth_bytes_per_s
            + self.compute_share * flop_per_s / peak_flop_per_s
        )
        return min(card.power_limit_w, idle_power_w(card) + share * card.power_limit_w)


def idle_power_w(card: Card) -> float:
    """Idle power of a card, measured or assumed.

    Parameters
    ----------
    card : Card
        With a known power limit.

    Returns
    -------
    float
        Its `idle_power_w`, else `IDLE_SHARE` of its limit [W].
    """
    assert card.power_limit_w is not None
    return card.idle_power_w or IDLE_SHARE * card.power_limit_w


POWER = PowerModel(active_share=0.059, bandwidth_share=0.961, compute_share=1.573)
"""Shares of the power limit, fitted with `calibrate_power` to the runs of `ENGINE_SPEEDS`."""
