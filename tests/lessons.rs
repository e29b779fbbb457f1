//! The lessons in `examples/` run, and print what they teach. Cargo builds the examples of a package before its tests run.
#![allow(clippy::unwrap_used)]

use dapo::run::{Run, resolve_words};
use dapo::trainer::fingerprint_of_weights;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const LESSONS: [&str; 7] =
    ["01_loss", "02_custom_reward", "03_dynamic_sampling", "04_candle_ops", "05_own_loop", "06_lora", "07_resume"];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// What a lesson prints.
fn output_of(lesson: &str) -> String {
    let test = env::current_exe().unwrap();
    let built = test.parent().unwrap().parent().unwrap().join("examples");
    let program = built.join(format!("{lesson}{}", env::consts::EXE_SUFFIX));
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    // `cargo test --test lessons` builds no examples. Cargo lists the sources of each in a file beside it.
    let sources = fs::read_to_string(built.join(format!("{lesson}.d"))).unwrap_or_default().replace("\\ ", "\0");
    let sources = sources.split_whitespace().skip(1).map(|path| PathBuf::from(path.replace('\0', " ")));
    let is_fresh = changed(&program)
        .is_ok_and(|built| sources.into_iter().all(|source| changed(&source).is_ok_and(|modified| modified <= built)));
    assert!(is_fresh, "{} is not built from the present sources: cargo build --release --examples", program.display());
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success(), "{lesson}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{lesson}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every number that stands between `before` and `after`, in order.
fn numbers(output: &str, before: &str, after: &str) -> Vec<f64> {
    let rests = output.split(before).skip(1);
    rests.map(|rest| rest.split_once(after).unwrap().0.trim().parse().unwrap()).collect()
}

#[test]
fn lessons_are_short_and_listed() {
    let index = fs::read_to_string(examples().join("README.md")).unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        found.extend(name.strip_suffix(".rs").filter(|name| name.starts_with('0')).map(str::to_owned));
    }
    found.sort();
    assert_eq!(found, LESSONS);
    for lesson in LESSONS {
        let text = fs::read_to_string(examples().join(format!("{lesson}.rs"))).unwrap();
        assert!(text.lines().count() <= 80, "{lesson} has {} lines", text.lines().count());
        assert!(
            text.contains(&format!("`cargo run --release --example {lesson}`")),
            "{lesson} does not say how to run it"
        );
        assert!(index.contains(&format!("| [`{lesson}`]({lesson}.rs) |")), "examples/README.md does not list {lesson}");
    }
}

#[test]
fn the_loss_clips_higher_and_weighs_tokens_alike() {
    let expected = "\
Eq. 9: advantages of a group of four completions
  rewards [ 1.0,  1.0, -1.0, -1.0]  advantages [ 0.87,  0.87, -0.87, -0.87]
  rewards [ 1.0, -1.0, -1.0, -1.0]  advantages [ 1.50, -0.50, -0.50, -0.50]
  rewards [-1.0, -1.0, -1.0, -1.0]  advantages [ 0.00,  0.00,  0.00,  0.00]

Eq. 8: gradient of a token's loss, by its importance ratio [0.70, 0.85, 1.00, 1.15, 1.25, 1.35]
  PPO   A =  1.0  [-0.70, -0.85, -1.00, -1.15,  0.00,  0.00]
  PPO   A = -1.0  [ 0.00,  0.85,  1.00,  1.15,  1.25,  1.35]
  DAPO  A =  1.0  [-0.70, -0.85, -1.00, -1.15, -1.25,  0.00]
  DAPO  A = -1.0  [ 0.00,  0.85,  1.00,  1.15,  1.25,  1.35]

Eq. 8: weight of each token of two completions, of two and of six tokens
  GRPO  [0.250, 0.250, 0.083, 0.083, 0.083, 0.083, 0.083, 0.083]
  DAPO  [0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]
";
    assert_eq!(output_of("01_loss"), expected);
}

