//! Rewards of the settings that are computed elsewhere: a run trains with them, asks nothing twice and is resumed to the
//! byte.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use dapo_reward::{RewardTerm, SampleReward};
use dapo_run::{Layer, Resolved, Run, RunFolder, resolve};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

const BASE: [&str; 10] = [
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=24",
    "sampler.train_batch=2",
    "sampler.gen_batch=4",
    "sampler.dynamic=false",
    "optimizer.warmup_steps=0",
    "train.steps=2",
    "output.checkpoint_every=1",
];

/// Half a point for each sample; requests are appended to `$1`.
const HALVES: &str = r#"
while IFS= read -r line; do
  printf '%s\n' "$line" >>"$1"
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  rewards=$(printf '%s' "$line" | grep -o '"num_tokens":[0-9]*' | sed 's/.*:/0./' | paste -sd, -)
  printf '{"id": %s, "rewards": [%s]}\n' "$id" "$rewards"
done
"#;

fn settings(extra: &[&str]) -> Resolved {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap()
}

fn refusal(extra: &[&str]) -> String {
    let layers: Vec<Layer> = extra.iter().map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap_err().to_string()
}

fn file(dir: &Path, text: &str) -> Resolved {
    let path = dir.join("own.toml");
    fs::write(&path, text).unwrap();
    let base = BASE.iter().map(|setting| Layer::Override((*setting).to_owned()));
    resolve(&base.chain([Layer::File(path)]).collect::<Vec<_>>()).unwrap()
}

fn finish(run: &mut Run) {
    while !run.is_finished() {
        run.step().unwrap();
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: no python3");
    }
    found
}

/// The rewards that a whole run gave, which are all of this component alone.
fn trained(settings: &Resolved, name: &str) -> Vec<f64> {
    let temp = tempfile::tempdir().unwrap();
    let mut run = Run::create(settings, &temp.path().join("run")).unwrap();
    finish(&mut run);
    let metrics = lines(&run.folder().path().join(RunFolder::METRICS));
    assert_eq!(metrics.len(), 2);
    assert!(metrics[0][format!("rewards/{name}/mean")].is_number(), "{}", metrics[0]);
    assert!(metrics[0].get("rewards/accuracy/mean").is_none());
    let completions = lines(&run.folder().completions_file(1));
    completions.iter().map(|line| line["rewards"][name].as_f64().unwrap()).collect()
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut open, mut files) = (vec![dir.to_owned()], BTreeMap::new());
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if name != RunFolder::TIMINGS && !name.starts_with("log") {
            files.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_killed_and_resumed_run_asks_nothing_twice_and_ends_with_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("halves.sh"), HALVES).unwrap();
    let log = temp.path().join("asked.jsonl");
    let text = format!("[rewards.mine]\ncommand = ['sh', 'halves.sh', '{}']\nbatch = 3\n", log.display());
    let settings = file(temp.path(), &text);
    let (whole, parted) = (temp.path().join("whole"), temp.path().join("parted"));
    let mut run = Run::create(&settings, &whole).unwrap();
    finish(&mut run);
    drop(run);
    let timings = lines(&whole.join(RunFolder::TIMINGS));
    assert!(timings[0]["rewards"]["mine"]["requests"].as_u64().unwrap() > 1, "{}", timings[0]);
    fs::remove_file(&log).unwrap();

    let mut run = Run::create(&settings, &parted).unwrap();
    finish(&mut run);
    drop(run);
    let first: BTreeSet<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    // As after a kill in the second step: its answers are known, and nothing else of it.
    fs::remove_dir_all(parted.join("checkpoints/step-2")).unwrap();
    let kept = parted.join("reward_cache/mine.jsonl");
    let torn = fs::read_to_string(&kept).unwrap() + "{\"draw\":1,\"sam";
    fs::write(&kept, torn).unwrap();
    let resumed = dapo_run::settings_of(&parted, &[]).unwrap();
    let mut run = Run::resume(&resumed, &parted).unwrap();
    finish(&mut run);
    drop(run);
    let asked: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    assert_eq!((asked.len(), asked.into_iter().collect::<BTreeSet<_>>()), (first.len(), first));
    let (one, other) = (content(&whole), content(&parted));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{name}");
    }
}

