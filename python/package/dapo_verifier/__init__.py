"""Verify mathematical answers, and reward completions by them in TRL and verl.

>>> from dapo_verifier import extract, verify
>>> verify(r"\\frac12", "We get $x = 0.5$.")
True
>>> extract("**Answer:** 42")
'42'
"""

from ._judgement import Judgement, judge
from ._native import extract, soft_overlong, verify, verify_batch
from ._types import Gold, Profile, Side, Verdict
from .trl import AccuracyReward, SoftOverlongReward, accuracy_reward
from .verl import compute_score, compute_scores

__all__ = [
    "AccuracyReward",
    "Gold",
    "Judgement",
    "Profile",
    "Side",
    "SoftOverlongReward",
    "Verdict",
    "accuracy_reward",
    "compute_score",
    "compute_scores",
    "extract",
    "judge",
    "soft_overlong",
    "verify",
    "verify_batch",
]
