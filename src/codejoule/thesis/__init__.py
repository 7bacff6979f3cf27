"""The thesis: its estimator, its published results and claims, and their import into MLflow.

Nothing outside of this room but the commands that show it knows it. What the estimator proper
(`codejoule.estimate`) computes corrects what stands here.

References
----------
M. Buis (2024), "Walking the tightrope: balancing energy efficiency and accuracy in LLM-driven
code generation", MSc thesis, Utrecht University.
"""

from codejoule.thesis.claims import claims, disagreements
from codejoule.thesis.results import ratios, reductions

__all__ = ["claims", "disagreements", "ratios", "reductions"]
