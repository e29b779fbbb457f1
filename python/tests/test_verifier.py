"""The verifier: verdicts, arguments, faults."""

import inspect
import json
import multiprocessing
import pickle
import threading
import time
from pathlib import Path

import pytest

import dapo_verifier
from dapo_verifier import Judgement, _native, extract, judge, soft_overlong, verify, verify_batch

CASES = Path(__file__).parents[2] / "testdata" / "answers" / "reported.jsonl"


def test_equivalent_answers_are_correct():
    assert verify(r"\frac{1}{2}", "We get $x = 0.5$.")
    assert verify("16 - 3 - 4 = 9\n#### 18", r"She earns \boxed{18} dollars.")
    assert not verify("2^{-99}", r"\boxed{2^{-98}}")
    assert verify("C", "the last letter is (C)", profile="choice")
    assert not verify("1/3", r"\boxed{0.3333}") and verify("1/3", r"\boxed{0.3333}", precision=4)


def test_verdicts_are_those_of_the_library():
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 200
    wrong = [
        row["id"]
        for row in rows
        if verify(row["gold"], row["pred"], profile=row.get("profile", "auto")) != row["expected"]
    ]
    assert wrong == []


def test_a_gold_is_a_text_a_number_or_several_of_them():
    assert verify(18, "#### 18") and verify(0.5, r"\boxed{\frac12}")
    assert verify(["7", 8], "the answer is 8") and not verify(("7", 8), "the answer is 9")

    class Array:
        """As NumPy's."""

        def tolist(self):
            return [7, "8"]

    assert verify(Array(), r"\boxed{8}")


def test_one_unreadable_gold_among_readable_ones_does_not_decide():
    assert judge([r"\frac{1}{", "3"], r"\boxed{4}").verdict == "incorrect"
    assert judge([r"\frac{1}{", "3"], r"\boxed{3}").correct
    assert judge(r"\frac{1}{", r"\boxed{3}")[:3] == ("unparsable", "gold", None)


def test_a_judgement_carries_its_evidence():
    half = judge(r"\frac12", "We get $x = 0.5$.")
    assert half == Judgement("correct", None, "x = 0.5", "number", "the answers are equivalent")
    assert judge("3", r"\boxed{\frac{6}{}").unparsable == "pred"
    assert pickle.loads(pickle.dumps(half)) == half


def test_extraction_gives_the_answer_or_none():
    assert extract("**Answer:** 42") == "42"
    assert extract(r"so \boxed{\frac12}.") == r"\frac12"
    assert extract("no box", profile="boxed") is None
    assert extract("  ") is None


def test_a_batch_is_judged_as_its_members():
    golds = [str(number % 7) for number in range(1000)] + [None, r"\frac{1}{", ["1", "2"]]
    preds = [rf"\boxed{{{number % 5}}}" for number in range(1000)] + ["1", "1", "2"]
    one_by_one = [verify(gold, pred) for gold, pred in zip(golds[:1000], preds)]
    assert verify_batch(golds, preds) == [*one_by_one, None, None, True]
    assert verify_batch([], []) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: verify(None, "1"), TypeError, "gold is of type NoneType"),
        (lambda: verify(True, "1"), TypeError, "gold is of type bool"),
        (lambda: verify({"a": 1}, "1"), TypeError, "gold is of type dict"),
        (lambda: verify([[[["1"]]]], "1"), TypeError, "gold is of type list"),
        (lambda: verify([], "1"), ValueError, "gold is an empty list"),
        (lambda: verify(float("nan"), "1"), ValueError, "gold is nan"),
        (lambda: verify("1", 1), TypeError, "'int' object is not an instance of 'str'"),
        (lambda: verify("1", "1", profile="bxoed"), ValueError, "profile"),
        (lambda: verify("1", "1", precision=0), ValueError, "precision is 0"),
        (lambda: verify("1", "1", precision=-1), ValueError, "precision is -1"),
        (lambda: verify_batch(["1"], []), ValueError, "1 golds for 0 preds"),
        (lambda: extract(b"1"), TypeError, "'bytes' object is not an instance of 'str'"),
        (lambda: soft_overlong(1, 10, 11), ValueError, "cache_len is 11"),
        (lambda: soft_overlong(-1), OverflowError, "negative"),
    ],
)
def test_faults_are_exceptions(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ud800",
        "\0",
        "{" * 5000,
        "(" * 100_000,
        r"\frac{" * 1000,
        "9" * 5000 + "^" * 50,
        r"\boxed{" * 20_000,
        "é²" * 999,
    ],
)
def test_no_text_is_too_much(text):
    assert isinstance(verify(text, text), bool)
    assert isinstance(judge("1", text), Judgement)
    assert verify_batch(["1", text], [text, text])[0] is False


def test_deep_answers_are_judged_on_a_small_stack():
    results = []
    deep = r"\sqrt{1+" * 20 + "x" + "}" * 20
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: results.append(verify(deep, deep + "+0")))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert results == [True]


def test_other_threads_run_while_the_verifier_works():
    count, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=tick)
    golds, preds = [r"\sqrt{2}+\sqrt{3}"] * 20_000, [r"\boxed{\sqrt{5+2\sqrt{6}}}"] * 20_000
    thread.start()
    try:
        # Held by the batch, the GIL is handed over a few times, before and after it.
        before = count[0]
        assert all(verify_batch(golds, preds))
        ticks = count[0] - before
    finally:
        stop.set()
        thread.join()
    assert ticks > 50


def _batch(_):
    return sum(verify_batch(["1"] * 500, ["1"] * 500))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_process_judges_too():
    assert _batch(None) == 500
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_batch, range(4)).get(timeout=60) == [500] * 4


def test_the_punishment_of_length_is_the_papers():
    assert [soft_overlong(length) for length in (16_384, 18_432, 20_480, 30_000)] == [0.0, -0.5, -1.0, -1.0]
    assert soft_overlong(120, 100, 20, penalty_factor=2.0, floor=False) == -4.0


def test_signatures_are_those_of_the_stubs():
    stub = Path(dapo_verifier.__file__).with_name("_native.pyi").read_text(encoding="utf-8")
    scope = {}
    stub = "from __future__ import annotations\n" + stub.replace("from ._types", "from dapo_verifier._types")
    exec(compile(stub, "_native.pyi", "exec"), scope)
    for name in ("verify", "verify_batch", "judge", "extract", "soft_overlong"):
        stubbed = inspect.signature(scope[name])
        plain = [(p.name, p.kind, p.default) for p in stubbed.parameters.values()]
        assert plain == [
            (p.name, p.kind, p.default) for p in inspect.signature(getattr(_native, name)).parameters.values()
        ]
    assert Path(dapo_verifier.__file__).with_name("py.typed").is_file()
