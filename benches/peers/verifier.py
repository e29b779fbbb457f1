"""Math-Verify and `dapo verify` on the same completions: checks a second, and how many each judges as meant.

A seeded mix: 62 % integers, the rest short expressions, in completions of about 600 characters; half of the answers are
right. Usage: python benches/peers/verifier.py path/to/dapo [CASES FOR MATH-VERIFY]
"""
import json
import random
import subprocess
import sys
import tempfile
import time

from math_verify import parse, verify

EXPRESSIONS = [
    (r"\frac{3}{4}", r"\frac{6}{8}", r"\frac{4}{3}"), (r"2\sqrt{3}", r"\sqrt{12}", r"3\sqrt{2}"),
    (r"x^2-1", r"(x-1)(x+1)", r"(x-1)^2"), (r"(2,3)", r"(2, 3)", r"(3,2)"), (r"\frac{\pi}{6}", r"\pi/6", r"\frac{\pi}{3}"),
    (r"0.25", r"\frac14", r"0.35"), (r"[2,5)", r"[2, 5)", r"[2,5]"), (r"\{1,2,3\}", r"\{3,1,2\}", r"\{1,2\}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", r"\frac{1}{2}"), (r"3+2i", r"2i+3", r"2+3i"),
]
FILLER = "First we look at what is given and write it down, then we simplify step by step and check the result. "
rng = random.Random(0)
cases = []
for i in range(20_000):
    if rng.random() < 0.62:
        gold = rng.randint(-2000, 5000)
        right, wrong = str(gold), str(gold + rng.choice([-10, -1, 1, 7]))
        gold = str(gold)
    else:
        gold, right, wrong = rng.choice(EXPRESSIONS)
    correct = rng.random() < 0.5
    text = (FILLER * 7)[: rng.randint(450, 700)] + r"Therefore the answer is $\boxed{" + (right if correct else wrong) + "}$."
    cases.append({"id": i, "gold": gold, "pred": text, "correct": correct})

count = int(sys.argv[2]) if len(sys.argv) > 2 else 500
start = time.perf_counter()
agreed = sum(verify(parse("$" + c["gold"] + "$"), parse(c["pred"])) == c["correct"] for c in cases[:count])
theirs = count / (time.perf_counter() - start)
print(f"math-verify: {theirs:.0f} checks a second, {agreed} of {count} judged as meant")

with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    for c in cases:
        file.write(json.dumps({k: c[k] for k in ("id", "gold", "pred")}) + "\n")
    file.flush()
    start = time.perf_counter()
    out = subprocess.run([sys.argv[1], "-q", "verify", file.name], capture_output=True, text=True, check=True).stdout
    ours = len(cases) / (time.perf_counter() - start)
agreed = sum((json.loads(line)["verdict"] == "correct") == c["correct"] for line, c in zip(out.splitlines(), cases))
print(f"dapo verify: {ours:.0f} checks a second (the whole process, one thread), {agreed} of {len(cases)} judged as meant")
print(f"ratio: {ours / theirs:.0f}")
