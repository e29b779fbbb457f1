from collections.abc import Sequence

from ._types import Gold, Profile, Side, Verdict

def verify(gold: Gold, pred: str, *, profile: Profile = "auto", precision: int = 6) -> bool:
    """Whether `pred` gives one of the gold answers. False where that cannot be read; see `judge`."""

def verify_batch(
    golds: Sequence[Gold | None], preds: Sequence[str], *, profile: Profile = "auto", precision: int = 6
) -> list[bool | None]:
    """Whether each completion is correct; None where there is no gold answer, or none can be read."""

def judge(
    gold: Gold, pred: str, *, profile: Profile = "auto", precision: int = 6
) -> tuple[Verdict, Side | None, str | None, str, str]: ...
def extract(text: str, *, profile: Profile = "auto") -> str | None:
    """The answer that `text` gives, as it stands there; None where there is none."""

def soft_overlong(
    num_tokens: int,
    max_len: int = 20480,
    cache_len: int = 4096,
    *,
    penalty_factor: float = 1.0,
    floor: bool = True,
) -> float:
    """DAPO's soft overlong punishment (equation 13 of the paper), at most 0. All lengths are in tokens."""