#[test]
fn delays_change_nothing() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("halves.sh"), HALVES).unwrap();
    let slow = HALVES.replace("  printf '{\"id\"", "  sleep 0.0$((id * 7 % 9))\n  printf '{\"id\"");
    assert_ne!(slow, HALVES);
    fs::write(temp.path().join("slow.sh"), slow).unwrap();
    let log = temp.path().join("asked.jsonl");
    let trained = |script: &str, more: &str| {
        let text = format!("[rewards.mine]\ncommand = ['sh', '{script}', '{}']\n{more}", log.display());
        let dir = temp.path().join(format!("run-{script}{}", more.len()));
        let mut run = Run::create(&file(temp.path(), &text), &dir).unwrap();
        finish(&mut run);
        let mut files = content(&dir);
        files.remove(RunFolder::CONFIG);
        // Manifests and states name the settings.
        files.retain(|name, _| !name.ends_with("manifest.json") && !name.ends_with("trainer.json"));
        files
    };
    let quick = trained("halves.sh", "");
    assert!(quick.contains_key("reward_cache/mine.jsonl") && quick.contains_key(RunFolder::METRICS));
    for (script, more) in [("slow.sh", ""), ("slow.sh", "workers = 3\n"), ("slow.sh", "workers = 2\nbatch = 1\n")] {
        let found = trained(script, more);
        assert_eq!(found.keys().collect::<Vec<_>>(), quick.keys().collect::<Vec<_>>());
        for (name, bytes) in &quick {
            assert!(found[name] == *bytes, "{name}, {more}");
        }
    }
}

#[test]
fn a_program_may_add_to_rewards_that_keep_their_answers() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("halves.sh"), HALVES).unwrap();
    let log = temp.path().join("asked.jsonl");
    let text = format!("[rewards.mine]\ncommand = ['sh', 'halves.sh', '{}']\n", log.display());
    let settings = file(temp.path(), &text);
    let rewards = || {
        let brevity = SampleReward::new("brevity", |input| 1.0 / (1.0 + input.num_tokens as f64));
        settings.config.run_rewards().unwrap().with(RewardTerm::new(0.5, brevity)).unwrap()
    };
    let dir = temp.path().join("run");
    let mut run = Run::create_with(&settings, &dir, rewards()).unwrap();
    finish(&mut run);
    drop(run);
    let whole = content(&dir);
    assert!(lines(&dir.join(RunFolder::METRICS))[0]["rewards/brevity/mean"].is_number());
    assert!(lines(&dir.join(RunFolder::TIMINGS))[0]["rewards"]["mine"]["requests"].as_u64() > Some(0));
    let asked = fs::read_to_string(&log).unwrap();
    fs::remove_dir_all(dir.join("checkpoints/step-2")).unwrap();
    let mut run = Run::resume_with(&dapo_run::settings_of(&dir, &[]).unwrap(), &dir, rewards()).unwrap();
    finish(&mut run);
    drop(run);
    assert_eq!(fs::read_to_string(&log).unwrap(), asked);
    assert!(content(&dir) == whole);
    let twice = rewards().with(RewardTerm::new(1.0, SampleReward::new("mine", |_| 0.0))).unwrap_err().to_string();
    assert!(twice.contains("mine"), "{twice}");
}

#[test]
fn functions_for_trl_and_verl_train_without_changes() {
    if !has_python() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let source = "
def trl(completions, answer, **kwargs):
    return [float(len(c) % 3) for c, a in zip(completions, answer)]

def verl(data_source, solution_str, ground_truth, extra_info=None):
    return {'score': float(len(solution_str) % 3), 'acc': 1 if ground_truth in solution_str else 0}
";
    fs::write(temp.path().join("rewards.py"), source).unwrap();
    let of = |function: &str| {
        trained(&file(temp.path(), &format!("[rewards.mine]\npython = 'rewards.py:{function}'")), "mine")
    };
    assert_eq!(of("trl"), of("verl"));
    let command = "import sys, json
for line in sys.stdin:
    ask = json.loads(line)
    rewards = [float(len(s['completion']) % 3) for s in ask['samples']]
    print(json.dumps({'id': ask['id'], 'rewards': rewards}), flush=True)
";
    fs::write(temp.path().join("r.py"), command).unwrap();
    assert_eq!(trained(&file(temp.path(), "rewards.mine.command = ['python3', 'r.py']"), "mine"), of("trl"));
}

