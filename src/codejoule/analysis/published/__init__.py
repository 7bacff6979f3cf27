"""The thesis' published results: recomputed, and where they contradict its text."""

from codejoule.analysis.published.claims import Claim, claims, disagreements
from codejoule.analysis.published.figures import Ratio, Reduction, ratios, reductions

__all__ = ["Claim", "Ratio", "Reduction", "claims", "disagreements", "ratios", "reductions"]
