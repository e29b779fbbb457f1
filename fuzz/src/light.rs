//! Targets for parsers of crates without tensors: answers, rewards, replies, programs, reports.

use crate::input::{Folder, Target, bounded, parts, text};
use dapo_code::{CodeReward, Language, last_block, same_output};
use dapo_external::{
    Batch, BuiltinConfig, BuiltinReward, CommandReward, Dialect, ExternalReward, Fault, OnError, PythonReward, Rules,
    Tally, Transport, UrlReward,
};
use dapo_report::{ReportOptions, is_report, report};
use dapo_reward::{
    Accuracy, CosineLength, DapoRule, ExtractRule, Format, Gold, Grader, Profile, Repetition, RewardFn, RewardInput,
    Score, TagCount, TextOptions, VerifyConfig, dapo_grade, dapo_normalize, extract_answer, group_answers,
    is_equivalent,
};

/// Every target of this file.
pub const TARGETS: &[(&str, Target)] = &[
    ("verify", verify),
    ("equivalence", equivalence),
    ("extract", extract),
    ("graders", graders),
    ("external_reply", external_reply),
    ("external_settings", external_settings),
    ("reward_cache", reward_cache),
    ("builtin_rewards", builtin_rewards),
    ("code_fence", code_fence),
    ("code_problem", code_problem),
    ("sandbox_message", sandbox_message),
    ("report", report_page),
];

/// A gold answer and a completion: the verdict is the same twice, and what was judged stands in the completion.
pub fn verify(data: &[u8]) {
    let [gold, completion] = parts(data).map(text);
    let config = VerifyConfig::default();
    let found = bounded(|| dapo_reward::verify(&gold, &completion, &config));
    assert_eq!(found, Gold::new(&gold, &config).verify(&completion));
    if let Some(extracted) = &found.extracted {
        assert!(extracted.text(&completion).len() <= completion.len());
    }
}

/// Two expressions: the verdict is the same twice.
pub fn equivalence(data: &[u8]) {
    let [gold, pred] = parts(data).map(text);
    let found = bounded(|| is_equivalent(&gold, &pred));
    assert_eq!(found, is_equivalent(&gold, &pred));
}

const EXTRACT_RULES: [ExtractRule; 3] = [ExtractRule::LastNumber, ExtractRule::Boxed, ExtractRule::Whole];

/// A completion: what any profile finds is part of it, without space at its ends.
pub fn extract(data: &[u8]) {
    let completion = text(data);
    let profiles = [Profile::auto(), Profile::whole(), Profile::choice()];
    for profile in profiles.into_iter().chain(EXTRACT_RULES.map(Profile::only)) {
        if let Some(found) = bounded(|| extract_answer(&completion, &profile)) {
            let answer = found.text(&completion);
            assert_eq!(answer, answer.trim(), "{profile:?}");
        }
    }
}

/// A gold answer, a completion and a prompt: every grader and every reward of texts gives a finite value or none, the same
/// alone and in a group.
pub fn graders(data: &[u8]) {
    let [gold, completion, prompt] = parts(data).map(text);
    let _ = dapo_normalize(&gold);
    let _ = dapo_grade(&completion, &gold, DapoRule::AnswerLine);
    let graders = [
        Grader::Math(VerifyConfig::default()),
        Grader::Dapo,
        Grader::StrictBox,
        Grader::DapoOrBox,
        Grader::Text(TextOptions::default()),
        Grader::Choice,
    ];
    for grader in graders {
        let _ = grader.can_read(&gold);
        let classes = bounded(|| group_answers(&[&completion, &completion, &gold], &grader));
        assert_eq!((classes.len(), classes[0]), (3, classes[1]));
        check_reward(&Accuracy { grader, ..Accuracy::default() }, &gold, &completion, &prompt);
    }
    check_reward(&Format::default(), &gold, &completion, &prompt);
    check_reward(&TagCount, &gold, &completion, &prompt);
    check_reward(&CosineLength::default(), &gold, &completion, &prompt);
    if let Ok(repetition) = Repetition::new(3, -1.0) {
        check_reward(&repetition, &gold, &completion, &prompt);
    }
}

/// A reward's value is finite, and the same twice.
fn check_reward(reward: &dyn RewardFn, gold: &str, completion: &str, prompt: &str) {
    let input = RewardInput::new(prompt, completion, gold).with_num_tokens(completion.len());
    let Ok(score) = bounded(|| reward.score(&input)) else { return };
    check_score(&score);
    let again = reward.score_batch(&[input]).unwrap_or_else(|error| panic!("{}: {error}", reward.name()));
    assert_eq!(again, [score], "{}", reward.name());
}

fn check_score(score: &Score) {
    let numbers = score.value.iter().chain(score.log.values());
    numbers.for_each(|number| assert!(number.is_finite(), "{score:?}"));
}

/// A reply of a reward's server or command in either dialect: one finite score per sample, or a fault in words of bounded
/// length.
pub fn external_reply(data: &[u8]) {
    let input = RewardInput::new("1 + 1?", " 2", "2");
    for samples in [1, 3] {
        let batch = Batch { id: 7, step: 1, samples: vec![&input; samples] };
        for dialect in [Dialect::Dapo, Dialect::Openrlhf] {
            match bounded(|| dapo_external::fuzzing::scores(dialect, data, &batch)) {
                Ok(scores) => {
                    assert_eq!(scores.len(), samples);
                    scores.iter().for_each(check_score);
                }
                Err(fault) => assert!(!fault.to_string().is_empty() && !fault.kind().is_empty()),
            }
        }
    }
}

const SECRET: &str = "pass-5f1e";