/// A server on a free port, as an address; it answers each JSON body with another.
fn serve(answer: impl Fn(&Value) -> Value + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body = answer(&serde_json::from_slice(&body).unwrap()).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_server_trains() {
    let address = serve(|ask| {
        let samples = ask["samples"].as_array().unwrap();
        let rewards: Vec<u64> = samples.iter().map(|sample| sample["num_tokens"].as_u64().unwrap()).collect();
        serde_json::json!({"id": ask["id"], "rewards": rewards})
    });
    let url = format!("rewards.judge.url={address}/score");
    assert!(trained(&settings(&[&url]), "judge").iter().all(|tokens| *tokens >= 1.0));
}

/// A judge that rates by the length of what it is asked, and ranks in the order in which it is asked.
fn judge() -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let address = serve(move |ask| {
        let question = ask["messages"][0]["content"].as_str().unwrap();
        log.lock().unwrap().push(question.to_owned());
        let text = match question.matches("<answer number=").count() {
            0 => (question.len() % 11).to_string(),
            count => format!("{:?}", (1..=count).collect::<Vec<_>>()),
        };
        let choice = serde_json::json!({"message": {"content": text}, "finish_reason": "stop"});
        serde_json::json!({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 1}})
    });
    (address + "/v1", asked)
}

#[test]
fn a_judge_trains_and_a_resumed_run_asks_it_nothing_twice() {
    let temp = tempfile::tempdir().unwrap();
    for mode in ["absolute", "ranking"] {
        let (address, asked) = judge();
        let settings = settings(&[
            &format!("rewards.mine.judge_url={address}"),
            "rewards.mine.model=any",
            &format!("rewards.mine.mode={mode}"),
        ]);
        assert!(settings.config.rewards.accuracy.is_none());
        let dir = temp.path().join(mode);
        let mut run = Run::create(&settings, &dir).unwrap();
        finish(&mut run);
        drop(run);
        let requests = asked.lock().unwrap().len();
        let values: Vec<f64> = lines(&dir.join("completions/step-1.jsonl"))
            .iter()
            .map(|l| l["rewards"]["mine"].as_f64().unwrap())
            .collect();
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)) && values.iter().any(|v| *v != values[0]));
        let timings: Vec<Value> =
            lines(&dir.join(RunFolder::TIMINGS)).iter().map(|line| line["rewards"]["mine"].clone()).collect();
        let sum = |name: &str| timings.iter().map(|line| line[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("prompt_tokens"), sum("completion_tokens")), (10 * requests as u64, requests as u64));
        let whole = content(&dir);
        // Two steps of two groups of four; a group of equal texts is not ranked.
        assert!(if mode == "absolute" { requests == 16 } else { (1..=4).contains(&requests) }, "{mode}: {requests}");
        // As after a kill in the second step: its answers are known, and nothing else of it.
        fs::remove_dir_all(dir.join("checkpoints/step-2")).unwrap();
        let mut run = Run::resume(&dapo_run::settings_of(&dir, &[]).unwrap(), &dir).unwrap();
        finish(&mut run);
        drop(run);
        assert_eq!(asked.lock().unwrap().len(), requests, "{mode}");
        assert!(content(&dir) == whole, "{mode}");
    }
}

/// Completions of an even number of tokens are correct, and worth their tenth.
const EVEN: &str = r#"
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  tokens=$(printf '%s' "$line" | grep -o '"num_tokens":[0-9]*' | sed 's/.*://')
  rewards=$(for n in $tokens; do
    if [ $((n % 2)) = 0 ]; then correct=true; else correct=false; fi
    printf '{"value": %se-1, "correct": %s}\n' "$n" "$correct"
  done | paste -sd, -)
  printf '{"id": %s, "rewards": [%s]}\n' "$id" "$rewards"
