"""Reward functions as TRL and verl call them."""

import inspect
import pickle

import pytest

from dapo_verifier import AccuracyReward, SoftOverlongReward, accuracy_reward, compute_score, compute_scores


def test_trl_passes_texts_and_columns():
    rewards = accuracy_reward(
        prompts=["a", "b", "c"],
        completions=[r"\boxed{0.5}", r"\boxed{2}", r"\boxed{3}"],
        completion_ids=[[1], [2], [3]],
        answer=[r"\frac12", "3", None],
        level=[1, 2, 3],
        trainer_state=None,
    )
    assert rewards == [1.0, 0.0, None]
    assert accuracy_reward.__name__ == "accuracy_reward"


def test_trl_passes_messages():
    completions = [
        [{"role": "assistant", "content": "4"}],
        [
            {"role": "tool", "content": "5"},
            {"role": "assistant", "content": [{"type": "text", "text": "the answer is 4"}]},
        ],
        [],
        [{"role": "assistant", "content": None}],
    ]
    assert accuracy_reward(completions=completions, solution=["4"] * 4) == [1.0, 1.0, 0.0, 0.0]


def test_values_and_the_column_can_be_chosen():
    reward = AccuracyReward(1, -1, column="gold", profile="boxed")
    assert reward(completions=["1", r"\boxed{1}", r"\boxed{1}"], answer=["1"] * 3, gold=["1", "1", []]) == [
        -1.0,
        1.0,
        None,
    ]
    assert pickle.loads(pickle.dumps(reward))(completions=["1"], gold=["1"]) == [-1.0]


def test_faults_are_named():
    with pytest.raises(TypeError, match=r"needs the data column answer or solution, found \['level'\]"):
        accuracy_reward(completions=["1"], level=[1])
    with pytest.raises(ValueError, match="2 golds for 1 preds"):
        accuracy_reward(completions=["1"], answer=["1", "2"])
    with pytest.raises(ValueError, match="profile"):
        AccuracyReward(profile="bxoed")
    with pytest.raises(ValueError, match="precision is 0"):
        AccuracyReward(precision=0)
    with pytest.raises(ValueError, match="cache_len is 11"):
        SoftOverlongReward(10, 11)


def test_length_is_that_of_the_tokens():
    reward = SoftOverlongReward(100, 20)
    ids = [[0] * length for length in (80, 90, 100, 101)]
    assert reward(prompts=[""] * 4, completions=[""] * 4, completion_ids=ids) == [0.0, -0.5, -1.0, -1.0]
    assert reward.__name__ == "soft_overlong_reward"


def test_verl_passes_one_sample_by_name():
    sample = {"data_source": "math", "ground_truth": "18", "extra_info": {"index": 1}}
    correct = compute_score(solution_str=r"\boxed{18}", **sample)
    assert correct == {"score": 1.0, "acc": True, "pred": "18", "gold_readable": True}
    assert compute_score(solution_str="", **sample) == {"score": -1.0, "acc": False, "pred": "", "gold_readable": True}
    unread = compute_score(None, "1", r"\frac{1}{", sandbox_fusion_url=None)
    assert unread == {"score": -1.0, "acc": False, "pred": "1", "gold_readable": False}
    assert compute_score("", "2", "1", incorrect=0)["score"] == 0.0


def test_verls_batches_are_judged_as_their_members():
    texts, golds = [r"\boxed{1}", r"\boxed{2}", "3", ""], ["1", 3, r"\frac{1}{", ["1", "2"]]
    batch = compute_scores(["m"] * 4, texts, golds, [None] * 4)
    assert batch == [compute_score("m", text, gold) for text, gold in zip(texts, golds)]


def test_signatures_say_whose_they_are():
    # dapo tells verl's functions from TRL's by these names.
    assert {"solution_str", "ground_truth"} <= set(inspect.signature(compute_score).parameters)
    assert list(inspect.signature(accuracy_reward).parameters)[0] == "completions"
