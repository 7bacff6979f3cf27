"""AMD GPUs: why they are not metered."""

from pathlib import Path

KFD = Path("/dev/kfd")
"""The device node of AMD's compute driver."""


def amd_problem() -> str | None:
    """What to tell a user whose machine has AMD GPUs in use for computing; None without them.

    Zeus reads AMD's counters, but what they count has to be known before it goes into a figure:
    on an MI250 one die's counter holds both dies, a partitioned MI300 shares one, and how often
    they step and how late they show it, which the ledger needs, has been measured on no card.
    """
    if not KFD.exists():
        return None
    return (
        f"an AMD GPU ({KFD}): codejoule meters NVIDIA GPUs alone, since what AMD's energy counters "
        "count (a die, a package, a partition) and when they step has been checked on no card "
        "here; use an NVIDIA GPU, or device=cpu"
    )
