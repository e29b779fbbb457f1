//! Data files of one's own: other column names, bad lines, no answers, folders, and problems on both sides.
#![allow(clippy::unwrap_used)]

use dapo_run::{Folder, Layer, Run, RunError, RunFolder, read_files, resolve};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const BASE: [&str; 9] = [
    "model.path=builtin:tiny",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=2",
    "sampler.gen_batch=8",
    "sampler.on_exhausted=keep-zero-std",
    "optimizer.warmup_steps=0",
    "train.steps=1",
    "data.deduplicate=false",
];

fn write(dir: &Path, name: &str, lines: &[String]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

/// A run on these data that was made.
fn run(dir: &Path, data: &Path, settings: &[&str]) -> Result<Run, RunError> {
    let train = format!("data.train={}", data.display());
    let all = BASE.iter().copied().chain([train.as_str()]).chain(settings.iter().copied());
    let layers: Vec<Layer> = all.map(|setting| Layer::Override(setting.to_owned())).collect();
    Run::create(&resolve(&layers).unwrap(), dir)
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sums() -> impl Iterator<Item = (String, u64)> + Clone {
    (1..=12).map(|i| (format!("{i}+{}=", 2 * i), 3 * i))
}

#[test]
fn columns_of_other_names_become_prompts_and_golds() {
    let temp = tempfile::tempdir().unwrap();
    let entry = |(question, sum): (String, u64)| {
        format!(
            "{{\"ask\": {{\"text\": \"{question}\"}}, \"gold\": {sum}, \"rule\": \"1+1=\", \
             \"pick\": [\"{sum}\", \"x\"], \"question\": \"?\", \"answer\": \"?\"}}"
        )
    };
    let data = write(temp.path(), "named.jsonl", &sums().map(entry).collect::<Vec<_>>());
    let names = ["data.fields.prompt=ask.text", "data.fields.answer=gold", "data.fields.system=rule"];
    let mut plain = run(&temp.path().join("plain"), &data, &names).unwrap();
    plain.step().unwrap();
    let completions = lines(&plain.folder().completions_file(1));
    assert!(completions.iter().all(|line| line["correct"].is_boolean()));
    assert!(completions.iter().any(|line| line["correct"] == true), "the golds are those of the column");
    let prompt = completions[0]["prompt"].as_str().unwrap();
    assert!(prompt.starts_with("1+1=") && prompt.contains('+') && !prompt.contains('?'), "{prompt}");
    let choices = run(&temp.path().join("choices"), &data, &[&names[..2], &["data.fields.choices=pick"]].concat());
    let files = read_files(choices.unwrap().config(), &rewards()).unwrap();
    assert!(files.train[0].messages[0].content.ends_with("=\nA. 3\nB. x"), "{:?}", files.train[0].messages);
    assert!(files.train.iter().all(|problem| problem.answer == "A"));
}

fn rewards() -> dapo_reward::RewardSum {
    resolve(&[]).unwrap().config.reward_sum().unwrap()
}

#[test]
fn bad_lines_and_placeholders_are_counted() {
    let temp = tempfile::tempdir().unwrap();
    let good = sums().map(|(question, sum)| format!("{{\"question\": \"{question}\", \"answer\": {sum}}}"));
    let proof = r#"{"question": "Prove it.", "answer": "proof"}"#.to_owned();
    let with_proof = write(temp.path(), "proof.jsonl", &good.clone().chain([proof.clone()]).collect::<Vec<_>>());
    let counts = run(&temp.path().join("a"), &with_proof, &[]).unwrap().counts();
    assert_eq!((counts.train, counts.left_out.placeholder, counts.left_out.total()), (12, 1, 1));
    // Among words it is one.
    let counts = run(&temp.path().join("b"), &with_proof, &["rewards.accuracy.grader=text"]).unwrap().counts();
    assert_eq!((counts.train, counts.left_out.total()), (13, 0));
    let with_bad = write(temp.path(), "bad.jsonl", &good.chain([proof, "{\"cut".to_owned()]).collect::<Vec<_>>());
    let error = run(&temp.path().join("c"), &with_bad, &[]).unwrap_err().to_string();
    assert!(error.contains("bad.jsonl:14: not JSON"), "{error}");
    let counts = run(&temp.path().join("c"), &with_bad, &["data.on_bad_line=skip"]).unwrap().counts();
    assert_eq!((counts.train, counts.left_out.placeholder, counts.left_out.syntax), (12, 1, 1));
}

#[test]
fn prompts_without_answers_are_trained_on_where_no_reward_needs_one() {
    let temp = tempfile::tempdir().unwrap();
    let bare: Vec<String> = sums().map(|(question, _)| format!("{{\"prompt\": \"{question}\"}}")).collect();
    let data = write(temp.path(), "bare.jsonl", &bare);
    let error = run(&temp.path().join("a"), &data, &[]).unwrap_err().to_string();
    assert!(
        error.contains(
            "bare.jsonl:1: no question and answer in the fields prompt (to train on others, set data.fields.prompt and "
        ),
        "{error}"
    );
    let shaped =
        ["rewards.accuracy.weight=0", "rewards.soft_overlong.max_len=40", "rewards.soft_overlong.cache_len=39"];
    let validation = format!("data.validation={}", data.display());
    let evaluated = [&shaped[..], &["eval.every=1", "eval.samples=2", &validation]].concat();
    let mut run = run(&temp.path().join("b"), &data, &evaluated).unwrap();
    assert_eq!((run.counts().unreadable, run.counts().overlap), (0, 12));
    run.evaluate_at_start().unwrap();
    run.step().unwrap();
    let metrics = &lines(&run.folder().path().join(RunFolder::METRICS))[0];
    assert!(metrics["accuracy"].is_null() && metrics.get("rewards/accuracy/mean").is_none());
    assert!(metrics["rewards/soft_overlong/mean"].as_f64().unwrap() < 0.0);
    let evaluation = &lines(&run.folder().path().join(RunFolder::EVALUATIONS))[0];
    assert!(evaluation["reward"]["mean"].is_number() && evaluation.get("avg_at_k").is_none(), "{evaluation}");
    // The groups are told apart by their reward, as nobody says what is correct.
    assert!(metrics["dynamic_sampling/trained"].as_u64().unwrap() > 0 && metrics["updates"].as_u64().unwrap() > 0);
}

#[test]
fn folders_name_their_files_and_problems_on_both_sides_are_counted() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    fs::create_dir(&folder).unwrap();
    let row = |(question, sum): (String, u64)| format!("{question},{sum}");
    write(&folder, "b.csv", &["question,answer".to_owned()].into_iter().chain(sums().map(row)).collect::<Vec<_>>());
    write(&folder, "a.jsonl", &["{\"question\": \"20+1=\", \"answer\": 21}".to_owned()]);
    let validation = write(
        temp.path(),
        "validation.jsonl",
        &["{\"question\": \"1+2=\", \"answer\": 3}".into(), "{\"question\": \"2+2=\", \"answer\": 4}".into()],
    );
    let validation = format!("data.validation={}", validation.display());
    let run = run(&temp.path().join("run"), &folder, &[&validation]).unwrap();
    let expected = Folder { name: folder.display().to_string(), files: vec!["a.jsonl".into(), "b.csv".into()] };
    assert_eq!(run.data_folders(), [expected]);
    let counts = run.counts();
    assert_eq!((counts.train, counts.validation, counts.overlap), (13, 2, 1));
}
