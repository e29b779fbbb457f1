"""Reward functions as verl calls them: `custom_reward_function.path=rewards.py`, where that file imports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._judgement import judge
from ._native import extract, verify_batch
from ._types import Gold, Profile


def compute_score(
    data_source: str | None,
    solution_str: str,
    ground_truth: Gold,
    extra_info: dict[str, Any] | None = None,
    *,
    correct: float = 1.0,
    incorrect: float = -1.0,
    profile: Profile = "auto",
    precision: int = 6,
    **_further: Any,
) -> dict[str, Any]:
    """Score one completion: `score`, `acc`, the answer found as `pred`, and whether the gold can be read.

    verl has no abstention: where the gold answer cannot be read, `score` is `incorrect` and `gold_readable` is False.
    """
    found = judge(ground_truth, solution_str, profile=profile, precision=precision)
    found_answer = extract(solution_str, profile=profile)
    return _result(found.correct, found.unparsable != "gold", found_answer, correct, incorrect)


def compute_scores(
    data_sources: Sequence[str] | None,
    solution_strs: Sequence[str],
    ground_truths: Sequence[Gold],
    extra_infos: Sequence[dict[str, Any] | None] | None = None,
    *,
    correct: float = 1.0,
    incorrect: float = -1.0,
    profile: Profile = "auto",
    precision: int = 6,
    **_further: Any,
) -> list[dict[str, Any]]:
    """Score completions as verl's reward manager `batch` asks for them; see `compute_score`."""
    verdicts = verify_batch(list(ground_truths), list(solution_strs), profile=profile, precision=precision)
    return [
        _result(verdict is True, verdict is not None, extract(text, profile=profile), correct, incorrect)
        for verdict, text in zip(verdicts, solution_strs)
    ]


def _result(is_correct: bool, readable: bool, pred: str | None, correct: float, incorrect: float) -> dict[str, Any]:
    return {
        "score": float(correct if is_correct else incorrect),
        "acc": is_correct,
        "pred": pred or "",
        "gold_readable": readable,
    }