/// Settings of external rewards, and addresses: checks end, and a password is never shown.
pub fn external_settings(data: &[u8]) {
    let json = text(data);
    let _ = serde_json::from_str::<CommandReward>(&json).map(|config| config.validate().is_ok());
    let _ = serde_json::from_str::<PythonReward>(&json).map(|config| config.validate().is_ok());
    if let Ok(config) = serde_json::from_str::<UrlReward>(&json) {
        let _ = config.validate();
    }
    let address = json.replace(SECRET, "");
    for url in [format!("http://me:{SECRET}@{address}"), format!("http://host/{address}?key={SECRET}")] {
        // An at sign or a question mark in the text makes another address of it.
        if !address.contains(['@', '?', '#', '/']) && !address.contains(SECRET) {
            assert!(!dapo_external::fuzzing::shown_address(&url).contains(SECRET), "{url:?}");
        }
    }
}

/// A transport that is never asked.
struct Silent;

impl Transport for Silent {
    fn lanes(&self) -> usize {
        1
    }

    fn ask(&self, _: usize, _: &Batch<'_, '_>, _: &Tally) -> Result<Vec<Score>, Fault> {
        Err(Fault::Timeout { seconds: 0.0, hint: String::new() })
    }
}

/// The file of known answers: what opens, opens again, is put in order, and then stays as it is.
pub fn reward_cache(data: &[u8]) {
    let folder = Folder::new();
    let file = folder.write("reward_cache/judge.jsonl", data);
    let rules = Rules { batch: None, on_error: OnError::Stop, max_error_fraction: 0.0 };
    let open = || ExternalReward::new("judge", Box::new(Silent), rules, Some(folder.path()));
    let Ok(reward) = bounded(open) else { return };
    let read = || std::fs::read(&file).unwrap_or_default();
    assert!(read().is_empty() || read().ends_with(b"\n"));
    let put_in_order = |reward: &ExternalReward| {
        reward.checkpoint(u64::MAX).unwrap_or_else(|error| panic!("{error}"));
        read()
    };
    let first = put_in_order(&reward);
    let again = open().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(text(&first), text(&put_in_order(&again)));
}

/// The settings of a reward without code, a completion and a gold answer.
pub fn builtin_rewards(data: &[u8]) {
    let [settings, gold, completion] = parts(data);
    let Ok(config) = serde_json::from_slice::<BuiltinConfig>(settings) else { return };
    let again = serde_json::to_string(&config).unwrap_or_default();
    assert_eq!(serde_json::from_str::<BuiltinConfig>(&again).ok().as_ref(), Some(&config));
    if let Ok(reward) = bounded(|| BuiltinReward::new("own", &config)) {
        check_reward(&reward, &text(gold), &text(completion), "");
    }
}

/// A completion: its program consists of its lines, and is found again in a block of its own.
pub fn code_fence(data: &[u8]) {
    let completion = text(data);
    for tags in [&[][..], &["python", "py"]] {
        let Some(program) = bounded(|| last_block(&completion, tags)) else { continue };
        assert!(program.lines().all(|line| completion.contains(line)));
        // A carriage return before a line feed belongs to the line's end.
        if !program.contains("\r\n") {
            let mark = "`".repeat(completion.len().max(3));
            let block = format!("{mark}python\n{program}{mark}\n");
            assert_eq!(last_block(&block, tags), Some(program));
        }
    }
    let [output, expected] = parts(data).map(text);
    assert!(same_output(&output, &output));
    assert_eq!(same_output(&output, &expected), same_output(&expected, &output));
}

/// A problem's column of tests, as JSON or as JSON in a text.
pub fn code_problem(data: &[u8]) {
    let column = serde_json::from_slice(data).unwrap_or_else(|_| text(data).into());
    for language in [Language::Python, Language::Rust, Language::Command] {
        let config = CodeReward { language, ..CodeReward::default() };
        match bounded(|| dapo_code::fuzzing::num_tests(Some(&column), &config)) {
            Ok(tests) => assert_ne!(tests, Some(0)),
            Err(error) => assert!(error.to_string().contains("tests")),
        }
    }
}

/// A line between host and launcher: what is understood is written and understood again.
pub fn sandbox_message(data: &[u8]) {
    if let Some(line) = bounded(|| dapo_code::fuzzing::message(data)) {
        assert!(!line.contains('\n'));
        assert_eq!(dapo_code::fuzzing::message(line.as_bytes()).as_ref(), Some(&line));
    }
}

/// The files of a run folder: the page is one, and nothing in the files adds an element to it.
pub fn report_page(data: &[u8]) {
    let [config, metrics, timings, evaluations, completions] = parts(data);
    let folder = Folder::new();
    folder.write("config.resolved.toml", config);
    for (name, bytes) in [
        ("metrics.jsonl", metrics),
        ("timings.jsonl", timings),
        ("evaluations.jsonl", evaluations),
        ("completions/step-1.jsonl", completions),
    ] {
        folder.write(name, bytes);
    }
    let runs = [folder.path().to_owned()];
    let page = bounded(|| report(&runs, &ReportOptions::default())).unwrap_or_else(|error| panic!("{error}"));
    assert!(is_report(page.html.as_bytes()) && page.shown <= page.total);
    folder.write("config.resolved.toml", b"");
    for name in ["metrics.jsonl", "timings.jsonl", "evaluations.jsonl"] {
        folder.write(name, b"");
    }
    let empty = report(&runs, &ReportOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    for tag in ["<script", "</script", "<!--", "<style"] {
        assert_eq!(page.html.matches(tag).count(), empty.html.matches(tag).count(), "{tag}");
    }
}
