//! `dapo generate`.

use crate::{TINY_MODEL, dapo, dapo_with_stdin};

#[test]
fn prints_one_completion() {
    let args = ["generate", "--model", TINY_MODEL, "--temperature", "0", "--max-tokens", "72"];
    let run = dapo(&[args.as_slice(), &["17+4="]].concat()).success();
    assert!(run.stdout.contains("####"), "{}", run.stdout);
    assert!(!run.stdout.contains("17+4=17+4="), "the prompt is not repeated: {}", run.stdout);
    let piped = dapo_with_stdin(&[args.as_slice(), &["-"]].concat(), "17+4=").success();
    assert_eq!(piped.stdout, run.stdout);
}

#[test]
fn samples_are_a_function_of_the_seed() {
    let completions = |seed| {
        let args = ["generate", "--model", TINY_MODEL, "17+4+25=", "--samples", "3", "--temperature", "3", "--json"];
        dapo(&[args.as_slice(), &["--seed", seed]].concat()).success().json_lines()
    };
    let first = completions("1");
    assert_eq!(first.len(), 3);
    assert_eq!(first, completions("1"));
    assert_ne!(first, completions("2"));
    for completion in first {
        assert!(completion["text"].is_string() && completion["tokens"].as_u64() > Some(0), "{completion}");
        assert!(["stop", "length"].contains(&completion["finish_reason"].as_str().unwrap()), "{completion}");
    }
}

#[test]
fn says_that_a_completion_was_cut_off() {
    let args = ["generate", "--model", TINY_MODEL, "17+4+25=", "--max-tokens", "1"];
    let run = dapo(&args).success();
    assert!(run.stderr.contains("stopped after 1 tokens"), "{}", run.stderr);
    assert_eq!(dapo(&[args.as_slice(), &["--quiet"]].concat()).success().stderr, "");
}

#[test]
fn a_text_ends_a_completion_and_stays_in_it() {
    let generate = |more: &[&str]| {
        let args =
            ["generate", "--model", TINY_MODEL, "17+4+25=", "--temperature", "0", "--max-tokens", "72", "--json"];
        dapo(&[args.as_slice(), more].concat()).success().json_lines().remove(0)
    };
    let whole = generate(&[]);
    let stopped = generate(&["--stop", "nowhere", "--stop", "##"]);
    let text = stopped["text"].as_str().unwrap();
    assert!(text.ends_with("##") && text.matches("##").count() == 1, "{text}");
    assert!(whole["text"].as_str().unwrap().starts_with(text));
    assert_eq!(stopped["finish_reason"], "stop");
    dapo(&["generate", "--model", TINY_MODEL, "1+1=", "--stop", ""])
        .failure(1, &["error: --stop", "stop[0] is \"\", expected a text of at least one character"]);
}

#[test]
fn min_p_and_a_repetition_penalty_change_what_is_drawn() {
    let generate = |more: &[&str]| {
        let args = ["generate", "--model", TINY_MODEL, "17+4+25=", "--temperature", "3", "--top-p", "1", "--json"];
        dapo(&[args.as_slice(), more].concat()).success().json_lines()
    };
    let plain = generate(&[]);
    assert_ne!(generate(&["--min-p", "0.5"]), plain);
    assert_ne!(generate(&["--repetition-penalty", "1.5"]), plain);
    assert_eq!(generate(&["--min-p", "0", "--repetition-penalty", "1"]), plain);
    dapo(&["generate", "--model", TINY_MODEL, "1+1=", "--min-p", "2"])
        .failure(2, &["min_p is 2, expected a number from 0 to 1"]);
    dapo(&["generate", "--model", TINY_MODEL, "1+1=", "--repetition-penalty", "0"])
        .failure(2, &["repetition_penalty is 0, expected a finite number above 0"]);
    dapo(&["generate", "--model", TINY_MODEL, "1+1=", "--temperature", "1e-9"])
        .failure(2, &["expected 0, which takes the most probable token, or at least 0.000001"]);
}

#[test]
fn limits_beyond_the_context_are_refused() {
    dapo(&["generate", "--model", TINY_MODEL, "1+1=", "--max-tokens", "256"])
        .failure(1, &["error: --max-tokens is 256, expected less than the model's context of 256 tokens"]);
    let long = "1+".repeat(100);
    dapo(&["generate", "--model", TINY_MODEL, &long, "--max-tokens", "100"])
        .failure(1, &["error: ", "200 tokens", "256"]);
    dapo(&["generate", "--model", TINY_MODEL, ""]).failure(1, &["error: the prompt is empty"]);
}

#[test]
fn a_device_that_is_asked_for_is_used_or_refused() {
    let generate = |device| dapo(&["generate", "--model", TINY_MODEL, "17+4=", "-v", "--device", device]);
    let run = generate("cpu").success();
    assert!(run.stderr.contains("computing on cpu"), "{}", run.stderr);
    if !cfg!(feature = "cuda") {
        generate("cuda:1").failure(1, &["error: device is cuda:1, expected cpu: this build has no GPU code"]);
        assert!(generate("auto").success().stderr.contains("computing on cpu"));
    }
}

#[test]
fn says_which_characters_of_the_prompt_the_model_does_not_see() {
    let generate = |prompt: &str, more: &[&str]| {
        dapo(&[&["generate", "--model", TINY_MODEL, prompt, "--max-tokens", "4"][..], more].concat()).success().stderr
    };
    let said = generate("What is 1+2=?", &[]);
    let unknown = "the model does not see them";
    assert_eq!(said.matches(unknown).count(), 1, "{said}");
    assert!(said.contains(r#"does not see them: "W", "h", "a", "t", "i", "s""#), "{said}");
    let said = generate("1+2=", &["--system", "abcdefghij"]);
    assert!(said.contains(r#""g", "h" and 2 more"#), "{said}");
    assert!(!generate("1+2=", &[]).contains(unknown));
}
