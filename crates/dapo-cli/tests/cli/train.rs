//! `dapo train`.

use crate::{additions, dapo, file, folder, path};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Settings small enough for a test.
const SMALL: [&str; 7] = [
    "tiny",
    "sampler.train_batch=2",
    "rollout.group_size=6",
    "optimizer.lr=1e-4",
    "eval.every=none",
    "seed=3",
    "output.checkpoint_every=2",
];

fn train<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    [&["train"], &SMALL[..], settings].concat()
}

#[test]
fn trains_a_model_that_can_be_evaluated() {
    let (data, folder) = (additions(), folder());
    let out = folder.path().join("runs/a");
    let dir = out.to_str().unwrap();
    let own = format!("data.train={}", path(&data));
    let args = train(&["train.steps=2", &own, "--out", dir]);
    let run = dapo(&args).success();
    let model = run.stdout.trim_end();
    assert_eq!(model, out.join("checkpoints/step-2/model").to_str().unwrap());
    assert!(
        run.stderr.contains("8 problems to train on, 512 for evaluation from builtin:addition\n"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("step 2/2: "), "{}", run.stderr);

    let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = metrics.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2]);
    assert!(metrics[0]["num_tokens"].as_u64() < metrics[1]["num_tokens"].as_u64());
    let names = [
        "reward",
        "rewards/accuracy/mean",
        "rewards/soft_overlong/mean",
        "entropy",
        "mean_token_prob",
        "completions/mean_length",
        "clip_ratio/high_mean",
        "sampling/logp_difference/max",
        "dynamic_sampling/trained",
    ];
    assert!(names.iter().all(|name| metrics[0][name].is_number()), "{}", metrics[0]);
    let timings = fs::read_to_string(out.join("timings.jsonl")).unwrap();
    assert_eq!(timings.lines().count(), 2);

    let completions = fs::read_to_string(out.join("completions/step-1.jsonl")).unwrap();
    let completions: Vec<Value> = completions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let generated = metrics[0]["dynamic_sampling/generated"].as_u64().unwrap();
    assert_eq!(completions.len() as u64, 6 * generated);
    for line in &completions {
        assert_eq!(line["advantage"].is_null(), line["fate"] != "trained", "{line}");
        assert!(["stop", "length"].contains(&line["finish_reason"].as_str().unwrap()), "{line}");
        let text = line["completion"].as_str().unwrap();
        if let Some((_, answer)) = text.rsplit_once("####").filter(|(_, answer)| !answer.trim().is_empty()) {
            assert_eq!((&line["extracted"], &line["rule"]), (&json!(answer), &json!("hash")), "{line}");
            assert_eq!(line["correct"] == true, line["extracted"] == line["answer"], "{line}");
        }
    }
    assert!(completions.iter().any(|line| line["rule"] == "hash") && completions[0]["answer"].is_string());

    let eval = |model: &str| {
        let args = ["eval", "--model", model, "--data", path(&data), "--samples", "2", "--max-tokens", "72", "--json"];
        let mut report = dapo(&args).success().json_lines().remove(0);
        assert_eq!(report["problems"], 8);
        for name in ["model", "seconds"] {
            report[name] = Value::Null;
        }
        report
    };
    assert_eq!(eval(model), eval(dir), "a run's folder stands for its last checkpoint");

    let before = fs::read(out.join("metrics.jsonl")).unwrap();
    dapo(&args).failure(
        1,
        &["error: ", dir, "not empty, expected a new or empty folder; to continue the run in it: dapo train --resume "],
    );
    assert_eq!(fs::read(out.join("metrics.jsonl")).unwrap(), before);
}

