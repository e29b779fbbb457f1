//! `dapo eval`.

use crate::{Run, TINY_MODEL, additions, dapo, file, folder, path};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

fn eval(data: &str, more: &[&str]) -> Value {
    let mut args = vec!["eval", "--model", TINY_MODEL, "--data", data, "--max-tokens", "72", "--json"];
    args.extend(more);
    let mut report = dapo(&args).success().json_lines().pop().unwrap();
    assert!(report["seconds"].take().as_f64().unwrap() > 0.0);
    report
}

/// Rounds every number to four digits, as the table does.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => json!((n.as_f64().unwrap() * 1e4).round() / 1e4),
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), rounded(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn reports_one_json_object() {
    let data = additions();
    let report = eval(path(&data), &["--samples", "4", "--limit", "6"]);
    let interval = |low: f64, mean: f64, high: f64| json!({ "mean": mean, "low": low, "high": high });
    let pass = |k: usize, low: f64, mean: f64, high: f64| json!({ "k": k, "mean": mean, "low": low, "high": high });
    let problem = |id: &str, right: usize, maj: f64| json!({ "id": id, "right": right, "samples": 4, "maj": maj });
    let expected = json!({
        "model": TINY_MODEL,
        "data": path(&data),
        "too_long": 0,
        "temperature": 1.0,
        "top_p": 0.7,
        "max_tokens": 72,
        "seed": 0,
        "problems": 6,
        "samples": 4,
        "abstained": 0,
        "avg_at_k": interval(0.0645, 0.2917, 0.7109),
        "pass_at": [
            pass(1, 0.0645, 0.2917, 0.7109),
            pass(2, 0.0977, 0.3889, 0.7889),
            pass(4, 0.1876, 0.5, 0.8124),
        ],
        "maj_at_k": interval(0.0968, 0.3333, 0.7),
        "truncated": 0.0,
        "mean_length": 13.8333,
        "per_problem": [
            problem("1", 1, 0.0),
            problem("2", 0, 0.0),
            problem("3", 0, 0.0),
            problem("4", 2, 1.0),
            problem("5", 0, 0.0),
            problem("6", 4, 1.0),
        ],
        "seconds": null,
    });
    assert_eq!(rounded(&report), expected);
}

#[test]
fn is_a_function_of_the_seed() {
    let data = additions();
    let report = |seed| eval(path(&data), &["--samples", "2", "--temperature", "3", "--seed", seed]);
    assert_eq!(report("1"), report("1"));
    assert_ne!(report("1")["mean_length"], report("2")["mean_length"]);
}

#[test]
fn judges_with_the_profile_asked_for() {
    let data = additions();
    // The tiny model writes `####` before its answers, and never a box.
    let solved = |profile| eval(path(&data), &["--top-p", "1", "--extract", profile]);
    assert!(solved("hash")["avg_at_k"]["mean"].as_f64().unwrap() > 0.0);
    assert_eq!(solved("boxed")["avg_at_k"]["mean"], 0.0);
}

#[test]
fn prints_a_table_and_says_what_was_left_out() {
    let long = "1+".repeat(120);
    let data = file(&format!(
        "{{\"question\": \"3+4=\", \"answer\": \"7\"}}\n{{\"question\": \"5+6=\", \"answer\": \"\\\\frac{{1}}{{\"}}\n\
         {{\"question\": \"{long}\", \"answer\": \"0\"}}\n"
    ));
    let run = dapo(&["eval", "--model", TINY_MODEL, "--data", path(&data), "--samples", "2", "-v"]).success();
    let (table, time) = run.stdout.trim_end().rsplit_once('\n').unwrap();
    let expected = format!(
        "\
model        {TINY_MODEL}
data         {}
sampling     temperature 1, top-p 0.7, at most 128 tokens, seed 0
left out     1 too long
problems     2, 2 completions each
unreadable   1 gold answers
             mean    95 % interval
avg@2        0.2500  0.0012 to 0.9897
pass@1       0.2500  0.0012 to 0.9897
pass@2       0.5000  0.0945 to 0.9055
maj@2        0.2500  0.0012 to 0.9897
truncated    0.0000
mean length  19.0 tokens",
        path(&data)
    );
    assert_eq!(table, expected);
    assert!(time.starts_with("time         ") && time.ends_with(" s"), "{time}");
    for said in [
        "warning: 1 of 3 problems left out, longer than 128 tokens",
        "warning: 1 of 2 gold answers cannot be read",
        "problem 1: 1 of 2 correct, majority 0.50",
        "M parameters",
    ] {
        assert!(run.stderr.contains(said), "no {said:?} in {}", run.stderr);
    }
}

#[test]
fn writes_every_completion_to_a_new_file() {
    let (data, folder) = (additions(), folder());
    let log = folder.path().join("completions.jsonl");
    let log = log.to_str().unwrap();
    let args = ["eval", "--model", TINY_MODEL, "--data", path(&data), "--json"];
    let more = ["--samples", "3", "--max-tokens", "12", "--top-p", "1", "--completions", log];
    let report = &dapo(&[args.as_slice(), &more].concat()).success().json_lines()[0];
    let lines = fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<_> = lines.iter().map(|l| (l["id"].as_str().unwrap(), l["sample"].as_u64().unwrap())).collect();
    let expected = ["1", "2", "3", "4", "5", "6", "7", "8"].into_iter().flat_map(|id| (0..3).map(move |i| (id, i)));
    assert_eq!(places, expected.collect::<Vec<_>>());

    let mut right: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &lines {
        let text = line["completion"].as_str().unwrap();
        let tokens = line["tokens"].as_u64().unwrap();
        assert!(if line["finish_reason"] == "length" { tokens == 12 } else { tokens <= 12 }, "{line}");
        if let Some((_, answer)) = text.rsplit_once("####") {
            assert_eq!(line["extracted"], answer, "{line}");
            assert_eq!(line["rule"], "hash", "{line}");
            assert_eq!(line["correct"], line["extracted"] == line["gold"], "{line}");
        }
        *right.entry(line["id"].as_str().unwrap()).or_default() += u64::from(line["correct"] == true);
    }
    let reported = report["per_problem"].as_array().unwrap();
    assert!(reported.iter().all(|p| p["right"] == right[p["id"].as_str().unwrap()]), "{report}");

    let before = fs::read(log).unwrap();
    let again = ["eval", "--model", TINY_MODEL, "--data", path(&data), "--completions", log];
    dapo(&again).failure(1, &["error: ", log, "given for --completions", "exists"]);
    assert_eq!(fs::read(log).unwrap(), before);
}

#[test]
fn a_long_evaluation_says_how_far_it_is() {
    let data = additions();
    // 300 completions of a problem are more than a block.
    let args =
        ["eval", "--model", TINY_MODEL, "--data", path(&data), "--max-tokens", "8", "--samples", "300", "--limit", "2"];
    let run = dapo(&args).success();
    let said: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(said[0], "2 problems, 300 completions each ...");
    assert!(said[1].starts_with("1 of 2 problems after ") && said[1].contains(" truncated"), "{said:?}");
    assert_eq!(said.len(), 2, "the end is told by the table");
    assert_eq!(dapo(&[args.as_slice(), &["-q"]].concat()).success().stderr, "");
}

#[test]
fn does_not_depend_on_the_number_of_threads() {
    let data = additions();
    let report = |threads: &str| {
        let args =
            ["eval", "--model", TINY_MODEL, "--data", path(&data), "--samples", "4", "--max-tokens", "72", "--json"];
        let output = Command::new(env!("CARGO_BIN_EXE_dapo")).args(args).env("RAYON_NUM_THREADS", threads).output();
        let mut report: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        report["seconds"].take();
        report
    };
    assert_eq!(report("1"), report("3"));
}

/// Completions are worth their length; those of an even number of tokens are correct.
#[cfg(unix)]
const EVEN: &str = r#"
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  rewards=$(printf '%s' "$line" | grep -o '"num_tokens":[0-9]*' | sed 's/.*://' | while read -r n; do
    if [ $((n % 2)) = 0 ]; then correct=true; else correct=false; fi
    printf '{"value": %s, "correct": %s}\n' "$n" "$correct"
  done | paste -sd, -)
  printf '{"id": %s, "rewards": [%s]}\n' "$id" "$rewards"
done
"#;

#[cfg(unix)]
#[test]
fn judges_by_the_rewards_of_a_file_or_a_run() {
    let (data, folder) = (additions(), folder());
    fs::write(folder.path().join("even.sh"), EVEN).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let short = "[rewards.short]\nkind = 'length'\nmax = 40\nweight = 0.5\n";
    let plain = eval(path(&data), &["--samples", "4"]);
    let mean = |value: &Value| value["mean"].as_f64().unwrap();

    // Accuracy judges as it does without rewards.
    let log = folder.path().join("completions.jsonl");
    let log = log.to_str().unwrap();
    let file = write("short.toml", short);
    let report = eval(path(&data), &["--samples", "4", "--rewards", &file, "--completions", log]);
    for name in ["avg_at_k", "pass_at", "maj_at_k", "mean_length"] {
        assert_eq!(report[name], plain[name], "{name}");
    }
    let lines = fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_lines = |value: &dyn Fn(&Value) -> f64| lines.iter().map(value).sum::<f64>() / lines.len() as f64;
    let is = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    let is_short = |line: &Value| f64::from(line["completion"].as_str().unwrap().chars().count() <= 40);
    is(mean(&report["rewards"]["short"]), of_lines(&is_short));
    is(mean(&report["rewards"]["accuracy"]), 2.0 * mean(&report["avg_at_k"]) - 1.0);
    is(mean(&report["reward"]), mean(&report["rewards"]["accuracy"]) + 0.5 * mean(&report["rewards"]["short"]));
    is(of_lines(&|line| line["reward"].as_f64().unwrap()), mean(&report["reward"]));
    is(of_lines(&|line| line["rewards"]["short"].as_f64().unwrap()), mean(&report["rewards"]["short"]));
    assert!(report["rewards"]["short"]["low"].as_f64().unwrap() <= mean(&report["rewards"]["short"]));

    // The reward that is named judges.
    let own = format!("rewards.correct = 'mine'\n{short}[rewards.mine]\ncommand = ['sh', 'even.sh']\n");
    let file = write("own.toml", &own);
    let report = eval(path(&data), &["--samples", "4", "--rewards", &file]);
    let even = |line: &Value| f64::from(line["tokens"].as_u64().unwrap().is_multiple_of(2));
    is(mean(&report["avg_at_k"]), of_lines(&even));
    is(mean(&report["rewards"]["mine"]), of_lines(&|line| line["tokens"].as_u64().unwrap() as f64));
    assert!(report["rewards"].get("accuracy").is_none() && report["maj_at_k"].is_object());

    // A run that trained with them evaluates with them.
    let out = folder.path().join("run");
    let small = [
        "rewards.soft_overlong=none",
        "sampler.train_batch=2",
        "rollout.group_size=2",
        "sampler.dynamic=false",
        "train.steps=1",
        "eval.every=none",
    ];
    let out = out.to_str().unwrap();
    dapo(&[&["train", "tiny", &file, "--out", out, "-q"][..], &small].concat()).success();
    assert_eq!(eval(path(&data), &["--samples", "4", "--rewards", out]), report);

    // Nothing says what is correct, and no problem has an answer.
    let silent = write("silent.toml", &own.replace("rewards.correct = 'mine'\n", "").replace("even.sh", "value.sh"));
    write("value.sh", &EVEN.replace(", \"correct\": %s}\\n' \"$n\" \"$correct\"", "}\\n' \"$n\""));
    let prompts = crate::file("{\"prompt\": \"1+2=\"}\n{\"prompt\": \"3+4+5=\"}\n");
    let report = eval(path(&prompts), &["--samples", "2", "--rewards", &silent]);
    assert!(report["reward"]["mean"].is_number() && report["rewards"]["mine"]["mean"].is_number(), "{report}");
    assert!(["avg_at_k", "pass_at", "maj_at_k"].iter().all(|name| report.get(*name).is_none()), "{report}");
    let args = ["eval", "--model", TINY_MODEL, "--data", path(&prompts), "--samples", "2", "--rewards", &silent];
    let table = dapo(&args).success();
    assert!(table.stdout.contains("\n  mine       ") && !table.stdout.contains("avg@"), "{}", table.stdout);
    assert!(!table.stderr.contains("cannot be read"), "{}", table.stderr);
}

#[cfg(unix)]
#[test]
fn faults_of_rewards_end_an_evaluation_or_are_shown() {
    let (data, folder) = (additions(), folder());
    let args =
        ["eval", "--model", TINY_MODEL, "--data", path(&data), "--samples", "1", "--max-tokens", "8", "--rewards"];
    let eval = |text: &str| {
        let path = folder.path().join("own.toml");
        fs::write(&path, text).unwrap();
        dapo(&[&args[..], &[path.to_str().unwrap()]].concat())
    };
    let own = "[rewards.mine]\ncommand = ['sh', '-c', 'while read -r line; do echo nonsense; done']\n";
    eval(own).failure(1, &["mine", "nonsense"]);
    let run = eval(&format!("{own}on_error = 'abstain'\n[rewards.accuracy]\n")).success();
    assert!(run.stderr.contains("warning: rewards.mine: step 0: the reply is \"nonsense\""), "{}", run.stderr);
    eval("[rewards.mine]\ncommand = ['./no-such-program']\n")
        .failure(1, &["--rewards", "rewards.mine", "no-such-program"]);
    dapo(&[&args[..], &[folder.path().to_str().unwrap()]].concat()).failure(1, &["config.resolved.toml"]);
    dapo(&[&args[..], &["a.toml", "--grader", "text"]].concat()).failure(2, &["--rewards", "--grader"]);
}

#[test]
fn an_interrupted_evaluation_continues_to_the_byte() {
    let (data, folder) = (additions(), folder());
    let path_of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (whole, torn) = (path_of("whole.jsonl"), path_of("torn.jsonl"));
    let args = |file: &str, more: &[&str]| -> Vec<String> {
        let args = [
            "eval",
            "--model",
            TINY_MODEL,
            "--data",
            path(&data),
            "--json",
            "--max-tokens",
            "12",
            "--completions",
            file,
        ];
        args.iter().chain(more).map(|&arg| arg.to_owned()).collect()
    };
    let eval = |file: &str, more: &[&str]| dapo(&args(file, more).iter().map(String::as_str).collect::<Vec<_>>());
    // 200 completions of a problem: two problems make a block.
    let settings = ["--samples", "200"];
    let report = |run: Run| {
        let mut report = run.success().json_lines().remove(0);
        report["seconds"].take();
        report
    };
    let expected = report(eval(&whole, &settings));
    assert!(!fs::exists(path_of("whole.jsonl.partial")).unwrap());

    // Killed once some problems are written.
    let mut child = Command::new(env!("CARGO_BIN_EXE_dapo")).args(args(&torn, &settings)).spawn().unwrap();
    while fs::metadata(&torn).map_or(0, |file| file.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (state, file) = (path_of("torn.jsonl.partial"), fs::read(&torn).unwrap());
    assert!(file.len() < fs::read(&whole).unwrap().len(), "it was finished");
    let begun = fs::read(&state).unwrap();

    // Other settings, problems or models are refused, and so is a file that was changed.
    let other = additions_but_one();
    for (more, said) in [
        (&["--samples", "200", "--seed", "5"][..], "had seed 0, expected 5 as now"),
        (&["--samples", "200", "--temperature", "0.5"], "had sampling "),
        (&["--samples", "100"], "had samples 200, expected 100 as now"),
        (&["--samples", "200", "--grader", "text"], "had judge "),
        (&["--samples", "200", "--data", path(&other)], "had problems "),
    ] {
        let more: Vec<&str> = more.to_vec();
        let mut args = args(&torn, &more);
        if more.contains(&"--data") {
            args.drain(3..5);
        }
        dapo(&args.iter().map(String::as_str).collect::<Vec<_>>()).failure(1, &[&torn, said]);
    }
    let mut changed = file.clone();
    changed[20] ^= 1;
    fs::write(&torn, changed).unwrap();
    eval(&torn, &settings).failure(1, &[&torn, "it was changed"]);
    fs::write(&torn, &file).unwrap();
    assert!(fs::read(&state).unwrap() == begun);

    // A torn last line of either file.
    for (path, content) in [(&torn, &file), (&state, &begun)] {
        fs::write(path, [content, &br#"[{"completion"#[..]].concat()).unwrap();
    }
    fs::write(&torn, &file[..file.len() - 7]).unwrap();
    let run = eval(&torn, &settings);
    assert!(run.stderr.contains("problems are completed already"), "{}", run.stderr);
    assert_eq!(report(run), expected);
    assert!(fs::read(&torn).unwrap() == fs::read(&whole).unwrap());
    assert!(!fs::exists(&state).unwrap());
    eval(&torn, &settings)
        .failure(1, &[&torn, "the file exists, expected a new one, or one of an interrupted evaluation"]);
}

fn additions_but_one() -> tempfile::NamedTempFile {
    let text = fs::read_to_string(additions().path()).unwrap();
    file(&text.lines().skip(1).collect::<Vec<_>>().join("\n"))
}

#[test]
fn columns_of_other_names_are_those_of_flags_or_of_the_run() {
    let (data, folder) = (additions(), folder());
    let text = fs::read_to_string(data.path()).unwrap();
    let renamed = file(&text.replace("\"question\"", "\"q\"").replace("\"answer\"", "\"final\""));
    let same = |mut report: Value| {
        report["data"] = path(&data).into();
        report
    };
    let few = ["--samples", "2", "--limit", "3"];
    let expected = eval(path(&data), &few);
    let named = ["--field", "prompt=q", "--field", "answer=final"];
    assert_eq!(same(eval(path(&renamed), &[&few[..], &named].concat())), expected);
    let args = ["eval", "--model", TINY_MODEL, "--data", path(&renamed), "--samples", "1"];
    let said = ["no question and answer in the fields", "--field KEY=COLUMN names the columns"];
    dapo(&args).failure(1, &said);
    dapo(&[&args[..], &["--field", "question=q"]].concat()).failure(2, &["expected prompt, answer, system or choices"]);
    let both = ["--field", "system=q", "--system", "Add."];
    dapo(&[&args[..], &both].concat()).failure(1, &["--field system is set, expected unset beside --system"]);

    // Settings whose rewards judge name them too, ...
    let settings = folder.path().join("own.toml");
    fs::write(&settings, "[data.fields]\nprompt = 'q'\nanswer = 'final'\n").unwrap();
    let settings = settings.to_str().unwrap();
    let by_settings = eval(path(&renamed), &[&few[..], &["--rewards", settings]].concat());
    assert_eq!(by_settings["avg_at_k"], expected["avg_at_k"]);

    // ... and the settings of the run that the model is from, for a checkpoint as for the run.
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    let train = format!("data.train={}", path(&renamed));
    let small = ["sampler.train_batch=2", "rollout.group_size=2", "sampler.dynamic=false", "train.steps=1"];
    let more = ["eval.every=none", "--out", out, "-q"];
    dapo(&[&["train", "tiny", settings, &train][..], &small, &more].concat()).success();
    let checkpoint = format!("{out}/checkpoints/step-1");
    let of = |model: &str, data: &str| {
        dapo(&[
            "eval",
            "--model",
            model,
            "--data",
            data,
            "--samples",
            "2",
            "--limit",
            "3",
            "--max-tokens",
            "72",
            "--json",
        ])
    };
    let [by_run, by_checkpoint, known] =
        [of(out, path(&renamed)), of(&checkpoint, path(&renamed)), of(out, path(&data))].map(Run::success);
    let figures = |run: &Run| run.json_lines().pop().unwrap()["per_problem"].clone();
    assert_eq!(figures(&by_run), figures(&by_checkpoint));
    // A file without these columns is read by its known layout.
    assert_eq!(figures(&by_run), figures(&known));
    assert!(known.stderr.contains("data.fields of the settings do not apply"), "{}", known.stderr);
    assert!(!by_run.stderr.contains("do not apply"), "{}", by_run.stderr);
}
