//! Runs with an environment: they train with a calculator, ask nothing twice, survive its faults and are resumed to the
//! byte.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use dapo_run::{Layer, Resolved, Run, RunFolder, resolve};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const BASE: [&str; 11] = [
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "rollout.stop==",
    "sampler.train_batch=3",
    "sampler.gen_batch=6",
    "sampler.dynamic=false",
    "optimizer.warmup_steps=0",
    "train.steps=2",
    "output.checkpoint_every=1",
];

/// Answers `a+b=` by the sum, and ends the episode with anything else: 1 for the answer behind `####`. Requests are
/// appended to `$1`. With `$2`, some turns are faults: a crash, a hang, garbage, a number that is not finite.
const CALCULATOR: &str = r#"
while IFS= read -r line; do
  printf '%s\n' "$line" >>"$1"
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  case $line in *'"method":"reset"'*) printf '{"id":%s,"state":{"calls":0}}\n' "$id"; continue ;; esac
  text=$(printf '%s' "$line" | sed 's/.*"text":"\([^"]*\)".*/\1/')
  answer=$(printf '%s' "$line" | sed 's/.*"answer":"\([^"]*\)".*/\1/')
  if [ -n "$2" ]; then
    case $line in
      *'"draw":1,"sample":2,'*) exit 4 ;;
      *'"draw":2,"sample":0,'*) sleep 60 ;;
      *'"draw":4,"sample":3,'*) echo garbage; continue ;;
      *'"draw":5,"sample":1,'*) printf '{"id":%s,"done":true,"reward":1e999}\n' "$id"; continue ;;
    esac
  fi
  case $text in
    *=) sum=$(printf '%s' "${text%=}" | sed 's/.*[^0-9+]//' | awk -F+ '{s = 0; for (i = 1; i <= NF; i++) s += $i; printf "%d", s}')
        printf '{"id":%s,"messages":[{"role":"tool","content":"%s"}],"log":{"called":1}}\n' "$id" "$sum" ;;
    *'####'"$answer") printf '{"id":%s,"done":true,"reward":1,"correct":true}\n' "$id" ;;
    *) printf '{"id":%s,"done":true,"reward":0,"correct":false}\n' "$id" ;;
  esac
done
"#;

/// Settings with the calculator in a file of the folder.
fn settings(dir: &Path, faulty: bool, extra: &[&str]) -> Resolved {
    fs::write(dir.join("calculator.sh"), CALCULATOR).unwrap();
    let (log, faults) = (dir.join("asked.jsonl"), if faulty { ", 'faults'" } else { "" });
    let text =
        format!("[env]\ncommand = ['sh', 'calculator.sh', '{}'{faults}]\nmax_context_tokens = 24\n", log.display());
    fs::write(dir.join("env.toml"), text).unwrap();
    let own = |setting: &&str| Layer::Override((*setting).to_owned());
    let layers = BASE.iter().map(own).chain([Layer::File(dir.join("env.toml"))]).chain(extra.iter().map(own));
    resolve(&layers.collect::<Vec<_>>()).unwrap()
}