#[test]
fn a_killed_run_resumes_as_if_it_had_not_been() {
    let folder = folder();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let (whole, killed) = (whole.to_str().unwrap(), killed.to_str().unwrap());
    dapo(&train(&["train.steps=6", "--out", whole])).success();

    let mut child = Command::new(env!("CARGO_BIN_EXE_dapo"))
        .args(train(&["train.steps=6", "--out", killed]))
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let reached = stderr.lines().map_while(Result::ok).any(|line| line.starts_with("step 3/6: "));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(reached && !Path::new(killed).join("checkpoints/step-6").exists());

    let run = dapo(&["train", "--resume", killed]).success();
    assert!(run.stderr.contains("continuing after step "), "{}", run.stderr);
    assert_eq!(files(whole), files(killed));
    // Nothing is left to do; with more steps, there is.
    let run = dapo(&["train", "--resume", killed]).success();
    assert!(run.stderr.contains("6 steps are made and train.steps is 6"), "{}", run.stderr);
    dapo(&["train", "--resume", killed, "train.steps=7"]).success();
    dapo(&["train", "--resume", killed, "grpo"]).failure(1, &["grpo is given with --resume"]);
}

/// A training with `settings` that gets a signal after the first lines of stderr with `after` in them; the rest of
/// stderr, and the exit code.
#[cfg(unix)]
fn signalled(settings: &[&str], after: &str, signals: &[&str]) -> (String, Option<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dapo"))
        .args(train(settings))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with(after)), "the run ended before");
    // In the middle of a step.
    std::thread::sleep(std::time::Duration::from_millis(50));
    for signal in signals {
        let status = Command::new("kill").args([*signal, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let rest = lines.collect::<Vec<_>>().join("\n");
    (rest, child.wait().unwrap().code())
}

/// Settings whose steps take a while, and whose only scheduled checkpoint is the last.
#[cfg(unix)]
fn slow(out: &str) -> [&str; 6] {
    let sizes = ["rollout.group_size=32", "sampler.train_batch=12", "sampler.gen_batch=16"];
    [sizes[0], sizes[1], sizes[2], "train.steps=12", "output.checkpoint_every=0", out]
}

#[cfg(unix)]
#[test]
fn a_signal_in_the_middle_of_a_step_loses_no_step_and_the_resumed_run_is_equal() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let whole = path("whole");
    dapo(&train(&slow(&format!("--out={whole}")))).success();
    for (signal, name, code) in [("-INT", "SIGINT", 130), ("-TERM", "SIGTERM", 143), ("-HUP", "SIGHUP", 129)] {
        let out = path(name);
        let (stderr, found) = signalled(&slow(&format!("--out={out}")), "step 2/12: ", &[signal]);
        assert_eq!(found, Some(code), "{stderr}");
        let (_, said) = stderr.split_once(&format!("{name} after step ")).unwrap();
        let (step, said) = said.split_once(' ').unwrap();
        assert_eq!(said, format!("of 12; to continue: dapo train --resume {out}"));
        let step: u64 = step.parse().unwrap();
        assert!(step >= 2 && !stderr.contains(&format!("step {}/12: ", step + 1)), "{stderr}");
        assert!(Path::new(&out).join(format!("checkpoints/step-{step}/manifest.json")).exists());
        let run = dapo(&["train", "--resume", &out]).success();
        assert!(run.stderr.contains(&format!("continuing after step {step}\n")), "{}", run.stderr);
        assert_eq!(files(&whole), files(&out));
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_run_at_once_and_it_resumes_all_the_same() {
    let folder = folder();
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    // Steps that take long.
    let slow = ["train.steps=3", "sampler.train_batch=64", "rollout.group_size=64", "rollout.max_new_tokens=200"];
    let more = ["sampler.gen_batch=64", "rewards.soft_overlong=", "--out", out];
    let (stderr, code) = signalled(&[&slow[..], &more].concat(), "8192 problems", &["-TERM", "-TERM"]);
    assert_eq!(code, Some(143), "{stderr}");
    assert!(!stderr.contains("to continue") && !stderr.contains("step 1/3"), "{stderr}");
    let run =
        dapo(&["train", "--resume", out, "train.steps=1", "rollout.group_size=4", "sampler.train_batch=2"]).success();
    assert!(run.stderr.contains("there is no checkpoint yet"), "{}", run.stderr);
}

#[test]
fn a_damaged_checkpoint_is_refused_by_every_command_and_an_earlier_one_is_offered() {
    let (data, folder) = (additions(), folder());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (run, whole) = (path("run"), path("whole"));
    for out in [&run, &whole] {
        dapo(&train(&["train.steps=4", "--out", out])).success();
    }
    let weights = Path::new(&run).join("checkpoints/step-4/model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 0x40;
    fs::write(&weights, bytes).unwrap();
    let said = ["step-4/model/model.safetensors: damaged", "the newest intact checkpoint is "];
    dapo(&["eval", "--model", &run, "--data", crate::path(&data)]).failure(1, &said);
    dapo(&["generate", "--model", &run, "1+1="]).failure(1, &said);
    dapo(&["chat", "--model", &run]).failure(1, &said);
    dapo(&["export", &run, "--out", &path("exported")]).failure(1, &said);
    dapo(&["train", "--resume", &run]).failure(1, &[said[0], "--from-step 2"]);
    dapo(&["train", "--from-step", "2"]).failure(2, &["--resume"]);
    dapo(&["train", "--resume", &run, "--from-step", "2"]).success();
    assert_eq!(files(&whole), files(&run));

    // One of an older version.
    fs::remove_file(Path::new(&run).join("checkpoints/step-4/manifest.json")).unwrap();
    let said = ["manifest.json: missing", "--trust-unverified accepts a checkpoint of an older version"];
    dapo(&["generate", "--model", &run, "1+1="]).failure(1, &said);
    dapo(&["train", "--resume", &run, "train.steps=5"]).failure(1, &said);
    dapo(&["generate", "--model", &run, "--max-tokens", "4", "--trust-unverified", "1+1="]).success();
    dapo(&["train", "--resume", &run, "train.steps=5", "--trust-unverified"]).success();
}

/// A hash of every file but the timings.
fn files(dir: &str) -> BTreeMap<String, Vec<u8>> {
    let mut open = vec![Path::new(dir).to_owned()];
    let mut files = BTreeMap::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("timings.jsonl") {
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn adapters_are_trained_exported_and_merged() {
    let (data, folder) = (additions(), folder());
    let (run, out) = (folder.path().join("run"), folder.path().join("exported"));
    let (run, out) = (run.to_str().unwrap(), out.to_str().unwrap());
    let stdout = dapo(&train(&["lora.rank=4", "optimizer.lr=1e-3", "train.steps=2", "--out", run])).success().stdout;
    let adapter = stdout.trim_end();
    assert!(adapter.ends_with("checkpoints/step-2/adapter"), "{adapter}");
    dapo(&["export", run, "--out", out]).success();
    assert!(!Path::new(out).join("adapter_config.json").exists());
    let accuracy = |model: &str| {
        let greedy = ["--samples", "1", "--temperature", "0", "--max-tokens", "72", "--json"];
        let args = [&["eval", "--model", model, "--data", path(&data)], &greedy[..]].concat();
        dapo(&args).success().json_lines()[0]["avg_at_k"].clone()
    };
    assert_eq!(accuracy(adapter), accuracy(out));
    dapo(&["export", run, "--out", out]).failure(1, &["is not empty"]);
    let half = folder.path().join("half");
    dapo(&["export", run, "--dtype", "bf16", "--out", half.to_str().unwrap()]).success();
    let size = |dir: &Path| fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert!(size(&half) < size(Path::new(out)) * 6 / 10);
    assert!(fs::read_to_string(half.join("config.json")).unwrap().contains("\"bfloat16\""));
}

#[test]
fn a_failure_at_the_start_leaves_no_folder() {
    let folder = folder();
    let out = folder.path().join("run");
    let fails = |settings: &[&str], said: &[&str]| {
        dapo(&[&train(settings)[..], &["--out", out.to_str().unwrap()]].concat()).failure(1, said);
        assert!(!out.exists());
    };
    fails(&["model.path=no/such/model"], &["error: model no/such/model not found, expected a folder, a GGUF file"]);
    fails(&["rollout.temperature=0"], &["command line", "rollout.temperature is 0, expected a finite number above 0"]);
    fails(
        &["rollout.max_new_tokens=300"],
        &["rollout.max_new_tokens is 300, expected less than the model's context of 256"],
    );
    fails(&["optimizer.learning_rate=1"], &["optimizer.learning_rate", "optimizer.lr"]);
    fails(&["optimizer.lr=fast"], &["optimizer.lr"]);
    fails(&["tinny"], &["tinny", "tiny"]);
    fails(
        &["data.train=missing.jsonl"],
        &["data.train is ", "missing.jsonl\", which is not there, expected a file or"],
    );
    let beside = tempfile::tempdir().unwrap();
    fs::write(beside.path().join("train.jsonl"), "").unwrap();
    let misspelt = format!("data.validation={}", beside.path().join("trian.jsonl").display());
    fails(&[&misspelt], &["data.validation is ", "trian.jsonl\", which is not there", "did you mean train.jsonl?"]);
    fails(
        &["eval.every=1", "data.validation=[]"],
        &["eval.every is 1, expected unset, or problems in data.validation"],
    );
    fails(&["rewards.soft_overlong.cache_len=100"], &["rewards.soft_overlong.cache_len is 100"]);
    fails(&["lora.rank=2", "lora.targets=[\"q\"]"], &["lora.targets is [\"q\"]", "q_proj"]);
    fails(&["sampler.metric=format"], &["sampler.metric is format", "accuracy, soft_overlong"]);
}

#[test]
fn a_dry_run_tells_what_would_happen_and_does_nothing() {
    let run = dapo(&train(&["train.steps=5", "--dry-run"])).success();
    for text in ["steps = 5", "command line", "recipe tiny", "default", "memory", "checkpoint"] {
        assert!(run.stdout.contains(text), "no {text:?} in {}", run.stdout);
    }
    assert_eq!(run.stderr, "");
}

#[test]
fn what_the_data_hold_is_said_at_the_start_and_in_a_dry_run() {
    let dir = folder();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("b.csv"), "question,answer\n5+5=,10\n17+4=,21\n9+9=,proof\n").unwrap();
    fs::write(data.join("a.jsonl"), "{\"question\": \"1+2=\", \"answer\": 3}\nnonsense\n").unwrap();
    let validation = file("{\"question\": \"5+5=\", \"answer\": 10}\n{\"question\": \"2+2=\", \"answer\": 4}\n");
    let (train, validation) =
        (format!("data.train={}", path_of(&data)), format!("data.validation={}", path(&validation)));
    let args =
        ["train", "tiny", &train, &validation, "data.on_bad_line=skip", "train.steps=1", "sampler.train_batch=2"];
    let said = [
        format!("{}: a.jsonl, b.csv", path_of(&data)),
        "2 entries of the data left out: 1 without an answer, 1 with invalid syntax".to_owned(),
        "1 of 2 problems for evaluation are also trained on".to_owned(),
    ];
    let out = dir.path().join("run");
    let more = ["train.mini_batches=1", "sampler.on_exhausted=keep-zero-std", "eval.limit=2", "--out", path_of(&out)];
    for run in [dapo(&[&args[..], &["--dry-run"]].concat()), dapo(&[&args[..], &more].concat())] {
        let run = run.success();
        for line in &said {
            assert!(run.stderr.contains(line.as_str()), "no {line:?} in {}", run.stderr);
        }
    }
    dapo(&["train", "tiny", "data.train=missing.jsonl", "--dry-run"]).failure(1, &["missing.jsonl"]);
}

fn path_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_dry_run_refuses_what_a_run_would() {
    let data = additions();
    let fails = |settings: &[&str], said: &[&str]| {
        let data = format!("data.train={}", path(&data));
        dapo(&[&["train", "tiny", &data, "--dry-run"], settings].concat()).failure(1, said);
    };
    dapo(&["train", "tiny", "data.train=nonexist.jsonl", "--dry-run"]).failure(1, &["nonexist.jsonl"]);
    fails(
        &["rollout.max_new_tokens=4000"],
        &["rollout.max_new_tokens is 4000, expected less than the model's context"],
    );
    fails(&["rewards.accuracy.weight=0", "rewards.soft_overlong.weight=0"], &["weight"]);
    fails(&["train.mini_batches=50"], &["train.mini_batches is 50"]);
    fails(&["data.validation=[]", "eval.every=1"], &["eval.every is 1"]);
    fails(&["data.max_prompt_tokens=1"], &["data.train"]);
}

#[test]
fn passes_over_the_data_decide_the_steps() {
    let lines: Vec<String> =
        (1..=10).map(|i| format!("{{\"question\": \"{i}+{i}=\", \"answer\": {}}}\n", 2 * i)).collect();
    let data = file(&lines.concat());
    let dir = folder();
    let out = dir.path().join("run");
    let train = format!("data.train={}", path(&data));
    let args = ["train", "tiny", &train, "train.passes=0.75", "sampler.train_batch=4", "train.mini_batches=1"];
    let more = ["sampler.dynamic=false", "eval.every=none", "optimizer.schedule=linear", "rollout.group_size=2"];
    // 7.5 problems in steps of 4.
    let dry = dapo(&[&args[..], &more, &["--dry-run"]].concat()).success();
    assert!(dry.stdout.contains("passes = 0.75") && dry.stdout.contains("2 steps, 2 updates"), "{}", dry.stdout);
    let run = dapo(&[&args[..], &more, &["--out", out.to_str().unwrap()]].concat()).success();
    assert!(run.stderr.contains("step 2/2: "), "{}", run.stderr);
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 2);
    let resumed = dapo(&["train", "--resume", out.to_str().unwrap()]).success();
    assert!(resumed.stderr.contains("nothing to do"), "{}", resumed.stderr);
    dapo(&["train", "--resume", out.to_str().unwrap(), "train.passes=1"]).success();
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 3);
}

#[test]
fn a_file_is_no_folder() {
    let data = additions();
    dapo(&train(&["--out", path(&data)])).failure(1, &["error: ", path(&data)]);
}

#[test]
fn a_run_with_nothing_left_to_learn_ends_well() {
    let data = file("{\"question\": \"5+5=\", \"answer\": 10}\n{\"question\": \"17+4=\", \"answer\": 21}\n");
    let dir = folder();
    let out = dir.path().join("run");
    let train = format!("data.train={}", path(&data));
    let args = ["train", "tiny", &train, "sampler.train_batch=2", "sampler.gen_batch=4", "train.mini_batches=1"];
    let more = ["sampler.max_gen_rounds=3", "optimizer.warmup_steps=0", "eval.limit=8", "--out", out.to_str().unwrap()];
    let run = dapo(&[args.as_slice(), &more].concat()).success();
    assert!(run.stderr.contains("nothing left to learn after "), "{}", run.stderr);
    assert!(Path::new(run.stdout.trim()).join("model.safetensors").exists(), "{}", run.stdout);
}

#[test]
fn a_run_that_solves_nothing_shows_what_its_completions_look_like() {
    let data = file("{\"question\": \"5+5=\", \"answer\": 1000}\n{\"question\": \"17+4=\", \"answer\": 2000}\n");
    let dir = folder();
    let out = dir.path().join("run");
    let train = format!("data.train={}", path(&data));
    let args = ["train", "tiny", &train, "sampler.train_batch=2", "sampler.max_gen_rounds=2", "eval.every=none"];
    let said = ["step 1 of 80 failed", "nothing to train on", "prompt      5+5=", "gold        1000", "extracted"];
    let run = dapo(&[args.as_slice(), &["--out", out.to_str().unwrap()]].concat()).failure(1, &said);
    for said in ["were cut off", "rewards.accuracy.grader", "rollout.max_new_tokens", "dapo eval", "--completions"] {
        assert!(run.stderr.contains(said), "no {said:?} in {}", run.stderr);
    }
    assert!(out.join("completions/step-1.jsonl").exists());
}

#[test]
fn a_step_that_diverges_says_where_what_it_computed_with_is() {
    let folder = folder();
    let out = folder.path().join("run");
    let dump = out.join("log-failed-step-1.jsonl");
    let dir = out.to_str().unwrap();
    let said = ["the norm of the weights is ", " after update 1 of step 1, expected at most 1e9", path_of(&dump)];
    dapo(&train(&["train.steps=2", "optimizer.lr=1e30", "optimizer.warmup_steps=0", "--out", dir])).failure(1, &said);
    assert!(fs::read_to_string(&dump).unwrap().contains("\"old_logprobs\":["));
    assert!(!out.join("checkpoints/step-1").exists());
}

#[test]
fn unreadable_gold_answers_are_counted_and_shown_at_the_start() {
    let data = file(
        "{\"question\": \"5+5=\", \"answer\": \"10\"}\n{\"question\": \"1+1=\", \"answer\": \"\\\\frac{1}{\"}\n\
         {\"question\": \"17+4=\", \"answer\": \"21\"}\n",
    );
    let dir = folder();
    let out = dir.path().join("run");
    let train = format!("data.train={}", path(&data));
    let args = ["train", "tiny", &train, "train.steps=1", "sampler.train_batch=2", "sampler.dynamic=false"];
    let run = dapo(&[args.as_slice(), &["eval.every=none", "--out", out.to_str().unwrap()]].concat()).success();
    let said = "the grader cannot read 1 of 515 gold answers, such as \"\\\\frac{1}{\"";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

/// The most memory that a process has had, in bytes, as far as it is known while it runs.
#[cfg(target_os = "linux")]
fn peak_of(mut child: std::process::Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kib =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn the_estimate_of_the_tiny_run_is_not_below_its_peak() {
    let folder = folder();
    let settings = ["train", "tiny", "train.steps=6", "eval.every=3"];
    let text = dapo(&[&settings[..], &["--dry-run"]].concat()).success().stdout;
    let line = text.lines().find_map(|line| line.strip_prefix("memory at most")).unwrap();
    let estimate: f64 = line.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(line.contains(" MiB, in updates"), "{line}");
    for threads in ["1", "2"] {
        let out = folder.path().join(threads);
        let child = Command::new(env!("CARGO_BIN_EXE_dapo"))
            .args(settings)
            .args(["-q", "--out", out.to_str().unwrap()])
            .env("RAYON_NUM_THREADS", threads)
            // Freed memory stays, so that the peak does not depend on how fast the machine is.
            .env("MIMALLOC_PURGE_DELAY", "-1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let peak = peak_of(child) as f64 / f64::from(1 << 20);
        assert!(peak <= estimate && estimate < 1.5 * peak, "{threads} threads: {peak} MiB of estimated {estimate}");
    }
}

#[test]
#[cfg(not(feature = "mpi"))]
fn a_launcher_of_several_processes_needs_mpi() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
    command.args(["train", "tiny", "--out", out.to_str().unwrap()]).env("OMPI_COMM_WORLD_SIZE", "2");
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let said = "error: the world has 1 process, expected 2 as OMPI_COMM_WORLD_SIZE says: this program was built without \
                the feature mpi";
    assert!(stderr.contains(said), "{stderr}");
    assert!(!out.exists());
}