done
"#;

#[test]
fn the_reward_that_is_named_judges_training_and_evaluation() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("even.sh"), EVEN).unwrap();
    let text = "[data]\nvalidation = 'builtin:addition'\n[eval]\nevery = 1\nlimit = 4\nsamples = 4\n[rewards.accuracy]\n\
        weight = 0.5\n[rewards.mine]\ncommand = ['sh', 'even.sh']\n";
    let own = |name: &str, more: &str| {
        let mut run = Run::create(&file(temp.path(), &format!("{more}{text}")), &temp.path().join(name)).unwrap();
        run.evaluate_at_start().unwrap();
        finish(&mut run);
        run
    };
    let is_even = |line: &Value| line["tokens"].as_u64().unwrap().is_multiple_of(2);
    let run = own("named", "rewards.correct = 'mine'\n");
    assert_eq!(run.trainer().config().sampler.metric.to_string(), "acc");
    let completions = lines(&run.folder().completions_file(1));
    assert!(completions.iter().all(|line| line["correct"] == is_even(line)));
    let metrics = lines(&run.folder().path().join(RunFolder::METRICS));
    let share = completions.iter().filter(|line| is_even(line)).count() as f64 / completions.len() as f64;
    assert_eq!(metrics[0]["accuracy"].as_f64(), Some(share), "{}", metrics[0]);
    // Evaluations report every component, and are judged by the same one.
    let evaluations = lines(&run.folder().path().join(RunFolder::EVALUATIONS));
    assert_eq!(evaluations.len(), 3);
    let first = &evaluations[0];
    for name in ["mine", "accuracy"] {
        assert!(first["rewards"][name]["mean"].is_number() && first["rewards"][name]["low"].is_number(), "{first}");
    }
    let mean = |value: &Value| value["mean"].as_f64().unwrap();
    let total = mean(&first["rewards"]["mine"]) + 0.5 * mean(&first["rewards"]["accuracy"]);
    assert!((mean(&first["reward"]) - total).abs() < 1e-12, "{first}");
    assert!(first["pass_at"].is_array() && first["maj_at_k"].is_object());
    drop(run);
    // Without the name accuracy judges.
    let run = own("unnamed", "");
    let other = &lines(&run.folder().path().join(RunFolder::EVALUATIONS))[0];
    assert_eq!((&other["rewards"], &other["reward"]), (&first["rewards"], &first["reward"]));
    assert_ne!(other["avg_at_k"], first["avg_at_k"]);
    // In [-1, 1], as accuracy is.
    assert!((2.0 * mean(&other["avg_at_k"]) - 1.0 - mean(&other["rewards"]["accuracy"])).abs() < 1e-12, "{other}");
    let error = Run::create(&file(temp.path(), &format!("rewards.correct = 'format'\n{text}")), &temp.path().join("x"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("rewards.correct is format, expected a reward that judges: accuracy, mine"), "{error}");
}

#[test]
fn evaluations_without_a_judge_report_rewards_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("halves.sh"), HALVES).unwrap();
    let log = temp.path().join("asked.jsonl");
    let text = format!(
        "[data]\nvalidation = 'builtin:addition'\n[eval]\nevery = 1\nlimit = 4\nsamples = 2\n[rewards.mine]\n\
         command = ['sh', 'halves.sh', '{}']\n",
        log.display()
    );
    let mut run = Run::create(&file(temp.path(), &text), &temp.path().join("run")).unwrap();
    let report = run.evaluate_at_start().unwrap().unwrap();
    assert!(report.avg_at_k.is_none() && report.maj_at_k.is_none() && report.pass_at.is_empty());
    assert_eq!(report.reward, Some(report.rewards["mine"]));
    // Evaluations are no step.
    assert!(lines(&log).iter().all(|request| request["step"] == 0));
    assert_eq!(run.trainer().config().sampler.metric.to_string(), "seq_reward");
}