fn finish(run: &mut Run) {
    while !run.is_finished() {
        run.step().unwrap();
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was asked, without the requests' numbers, in order.
fn asked(dir: &Path) -> Vec<String> {
    let without_id = |mut line: Value| {
        line.as_object_mut().unwrap().remove("id");
        line.to_string()
    };
    let mut asked: Vec<String> = lines(&dir.join("asked.jsonl")).into_iter().map(without_id).collect();
    asked.sort();
    asked
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

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (content(one), content(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{name}");
    }
}

/// A run with faults or without is the same when it is stopped and resumed, and nothing is asked twice.
fn is_resumed_to_the_byte(faulty: bool, extra: &[&str]) -> (tempfile::TempDir, Vec<Value>) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let settings = settings(dir, faulty, extra);
    let (whole, parted) = (dir.join("whole"), dir.join("parted"));
    finish(&mut Run::create(&settings, &whole).unwrap());
    let first = asked(dir);
    let distinct: std::collections::BTreeSet<&String> = first.iter().collect();
    assert_eq!(distinct.len(), first.len(), "nothing is asked twice");
    fs::remove_file(dir.join("asked.jsonl")).unwrap();

    finish(&mut Run::create(&settings, &parted).unwrap());
    assert_eq!(asked(dir), first);
    assert_same(&whole, &parted);
    // As after a kill in the second step: its answers are known, and nothing else of it.
    fs::remove_dir_all(parted.join("checkpoints/step-2")).unwrap();
    let kept = parted.join("reward_cache/env.jsonl");
    let torn = fs::read_to_string(&kept).unwrap() + "{\"draw\":1,\"sam";
    fs::write(&kept, torn).unwrap();
    let resumed = dapo_run::settings_of(&parted, &[]).unwrap();
    finish(&mut Run::resume(&resumed, &parted).unwrap());
    assert_eq!(asked(dir), first, "a resumed run asks nothing again");
    assert_same(&whole, &parted);
    // As after a kill in the middle of it: half of its answers are known.
    fs::remove_dir_all(parted.join("checkpoints/step-2")).unwrap();
    let text = fs::read_to_string(&kept).unwrap();
    let known: Vec<&str> =
        text.lines().filter(|line| !line.contains("\"step\":2") || line.contains("\"sample\":0,")).collect();
    fs::write(&kept, known.join("\n") + "\n").unwrap();
    finish(&mut Run::resume(&dapo_run::settings_of(&parted, &[]).unwrap(), &parted).unwrap());
    assert_same(&whole, &parted);
    let timings = lines(&whole.join(RunFolder::TIMINGS));
    (temp, timings)
}

#[test]
fn a_killed_and_resumed_run_asks_nothing_twice_and_ends_with_the_same_bytes() {
    let extra = ["eval.every=1", "data.validation=builtin:addition", "eval.limit=5", "eval.samples=2", "env.workers=2"];
    let (temp, timings) = is_resumed_to_the_byte(false, &extra);
    assert!(timings[0]["rewards"]["env"]["requests"].as_u64().unwrap() > 20, "{}", timings[0]);
    let whole = temp.path().join("whole");
    let metrics = lines(&whole.join(RunFolder::METRICS));
    assert!(metrics[0]["rewards/env/mean"].is_number() && metrics[0].get("rewards/accuracy/mean").is_none());
    assert!(metrics[0]["rewards/env/turns"].as_f64().unwrap() > 1.0, "{}", metrics[0]);
    assert_eq!(metrics[0]["rewards/env/called"], 1.0);
    let evaluations = lines(&whole.join(RunFolder::EVALUATIONS));
    assert!(evaluations[0]["rewards"]["env"]["mean"].is_number(), "{}", evaluations[0]);
    // Turns with roles can be read, and make the text and the number of tokens.
    let completions =
        lines(&Run::resume(&dapo_run::settings_of(&whole, &[]).unwrap(), &whole).unwrap().folder().completions_file(1));
    let mut spoken = 0;
    for line in &completions {
        let turns = line["turns"].as_array().unwrap();
        let of = |role: &str| -> Vec<&str> {
            turns.iter().filter(|said| said["role"] == role).map(|said| said["content"].as_str().unwrap()).collect()
        };
        assert_eq!(of("assistant").join("\n"), line["completion"].as_str().unwrap());
        spoken += of("tool").len();
        assert!(line["tokens"].as_u64().unwrap() <= 40);
    }
    assert!(spoken > 5, "{spoken}");
}

#[test]
fn faults_make_their_samples_abstain_and_change_nothing_else() {
    let (temp, timings) = is_resumed_to_the_byte(true, &["env.on_error=abstain", "env.timeout_s=1.5"]);
    let count = |kind: &str| -> u64 {
        let of = |line: &Value| line["rewards"]["env"]["faults"][kind].as_u64().unwrap_or(0);
        timings.iter().map(of).sum()
    };
    assert_eq!(["exit", "timeout", "json", "not-finite"].map(count), [1; 4], "{timings:?}");
    let whole = temp.path().join("whole");
    for line in
        lines(&whole.join("completions/step-1.jsonl")).iter().chain(&lines(&whole.join("completions/step-2.jsonl")))
    {
        let place = (line["draw"].as_u64().unwrap(), line["sample"].as_u64().unwrap());
        let is_faulty = [(1, 2), (2, 0), (4, 3), (5, 1)].contains(&place);
        assert_eq!(line["rewards"]["env"].is_null(), is_faulty, "{line}");
    }
    // With a stop the run ends, and says why.
    let other = tempfile::tempdir().unwrap();
    let mut run =
        Run::create(&settings(other.path(), true, &["env.timeout_s=1.5"]), &other.path().join("run")).unwrap();
    let error = run.step().unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    assert!(causes.iter().any(|cause| cause.contains("env: step 1: ")), "{causes:?}");
}

#[test]
fn weight_and_limits_are_those_of_the_settings() {
    let rewards = |extra: &[&str]| {
        let temp = tempfile::tempdir().unwrap();
        let mut run = Run::create(&settings(temp.path(), false, extra), &temp.path().join("run")).unwrap();
        run.step().unwrap();
        let completions = lines(&run.folder().completions_file(1));
        let sum = |field: &dyn Fn(&Value) -> f64| completions.iter().map(field).sum::<f64>();
        let turns = |line: &Value| line["turns"].as_array().unwrap().len();
        let most = completions.iter().map(turns).max().unwrap();
        (sum(&|line| line["reward"].as_f64().unwrap()), sum(&|line| line["rewards"]["env"].as_f64().unwrap()), most)
    };
    let (reward, env, most) = rewards(&[]);
    assert_eq!(reward, env);
    assert!(env > 0.0 && most > 3);
    assert_eq!(rewards(&["env.weight=0.5"]), (0.5 * reward, env, most));
    let (_, beside, _) = rewards(&["rewards.accuracy.weight=1", "rewards.correct=env"]);
    assert_eq!(beside, env);
    assert!(rewards(&["env.max_turns=2"]).2 <= 3);
    assert_eq!(rewards(&["env.max_context_tokens=0"]).2, 1);
    assert!(rewards(&["env.max_turn_tokens=4"]).2 != most);
}

#[test]
fn settings_say_where_the_environment_is_once_and_within_the_context() {
    let temp = tempfile::tempdir().unwrap();
    let error = |extra: &[&str]| {
        let settings = settings(temp.path(), false, extra);
        Run::create(&settings, &temp.path().join("run")).unwrap_err().to_string()
    };
    assert!(error(&["env.url=http://localhost/"]).contains("env.command is set beside url"));
    assert!(error(&["env.command="]).contains("env.command is unset, expected one of command, url and python"));
    assert!(error(&["env.command=['no-such-program']"]).contains("no-such-program"));
    assert!(error(&["env.max_context_tokens=100000"]).contains("env.max_context_tokens is 100000"));
    assert!(error(&["env.max_turns=0"]).contains("env.max_turns is 0, expected at least 1"));
    // What a file names is found from its folder, and kept as it was found.
    let settings = settings(temp.path(), false, &[]);
    let dir = settings.config.env.as_ref().unwrap().dir.clone().unwrap();
    assert_eq!(Path::new(&dir).canonicalize().unwrap(), temp.path().canonicalize().unwrap());
    assert!(settings.config.rewards.accuracy.is_none());
}
