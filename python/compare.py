"""Math-Verify and dapo_verifier on the same answers in one process: agreement and time.

The answers are those of `testdata/answers/`. Each is judged one call at a time on one thread: the gold answer as a
formula between dollars, the prediction in a box. Needs `pip install math-verify` beside the wheel.
"""

import importlib.metadata as metadata
import json
import platform
import statistics
import time
from pathlib import Path

import math_verify

import dapo_verifier

ANSWERS = Path(__file__).parents[1] / "testdata" / "answers"


def formula(text):
    return text if "$" in text or "\\boxed" in text else "$" + text + "$"


def rows(name):
    """Cases whose prediction is a bare answer, which is boxed here, or has a box or a formula."""
    for line in (ANSWERS / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        extract = (row.get("config") or {}).get("extract") or ["bare"]
        pred = row["pred"]
        if name == "reported.jsonl":
            usable = row.get("profile", "auto") == "auto" and ("\\boxed" in pred or "$" in pred)
        else:
            usable = extract == ["bare"] and row.get("label") != "convention" and not pred.endswith("\\")
            pred = "\\boxed{" + pred + "}"
        if usable:
            yield formula(row["gold"]), pred, row["expected"]


def golds(name):
    """Bare numbers: each against itself and against the next."""
    answers = (ANSWERS / "golds" / name).read_text(encoding="utf-8").split()
    for gold, other in zip(answers, answers[1:]):
        yield formula(gold), "\\boxed{" + gold + "}", True
        yield formula(gold), "\\boxed{" + other + "}", float(gold.replace(",", "")) == float(other.replace(",", ""))


def theirs(gold, pred):
    return math_verify.verify(math_verify.parse(gold), math_verify.parse(pred))


def ours(gold, pred):
    return dapo_verifier.verify(gold, pred)


def measure(judge, cases):
    """The verdicts, and the processor's seconds of each."""
    found, seconds = [], []
    for gold, pred, _ in cases:
        start = time.process_time()
        found.append(judge(gold, pred))
        seconds.append(time.process_time() - start)
    return found, seconds


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def main():
    print(f"Math-Verify {metadata.version('math-verify')}, CPU {cpu()}, Python {platform.python_version()}, one thread")
    print("| answers | number | Math-Verify as expected | dapo_verifier as expected | both alike | time, ratio |")
    print("|---|---|---|---|---|---|")
    sets = {name: list(rows(name + ".jsonl")) for name in ("public", "own", "reported")}
    sets |= {name: list(golds(name + ".txt"))[::20] for name in ("gsm8k", "mawps", "svamp")}
    times = [[], []]
    for name, cases in sets.items():
        # The first call of each loads what it needs.
        theirs("1", "1"), ours("1", "1")
        (a, a_times), (b, b_times) = measure(theirs, cases), measure(ours, cases)
        times[0] += a_times
        times[1] += b_times
        expected = [case[2] for case in cases]
        share = [sum(x == y for x, y in zip(left, right)) for left, right in ((a, expected), (b, expected), (a, b))]
        ratio = sum(a_times) / sum(b_times)
        print(f"| {name} | {len(cases)} | {share[0]} | {share[1]} | {share[2]} | {ratio:.0f} |", flush=True)
    for label, of in (("mean", statistics.mean), ("median", statistics.median)):
        a, b = of(times[0]), of(times[1])
        print(f"{label}: Math-Verify {a * 1e6:.0f} µs a check, dapo_verifier {b * 1e6:.1f} µs, ratio {a / b:.0f}")


if __name__ == "__main__":
    main()
