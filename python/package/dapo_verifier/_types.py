"""Types of arguments and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, Union


class SupportsToList(Protocol):
    """A NumPy scalar or array."""

    def tolist(self) -> Any: ...


Gold = Union[str, float, Sequence[Union[str, float]], SupportsToList]
"""A gold answer: a text, a number, or a list of accepted ones."""

Profile = Literal[
    "auto", "boxed", "answer-line", "hash", "answer-tag", "answer-is", "last-math", "choice", "last-number", "whole"
]
"""Where a completion's answer stands."""

Verdict = Literal["correct", "incorrect", "unparsable", "out-of-fuel"]
"""The verifier's decision."""

Side = Literal["gold", "pred"]
"""One of the two answers compared."""
