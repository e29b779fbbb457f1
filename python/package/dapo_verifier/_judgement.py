"""A verdict with its evidence."""

from __future__ import annotations

from typing import NamedTuple

from . import _native
from ._types import Gold, Profile, Side, Verdict


class Judgement(NamedTuple):
    """What the verifier decides, and why."""

    verdict: Verdict
    """`correct`, `incorrect`, `unparsable` or `out-of-fuel`."""
    unparsable: Side | None
    """Which of the two cannot be read: `gold` or `pred`."""
    extracted: str | None
    """The part of the completion that was judged."""
    rule: str
    """The rule that decided, such as `number` or `canonical-form`."""
    reason: str
    """The decision in words."""

    @property
    def correct(self) -> bool:
        """Whether the verdict is `correct`."""
        return self.verdict == "correct"


def judge(gold: Gold, pred: str, *, profile: Profile = "auto", precision: int = 6) -> Judgement:
    """Judge `pred`. Of several gold answers the first that is met decides, else the first that can be read."""
    return Judgement(*_native.judge(gold, pred, profile=profile, precision=precision))
