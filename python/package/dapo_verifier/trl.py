"""Reward functions as TRL calls them: `reward_funcs=[accuracy_reward]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from ._native import extract, soft_overlong, verify_batch
from ._types import Gold, Profile

Completion = Union[str, Sequence[dict[str, Any]]]
"""A text, or the messages of a conversation."""


def text_of(completion: Completion) -> str:
    """The text of a completion: of messages, that of the last."""
    if isinstance(completion, str):
        return completion
    if not completion:
        return ""
    content = completion[-1].get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


class AccuracyReward:
    """`correct` for a correct answer, `incorrect` for another, None where the gold answer cannot be read.

    The gold answers are the column `answer`, else `solution`, else the one named by `column`.
    """

    def __init__(
        self,
        correct: float = 1.0,
        incorrect: float = 0.0,
        *,
        column: str | None = None,
        profile: Profile = "auto",
        precision: int = 6,
    ) -> None:
        extract("", profile=profile)
        verify_batch([], [], precision=precision)
        self.__name__ = "accuracy_reward"
        self.correct, self.incorrect = float(correct), float(incorrect)
        self.column, self.profile, self.precision = column, profile, precision

    def __call__(self, completions: Sequence[Completion], **columns: Any) -> list[float | None]:
        names = [self.column] if self.column else ["answer", "solution"]
        golds = next((columns[name] for name in names if columns.get(name) is not None), None)
        if golds is None:
            raise TypeError(f"accuracy_reward needs the data column {' or '.join(names)}, found {sorted(columns)}")
        texts = [text_of(completion) for completion in completions]
        found = verify_batch(_readable(golds), texts, profile=self.profile, precision=self.precision)
        return [None if is_correct is None else self.correct if is_correct else self.incorrect for is_correct in found]


def _readable(golds: Sequence[Gold | None]) -> list[Gold | None]:
    """The gold answers, with None for an empty list of them."""
    return [None if isinstance(gold, (list, tuple)) and not gold else gold for gold in golds]


accuracy_reward = AccuracyReward()
"""1 for a correct answer, 0 for another, None where the gold answer cannot be read."""


class SoftOverlongReward:
    """DAPO's soft overlong punishment of each completion, by the length of its `completion_ids`."""

    def __init__(self, max_len: int, cache_len: int, *, penalty_factor: float = 1.0, floor: bool = True) -> None:
        soft_overlong(0, max_len, cache_len, penalty_factor=penalty_factor, floor=floor)
        self.__name__ = "soft_overlong_reward"
        self.max_len, self.cache_len = max_len, cache_len
        self.penalty_factor, self.floor = penalty_factor, floor

    def __call__(self, completion_ids: Sequence[Sequence[int]], **_columns: Any) -> list[float]:
        options: dict[str, Any] = {"penalty_factor": self.penalty_factor, "floor": self.floor}
        return [soft_overlong(len(ids), self.max_len, self.cache_len, **options) for ids in completion_ids]