#[test]
fn a_rule_trains_beside_accuracy() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["rewards.digits.kind=regex", "rewards.digits.pattern='(\\d)'", "rewards.digits.weight=0.5"];
    let mut run = Run::create(&settings(&own), &temp.path().join("run")).unwrap();
    finish(&mut run);
    let metrics = lines(&run.folder().path().join(RunFolder::METRICS));
    assert!(["digits", "accuracy"].iter().all(|name| metrics[0][format!("rewards/{name}/mean")].is_number()));
}

#[test]
fn a_fault_stops_the_run_and_names_reward_fault_and_step() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["rewards.mine.command=['sh', '-c', 'read line; exit 3']"];
    let mut run = Run::create(&settings(&own), &temp.path().join("run")).unwrap();
    let error = run.step().unwrap_err();
    let (mut chain, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        chain = format!("{chain}: {error}");
        source = error.source();
    }
    for text in ["mine", "step 1", "exit"] {
        assert!(chain.contains(text), "no {text:?} in {chain}");
    }
}

#[test]
fn a_failed_request_may_abstain_and_is_shown() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["rewards.mine.command=['sh', '-c', 'read line; echo nonsense']", "rewards.mine.on_error=abstain"];
    let weights = ["rewards.mine.weight=0", "rewards.accuracy.weight=1"];
    let mut run = Run::create(&settings(&[&own[..], &weights].concat()), &temp.path().join("run")).unwrap();
    let progress = run.step().unwrap();
    assert!(progress.step().unwrap().faults[0].starts_with("rewards.mine: step 1: "));
    let timings = lines(&run.folder().path().join(RunFolder::TIMINGS));
    assert!(timings[0]["rewards"]["mine"]["faults"]["json"].as_u64() > Some(0), "{}", timings[0]);
}

#[test]
fn tables_have_one_kind_and_its_keys() {
    for (extra, expected) in [
        (
            &["rewards.acuracy.weight=2"][..],
            "command line: unknown key rewards.acuracy; did you mean rewards.accuracy?",
        ),
        (
            &["rewards.mine.comand=['x']"],
            "command line: unknown key rewards.mine.comand; did you mean rewards.mine.command?",
        ),
        (
            &["rewards.zzz.weight=2"],
            "command line: rewards.zzz is no reward, expected one of command, url, python, judge_url, kind in it, or one of the built-in rewards",
        ),
        (
            &["rewards.mine.command=['x']", "rewards.mine.url=http://a/"],
            "command line: rewards.mine.url is \"http://a/\", expected unset beside rewards.mine.command",
        ),
        (
            &["rewards.mine.command=['x']", "rewards.mine.pattern=a"],
            "command line: rewards.mine.pattern is \"a\", expected nothing, as rewards.mine is of kind command; only regex has it",
        ),
    ] {
        assert_eq!(refusal(extra), expected);
    }
}

#[test]
fn relative_paths_are_those_of_the_file_and_settings_are_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let text = "[rewards.mine]\nweight = 0.5\npython = 'rewards.py:f'\n[rewards.code]\nlanguage = 'rust'\n[rewards.far]\n\
        url = 'http://localhost:1/'\napi_key_env = 'KEY'\n[rewards.judge]\njudge_url = 'http://localhost:1/v1'\nmodel = 'm'\n\
        template = '''\nRate {completion}.\n\n\"1\" to \\2'''\ncorrect_from = 8\n";
    let settings = file(temp.path(), text);
    let own = &settings.config.rewards.own.0;
    let base = temp.path().to_str().unwrap().trim_end_matches('/');
    assert_eq!(own["mine"].dir.as_deref().map(|dir| dir.trim_end_matches('/')), Some(base));
    assert!(settings.config.rewards.accuracy.is_none());
    let written = settings.to_toml().unwrap();
    assert!(written.contains("# [rewards.accuracy] is not set") && written.contains("\n[rewards.code]\n"), "{written}");
    let other = tempfile::tempdir().unwrap();
    assert_eq!(file(other.path(), &written).config, settings.config);
    let with = |setting: &str| {
        let layers = ["rewards.mine.command=['x']", setting].map(|word| Layer::Override(word.to_owned()));
        resolve(&layers).unwrap().config.rewards.accuracy
    };
    assert!(with("rewards.accuracy.weight=0.5").is_some() && with("seed=1").is_none());
}
