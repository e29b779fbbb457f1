//! Programs in every language against their tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{BOTH, config, open, score};
use dapo_code::{CodeReward, Language, Sandbox};
use dapo_reward::{RewardFn, RewardInput, RewardSum, RewardTerm, Score};
use serde_json::{Value, json};

/// The score of `passed` tests out of `total`.
fn tally(passed: usize, total: usize) -> Score {
    let log = BTreeMap::from([("passed".to_owned(), passed as f64), ("total".to_owned(), total as f64)]);
    Score { value: Some(passed as f64 / total as f64), correct: Some(passed == total), log }
}

fn problems(file: &str) -> Vec<Value> {
    file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn references_pass_all_tests_and_flawed_programs_some() {
    for (language, file) in [
        (Language::Python, include_str!("../testdata/python.jsonl")),
        (Language::Rust, include_str!("../testdata/rust.jsonl")),
    ] {
        let Some(scorer) = open(&format!("problems in {language:?}"), &config(language, Sandbox::Strict)) else {
            continue;
        };
        for problem in problems(file) {
            let of = |program: &str| score(&scorer, problem[program].as_str().unwrap(), &problem);
            let id = &problem["id"];
            let (reference, flawed) = (of("reference"), of("flawed"));
            assert_eq!((reference.value, reference.correct), (Some(1.0), Some(true)), "{id}: {reference:?}");
            assert_eq!(flawed.correct, Some(false), "{id}");
            assert!(flawed.value.unwrap() > 0.0 && flawed.value.unwrap() < 1.0, "{id}: {flawed:?}");
            assert_eq!(reference.log["total"], flawed.log["total"], "{id}");
        }
    }
}

#[test]
fn python_runs_against_inputs_and_assertions() {
    for sandbox in BOTH {
        let Some(scorer) = open("Python", &config(Language::Python, sandbox)) else { continue };
        let columns = json!({"tests": [
            {"input": "2\n", "output": "4"},
            {"input": "3\n", "output": " 9 \n\n"},
            {"input": "x\n", "output": "no"},
            {"assert": "assert square(4) == 16"},
            {"assert": "assert square(4) == 15"},
        ]});
        let program = "import sys\ndef square(x): return x * x\nfor line in sys.stdin: print(square(int(line)))";
        assert_eq!(score(&scorer, program, &columns), tally(3, 5), "{sandbox:?}");
        assert_eq!(score(&scorer, "syntax error", &columns), tally(0, 5), "{sandbox:?}");
    }
}

#[test]
fn leaving_early_passes_no_assertion() {
    let Some(scorer) = open("leaving early", &config(Language::Python, Sandbox::Strict)) else { return };
    let columns = json!({"tests": [{"assert": "assert False"}, {"assert": "assert answer() == 42"}]});
    for program in [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "import atexit, os\natexit.register(lambda: os._exit(0))",
        "print('test result: ok')\nquit()",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    ] {
        assert_eq!(score(&scorer, program, &columns), tally(0, 2), "{program}");
    }
    // Right output and a bad end: not passed either.
    let columns = json!({"tests": [{"output": "1"}]});
    assert_eq!(score(&scorer, "print(1)\nraise SystemExit(3)", &columns), tally(0, 1));
    assert_eq!(score(&scorer, "print(1)\nraise SystemExit(0)", &columns), tally(1, 1));
}

#[test]
fn python_programs_are_modules_of_their_own() {
    let Some(scorer) = open("Python's module", &config(Language::Python, Sandbox::Strict)) else { return };
    let program = "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle, sys, typing\n\
                   @dataclass\nclass Point:\n    x: int\n    \
                   y: int = 2\nif __name__ == '__main__': made = pickle.loads(pickle.dumps(Point(1)))";
    let columns = json!({"tests": [
        {"assert": "assert made == Point(1, 2)"},
        {"assert": "assert typing.get_type_hints(Point)['x'] is int"},
        {"assert": "assert 'run' not in globals() or True\nassert list({'a', 'b', 'c'}) == list({'a', 'b', 'c'})"},
        {"assert": "import math\nassert math.isclose(made.x, 1)"},
    ]});
    assert_eq!(score(&scorer, program, &columns), tally(4, 4));
}

#[test]
fn rust_programs_are_built_once_and_run() {
    for sandbox in BOTH {
        let config = config(Language::Rust, sandbox);
        // Programs of root run as `nobody` there, who cannot reach a toolchain in root's home folder.
        if sandbox == Sandbox::RlimitsOnly && config.open("code", common::launcher()).is_err() {
            println!("SKIPPED Rust, {sandbox:?}: the toolchain is out of reach");
            continue;
        }
        let Some(scorer) = open("Rust", &config) else { continue };
        let columns = json!({"tests": [{"input": "2 3", "output": "5"}, {"input": "", "output": "0"}, {"input": "x", "output": ""}]});
        let program = "fn main() { let t = std::io::read_to_string(std::io::stdin()).unwrap();\n\
                       println!(\"{}\", t.split_whitespace().map(|w| w.parse::<i64>().unwrap()).sum::<i64>()); }";
        assert_eq!(score(&scorer, program, &columns), tally(2, 3), "{sandbox:?}");
        assert_eq!(score(&scorer, "fn main() { let x: u8 = \"\"; }", &columns), tally(0, 3), "{sandbox:?}");
        // Files of the machine are not there at build time either.
        if sandbox == Sandbox::Strict {
            let include = "fn main() { println!(\"{}\", include_str!(\"/etc/passwd\").len() * 0); }";
            assert_eq!(score(&scorer, include, &columns), tally(0, 3));
        }
    }
}

#[test]
fn a_cargo_project_counts_its_own_tests_and_clippy() {
    let base = config(Language::Rust, Sandbox::Strict);
    let tests = "use program::twice;\n#[test] fn two() { assert_eq!(twice(1), 2); }\n#[test] fn four() { assert_eq!(twice(2), 4); }\n\
                 mod inner { #[test] fn six() { assert_eq!(super::twice(3), 6); } }";
    let columns = json!({"tests": {"files": {"tests/twice.rs": tests}}});
    let Some(scorer) = open("a cargo project", &base) else { return };
    let good = "pub fn twice(x: u32) -> u32 {\n    2 * x\n}\n#[test]\nfn own() {}";
    assert_eq!(score(&scorer, good, &columns), tally(4, 4));
    let untidy = "pub fn twice(x: u32) -> u32 {\n    return x + 2 - 1 + 0 * x;\n}";
    assert_eq!(score(&scorer, untidy, &columns), tally(1, 4));
    assert_eq!(score(&scorer, "pub fn twice(x: u32) -> u32 {", &columns), tally(0, 4));
    // A test that leaves is none that passes.
    let leaving = "pub fn twice(x: u32) -> u32 {\n    if x == 2 {\n        std::process::exit(0)\n    }\n    2 * x\n}";
    assert_eq!(score(&scorer, leaving, &columns), tally(3, 4));
    let Some(scorer) = open("a cargo project", &CodeReward { clippy: false, ..base }) else { return };
    assert_eq!(score(&scorer, untidy, &columns), tally(1, 3));
}

#[test]
fn a_command_runs_any_other_language() {
    for sandbox in BOTH {
        let command = ["sh", "{program}", "x"].map(str::to_owned).to_vec();
        let config =
            CodeReward { command, tags: vec!["sh".into(), "bash".into()], ..config(Language::Command, sandbox) };
        let Some(scorer) = open("a command", &config) else { continue };
        let columns = json!({"tests": [{"input": "a\nb\n", "output": "x a"}, {"input": "c", "output": "y c"}]});
        let completion = "```bash\nread line; echo \"$1\" \"$line\"\n```\n```text\nx a\n```";
        let score = scorer.score(&RewardInput::new("", completion, "").with_columns(&columns)).unwrap();
        assert_eq!(score, tally(1, 2), "{sandbox:?}");
    }
    let command = vec!["no-such-program".to_owned(), "{program}".to_owned()];
    let error = CodeReward { command, ..config(Language::Command, Sandbox::Strict) }.open("code", common::launcher());
    assert_eq!(error.unwrap_err().to_string(), "\"no-such-program\" is not found on the path");
}

#[test]
fn completions_without_a_program_pass_nothing_and_problems_without_tests_have_no_value() {
    let Some(scorer) = open("no program", &config(Language::Python, Sandbox::Strict)) else { return };
    let columns = json!({"tests": [{"output": "1"}, {"output": "2"}]});
    let of =
        |completion: &str, columns: &Value| scorer.score(&RewardInput::new("", completion, "").with_columns(columns));
    assert_eq!(of("I do not know.", &columns).unwrap(), tally(0, 2));
    assert_eq!(of("```python\nprint(1)", &columns).unwrap(), tally(0, 2));
    for none in [json!(null), json!({}), json!({"tests": null}), json!({"tests": []})] {
        assert_eq!(of("```\nprint(1)\n```", &none).unwrap(), Score::abstain());
    }
    let error = of("```\nprint(1)\n```", &json!({"tests": [{"output": 1}]})).unwrap_err();
    assert_eq!(error.to_string(), r#"column "tests"[0].output is 1, expected a text"#);
}

#[test]
fn a_batch_is_scored_in_parallel_and_in_order() {
    let base = config(Language::Python, Sandbox::Strict);
    let Some(one) = open("a batch", &CodeReward { workers: Some(1), ..base.clone() }) else { return };
    let Some(many) = open("a batch", &CodeReward { workers: Some(7), ..base }) else { return };
    let columns = json!({"tests": [{"output": "0"}, {"output": "1"}, {"output": "2"}, {"assert": "assert kind == 1"}]});
    let completions: Vec<_> = (0..12).map(|i| format!("```\nkind = {}\nprint(kind)\n```", i % 4)).collect();
    let inputs: Vec<_> = (0..)
        .zip(&completions)
        .map(|(draw, text)| {
            RewardInput::new("", text, "").with_columns(&columns).with_place(draw / 3, draw as usize % 3, 1)
        })
        .collect();
    let expected: Vec<_> = (0..12).map(|i| tally([1, 2, 1, 0][i % 4], 4)).collect();
    assert_eq!(one.score_batch(&inputs).unwrap(), expected);
    assert_eq!(many.score_batch(&inputs).unwrap(), expected);
    let reversed: Vec<_> = inputs.iter().rev().copied().collect();
    assert_eq!(many.score_batch(&reversed).unwrap(), expected.into_iter().rev().collect::<Vec<_>>());
    let sum = RewardSum::of(vec![RewardTerm::new(2.0, many)]).unwrap();
    assert_eq!(sum.score_batch(&inputs[..2]).unwrap()[1].total, Some(1.0));
}
