//! Gold answers of public problem sets are accepted as their own answers, and not with a changed digit.
//!
//! The final answers of GSM8K, MAWPS and SVAMP lie under `testdata/answers/golds/`. Those of MATH-500 do not: the
//! environment variable `DAPO_MATH500` names its file of JSON lines, or a folder of such files.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use dapo_reward::{Gold, Verdict, VerifyConfig};
use serde_json::Value;

fn completions(gold: &str) -> [String; 5] {
    [
        format!("So we get $\\boxed{{{gold}}}$."),
        format!("Final Answer: The final answer is ${gold}$. I hope it is correct."),
        format!("We are done.\n#### {gold}"),
        format!("The answer is ${gold}$."),
        format!("<answer>{gold}</answer>"),
    ]
}

/// The completions that announce the gold and yet are not judged correct.
fn refused(gold: &str) -> Vec<String> {
    let judge = Gold::new(gold, &VerifyConfig::default());
    let is_refused = |completion: &String| judge.verify(completion).verdict != Verdict::Correct;
    completions(gold).into_iter().filter(is_refused).collect()
}

fn are_accepted_as_their_own_answers(name: &str, least: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/answers/golds").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.lines().count() >= least);
    for gold in text.lines() {
        assert_eq!(refused(gold), Vec::<String>::new(), "{gold}");
        let judge = Gold::new(gold, &VerifyConfig::default());
        for (at, digit) in gold.char_indices().filter(|(_, c)| c.is_ascii_digit()).take(6) {
            let other = if digit == '9' { '1' } else { char::from(digit as u8 + 1) };
            let changed = format!("{}{other}{}", &gold[..at], &gold[at + 1..]);
            for completion in completions(&changed) {
                assert_ne!(judge.verify(&completion).verdict, Verdict::Correct, "{gold}: {completion}");
            }
        }
    }
}

#[test]
fn golds_of_gsm8k_are_accepted_as_their_own_answers() {
    are_accepted_as_their_own_answers("gsm8k.txt", 900);
}

#[test]
fn golds_of_mawps_are_accepted_as_their_own_answers() {
    are_accepted_as_their_own_answers("mawps.txt", 400);
}

#[test]
fn golds_of_svamp_are_accepted_as_their_own_answers() {
    are_accepted_as_their_own_answers("svamp.txt", 250);
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

#[test]
fn golds_of_math_500_are_accepted_as_their_own_answers() {
    // Past the harness, which keeps what a passing test prints to itself.
    let say = |text: &str| writeln!(std::io::stderr(), "{text}").expect("standard error");
    let Some(path) = env::var_os("DAPO_MATH500") else {
        say("SKIPPED: DAPO_MATH500 names no file or folder, so the golds of MATH-500 are not checked");
        return;
    };
    let (mut golds, mut failed) = (0, Vec::new());
    for file in files(Path::new(&path)) {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).expect("a JSON object a line");
            let gold = row["answer"].as_str().expect("an answer");
            golds += 1;
            let refused = refused(gold);
            if !refused.is_empty() {
                failed.push(format!("{}: {gold:?}: {refused:?}", row["unique_id"]));
            }
        }
    }
    say(&format!("MATH-500: {} of {golds} golds are accepted as their own answers", golds - failed.len()));
    assert!(golds > 0, "no golds in {}", path.display());
    assert!(failed.is_empty(), "{} golds are refused:\n{}", failed.len(), failed.join("\n"));
}