#[test]
fn a_reward_of_ones_own_rises_in_training() {
    let output = output_of("02_custom_reward");
    let scored = "\
completion                accuracy  overlong  correct_steps  total
####46                        1.00      0.00           0.00   1.00
17+4=21,21+25=46####46        1.00      0.00           1.00   1.50
17+4=22,22+25=47####47       -1.00      0.00           0.50  -0.75
17+4=21,21+25=46             -1.00     -0.75           1.00  -1.25

means over the completions of a step, in training
step  1: ";
    assert!(output.starts_with(scored), "{output}");
    let own = numbers(&output, ", correct_steps ", "\n");
    assert!(own.len() == 3 && own[2] > own[0] + 0.1, "{output}");
}

#[test]
fn dynamic_sampling_fills_the_batch() {
    let output = output_of("03_dynamic_sampling");
    let verdicts = "\
a group of four, 1 for each correct completion
  [1, 1, 1, 1]  advantages [ 0.00,  0.00,  0.00,  0.00]  AllCorrect
  [1, 0, 0, 1]  advantages [ 0.87, -0.87, -0.87,  0.87]  Keep
  [0, 0, 0, 0]  advantages [ 0.00,  0.00,  0.00,  0.00]  AllIncorrect

rounds until 16 groups are kept
";
    assert!(output.starts_with(verdicts), "{output}");
    let [generated, kept, correct, incorrect] = [
        (" missing\n\n", " groups generated"),
        ("generated\n", " kept"),
        ("training\n", " dropped, all correct"),
        ("all correct\n", " dropped"),
    ]
    .map(|(before, after)| numbers(&output, before, after)[0]);
    assert_eq!(kept, 16.0);
    assert_eq!(generated, kept + correct + incorrect);
    assert_eq!(numbers(&output, "drew ", " groups").iter().sum::<f64>(), generated);
    assert!(numbers(&output, "dynamic sampling, ", " of the first")[0] > 0.0, "{output}");
}

#[test]
fn operations_on_tensors_have_gradients() {
    let expected = "\
Eq. 8 in Candle's operations and as one operation
  same loss: true, same gradient: true
  tokens clipped from above: 16 %

does a gradient pass through the fused RMS norm?
  candle_nn::ops::rms_norm: false
  dapo::kernels::ops::rms_norm: true

attention over a prompt with two completions: 7 rows in place of 10
  same bits: true
";
    assert_eq!(output_of("04_candle_ops"), expected);
}

#[test]
fn a_loop_of_ones_own_ends_with_the_weights_of_a_run() {
    let output = output_of("05_own_loop");
    let correct = numbers(&output, "completions, ", " correct\n");
    assert_eq!(correct.len(), 15);
    assert!(correct[14] > correct[0] + 0.1, "{output}");

    let settings = resolve_words(["tiny", "train.steps=15", "eval.every=none"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::create(&settings, &folder.path().join("run")).unwrap();
    while !run.is_finished() {
        run.step().unwrap();
    }
    let weights = fingerprint_of_weights(run.trainer().policy()).unwrap();
    assert!(output.ends_with(&format!("weights {weights}\n")), "{output}, expected {weights}");
}

#[test]
fn adapters_train_beside_a_frozen_model() {
    let output = output_of("06_lora");
    let (before, after) = (numbers(&output, "accuracy: ", " before")[0], numbers(&output, "before, ", " after")[0]);
    assert!(after > before + 0.1, "{output}");
    for fact in ["policy is the model: true\n", "with the adapter is the policy: true\n"] {
        assert!(output.contains(fact), "{output}");
    }
    assert!(output.contains("[\"adapter_config.json\", \"adapter_model.safetensors\""), "{output}");
}

#[test]
fn an_interrupted_run_ends_with_the_same_bytes() {
    let expected = "\
stopped: 3 steps made, 3 in the log
resumed: 2 steps made, 2 in the log
finished: 5 steps made, 5 in the log
same weights: true
same metrics: true
same completions: true
continued: 6 steps made
refused: seed is 1, expected 0 as it was: start a new run, from this one's checkpoint if you like
";
    assert_eq!(output_of("07_resume"), expected);
}
