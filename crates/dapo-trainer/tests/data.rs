//! Data files, repeats and splits. Which problems a split sets apart was computed by a transcription of SipHash-2-4 in Python.
#![allow(clippy::unwrap_used)]

use dapo_policy::{Message, Tokenizer};
use dapo_trainer::data::{
    Duplicates, LONGEST_LINE, Problem, PromptStyle, deduplicate, encode_prompts, read_distinct, read_jsonl,
    read_problems, split,
};
use std::fs;
use std::path::{Path, PathBuf};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn error(name: &str, text: &str) -> String {
    let folder = Folder::new();
    let error = read_problems(&folder.write(name, text)).unwrap_err().to_string();
    error.strip_prefix(&format!("{}/", folder.0.path().display())).expect("the error begins with the file").to_owned()
}

/// Id, question, answer.
fn seen(problems: &[Problem]) -> Vec<(&str, &str, &str)> {
    problems.iter().map(|p| (&p.id[..], &p.messages[0].content[..], &p.answer[..])).collect()
}

fn problem(question: &str, answer: &str) -> Problem {
    Problem { id: question.into(), messages: vec![Message::user(question)], answer: answer.into() }
}

fn sums(range: std::ops::Range<usize>) -> Vec<Problem> {
    range.map(|i| problem(&format!("{i}+{i}=?"), &format!("{}", 2 * i))).collect()
}

#[test]
fn reads_the_layouts_of_common_data_sets() {
    let folder = Folder::new();
    let lines = [
        (r#"{"question": "gsm8k", "answer": "2+2=<<2+2=4>>4\n#### 4"}"#, ("1", "gsm8k", "4")),
        (
            r#"{"problem": "math", "solution": "\\boxed{7}", "answer": "\\frac12", "unique_id": "test/1"}"#,
            ("test/1", "math", "\\frac12"),
        ),
        (r#"{"input": "mawps", "target": 43.0, "idx": 12}"#, ("12", "mawps", "43")),
        (
            r#"{"Body": "Two and two. ", "Question": "How many?", "Answer": 4.0, "ID": "chal-1", "idx": 3}"#,
            ("chal-1", "Two and two. How many?", "4"),
        ),
        (
            concat!(
                r#"{"data_source": "math_dapo", "prompt": [{"content": "dapo", "role": "user"}], "ability": "MATH", "#,
                r#""reward_model": {"ground_truth": "34", "style": "rule"}, "extra_info": {"index": "9a9b-8c"}}"#
            ),
            ("9a9b-8c", "dapo", "34"),
        ),
        (
            concat!(
                r#"{"prompt": [{"role": "user", "content": "aime"}], "reward_model": {"ground_truth": "540"}, "#,
                r#""extra_info": {"index": 24, "raw_problem": "aime", "split": null}}"#
            ),
            ("24", "aime", "540"),
        ),
        (
            r#"{"prompt": "text", "solution": "5", "reward_model": {"ground_truth": "5"}, "extra_info": null}"#,
            ("7", "text", "5"),
        ),
        (
            r#"{"ID": "2024-II-4", "Problem": "maxwell-jia", "Solution": "long", "Answer": 33}"#,
            ("2024-II-4", "maxwell-jia", "33"),
        ),
        (r#"{"id": 60, "problem": "h4", "solution": "long", "answer": "204", "year": "2024"}"#, ("60", "h4", "204")),
        (
            r#"{"id": 61, "problem": "math-ai", "solution": "Not \\boxed{1}. So \\boxed{\\frac{1}{2}}.", "url": "u"}"#,
            ("61", "math-ai", "\\frac{1}{2}"),
        ),
        (
            r#"{"id": 62, "problem": "both", "solution": "So \\boxed{1} or \\boxed{\\frac{1}{2}}.", "url": "u"}"#,
            ("62", "both", "\\boxed{1} or \\boxed{\\frac{1}{2}}"),
        ),
        (r#"{"prompt": "plain", "answer": -2.5}"#, ("12", "plain", "-2.5")),
    ];
    let text: Vec<&str> = lines.iter().map(|(line, _)| *line).collect();
    let problems = read_problems(&folder.write("all.jsonl", &text.join("\n"))).unwrap();
    assert_eq!(seen(&problems), lines.map(|(_, expected)| expected));
    assert_eq!(read_jsonl(&folder.write("all.txt", &text.join("\r\n\r\n"))).unwrap()[0], problems[0]);
}

#[test]
fn reads_the_layouts_of_trl_ms_swift_slime_and_others() {
    let folder = Folder::new();
    let lines = [
        (r#"{"prompt": "trl", "solution": "$\\frac12$"}"#, "trl", "$\\frac12$"),
        (r#"{"messages": [{"role": "user", "content": "swift"}], "solution": "So \\boxed{3}."}"#, "swift", "3"),
        (
            concat!(
                r#"{"messages": [{"role": "user", "content": "demo"}, {"role": "assistant", "content": "4"}], "#,
                r#""solution": "4"}"#
            ),
            "demo",
            "4",
        ),
        (r#"{"prompt": [{"role": "user", "content": "slime"}], "label": "5"}"#, "slime", "5"),
        (r#"{"prompt": "truth", "ground_truth": 6}"#, "truth", "6"),
        (r#"{"question": "q", "solution": "7"}"#, "q", "7"),
        (r#"{"problem": "numina", "solution": "Thus\n#### 8"}"#, "numina", "8"),
        (r#"{"query": "qwen", "solution": "9"}"#, "qwen", "9"),
        (r#"{"question": "olympiad", "final_answer": ["10"], "solution": ["long"]}"#, "olympiad", "10"),
        (r#"{"question": "sat", "Answer": "11"}"#, "sat", "11"),
        (
            r#"{"body": "Two cakes.", "question": "How many?", "answer": "2 (cakes)"}"#,
            "Two cakes. How many?",
            "2 (cakes)",
        ),
        (r#"{"passage": "P", "question": "Q", "answer": "1"}"#, "P\n\nQ", "1"),
        (r#"{"context": " C ", "input": "Q", "target": "1"}"#, "C\n\nQ", "1"),
        (r#"{"context": "", "question": "Q", "options": ["x", "y"], "answer": "x"}"#, "Q", "x"),
        (
            r#"{"prompt": "[{\"role\": \"user\", \"content\": \"text\"}]", "reward_model": "{\"ground_truth\": \"12\"}"}"#,
            "text",
            "12",
        ),
        (r#"{"question": "[1, 2]", "answer": 3}"#, "[1, 2]", "3"),
        (r#"{"question": "[{\"role\": 1}]", "answer": 3}"#, "[{\"role\": 1}]", "3"),
    ];
    let text: Vec<&str> = lines.iter().map(|(line, ..)| *line).collect();
    let problems = read_problems(&folder.write("all.jsonl", &text.join("\n"))).unwrap();
    let found: Vec<_> =
        problems.iter().map(|p| (p.messages.len(), &p.messages[0].content[..], &p.answer[..])).collect();
    assert_eq!(found, lines.map(|(_, question, answer)| (1, question, answer)));
}

#[test]
fn numbers_keep_their_digits() {
    let folder = Folder::new();
    let numbers = [
        ("1180591620717411303424", "1180591620717411303424"),
        ("-100000000000000000000", "-100000000000000000000"),
        ("18446744073709551615", "18446744073709551615"),
        ("3.14159265358979323846", "3.14159265358979323846"),
        ("0.1", "0.1"),
        ("43.0", "43"),
        ("1e3", "1000"),
    ];
    for name in ["a.jsonl", "a.json"] {
        let lines = numbers.map(|(number, _)| format!("{{\"question\": \"q\", \"answer\": {number}}}"));
        let text = if name == "a.json" { format!("[{}]", lines.join(", ")) } else { lines.join("\n") };
        let problems = read_problems(&folder.write(name, &text)).unwrap();
        assert_eq!(problems.iter().map(|p| &p.answer[..]).collect::<Vec<_>>(), numbers.map(|(_, answer)| answer));
    }
    let nested = format!("{{\"question\": \"q\", \"answer\": 1, \"x\": {}1{}}}", "[".repeat(9999), "]".repeat(9999));
    assert!(error("a.jsonl", &nested).contains("nested deeper than 100 levels"));
}

#[test]
fn byte_order_marks_are_passed_over() {
    let folder = Folder::new();
    let line = "{\"question\": \"q\", \"answer\": 1}";
    for (name, text) in [("a.jsonl", line.to_owned()), ("a.json", line.to_owned()), ("b.json", format!(" [{line}]"))] {
        let file = folder.write(name, &format!("\u{feff}{text}"));
        assert_eq!(seen(&read_problems(&file).unwrap()), [("1", "q", "1")], "{name}");
    }
    let wide: Vec<u8> = [0xfeff].into_iter().chain(line.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let file = folder.0.path().join("wide.jsonl");
    fs::write(&file, wide).unwrap();
    assert!(read_problems(&file).unwrap_err().to_string().contains("in UTF-16, expected UTF-8"));
}

#[test]
fn keeps_whole_conversations() {
    let folder = Folder::new();
    let line = concat!(
        r#"{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}], "#,
        r#""reward_model": {"ground_truth": "2"}}"#
    );
    let problems = read_problems(&folder.write("chat.jsonl", line)).unwrap();
    assert_eq!(problems[0].messages, [Message::system("Be brief."), Message::user("1+1?")]);
}

#[test]
fn json_files_hold_lines_or_one_array() {
    let folder = Folder::new();
    let expected = [("1", "a", "1"), ("b", "b", "2")];
    let array = folder.write(
        "array.json",
        "\n [\n {\"question\": \"a\", \"answer\": 1},\n {\"id\": \"b\", \"question\": \"b\", \"answer\": 2}]\n",
    );
    assert_eq!(seen(&read_problems(&array).unwrap()), expected);
    let lines = folder.write(
        "lines.JSON",
        "{\"question\": \"a\", \"answer\": 1}\n{\"id\": \"b\", \"question\": \"b\", \"answer\": 2}\n",
    );
    assert_eq!(seen(&read_problems(&lines).unwrap()), expected);
}

#[test]
fn folders_are_read_in_the_order_of_names() {
    let folder = Folder::new();
    folder.write("b.jsonl", "{\"question\": \"2\", \"answer\": 2}\n\n{\"id\": 1, \"question\": \"3\", \"answer\": 3}");
    folder.write("a.json", "[{\"question\": \"1\", \"answer\": 1}]");
    folder.write("README.md", "no data");
    folder.write(".hidden.jsonl", "no data");
    fs::create_dir(folder.0.path().join("sub.jsonl")).unwrap();
    let problems = read_problems(folder.0.path()).unwrap();
    assert_eq!(seen(&problems), [("a.json:1", "1", "1"), ("b.jsonl:1", "2", "2"), ("1", "3", "3")]);
}

#[test]
fn errors_name_file_and_line_and_what_was_found() {
    let good = "{\"question\": \"q\", \"answer\": \"1\"}\n";
    let forms = "expected question/answer, problem/answer, Problem/Answer, Body+Question/Answer, question/Answer, \
        input/target, prompt/reward_model.ground_truth, prompt/answer, prompt/ground_truth, prompt/label, \
        messages/answer, question/final_answer, problem/final_answer, problem/solution, prompt/solution, \
        messages/solution, question/solution or query/solution";
    assert_eq!(
        error("a.jsonl", &format!("{good}\n{{\"text\": \"q\"}}")),
        format!("a.jsonl:3: an object with text, {forms}")
    );
    assert_eq!(error("a.jsonl", "[1]"), format!("a.jsonl:1: [1], {forms}"));
    assert_eq!(error("a.jsonl", "\n"), format!("a.jsonl:1: no problems, {forms}"));
    assert_eq!(error("a.json", ""), format!("a.json:1: no problems, {forms}"));
    assert_eq!(error("a.json", " []"), format!("a.json:1: no problems, {forms}"));
    let cases = [
        (r#"{"input": "q", "target": [1, 2]}"#, "the answer [1,2], expected a string or a number"),
        (r#"{"input": "q", "target": " #### "}"#, "an empty answer, expected a gold answer"),
        (r#"{"input": " ", "target": 1}"#, "an empty question, expected a question"),
        (r#"{"input": 7, "target": 1}"#, "the prompt 7, expected text, or chat messages with role and content"),
        (r#"{"prompt": [], "answer": 1}"#, "the prompt [], expected text, or chat messages with role and content"),
        (
            r#"{"prompt": [{"role": "user"}], "answer": 1}"#,
            r#"the message {"role":"user"}, expected text, or chat messages with role and content"#,
        ),
        (r#"{"Body": 1, "Question": "q", "Answer": 1}"#, "the question 1, expected text"),
        (r#"{"problem": "q", "solution": " #### "}"#, "an empty answer, expected a gold answer"),
        (
            r#"{"prompt": null, "answer": 1}"#,
            "prompt, which is null, expected a value: a problem has a question and an answer",
        ),
        (
            r#"{"prompt": "q", "reward_model": {"style": "rule"}}"#,
            "reward_model without reward_model.ground_truth, expected a value: a problem has a question and an answer",
        ),
        (
            r#"{"question": "q", "choices": ["1", "2"], "answer": 1}"#,
            "choices whose number or letter is the answer (1), expected a question that holds its choices, and no such field",
        ),
        (
            r#"{"question": "q", "options": {"A": "1", "B": "2"}, "Answer": "B"}"#,
            "options whose number or letter is the answer (\"B\"), expected a question that holds its choices, and no such field",
        ),
        (r#"{"question": "q", "final_answer": ["1", "2"]}"#, r#"the answer ["1","2"], expected a string or a number"#),
    ];
    for (line, expected) in cases {
        assert_eq!(error("a.jsonl", &format!("{good}{line}")), format!("a.jsonl:2: {expected}"));
    }
    let array = "[{\"question\": \"q\", \"answer\": \"1\"},\n\n{\"text\": 1}, ]";
    assert_eq!(error("a.json", array), format!("a.json:2: an object with text, {forms}"));
    let cut = error("a.json", "[{\"question\": \"q\", \"answer\": \"1\"},\n\n {\"que");
    assert!(cut.starts_with("a.json:3: invalid JSON (EOF") && cut.ends_with("expected an array of objects"), "{cut}");
    let syntax = error("a.jsonl", &format!("{good}nonsense"));
    assert!(syntax.starts_with("a.jsonl:2: invalid JSON (") && syntax.ends_with("expected one object"), "{syntax}");
    let folder = Folder::new();
    let binary = folder.0.path().join("binary.jsonl");
    fs::write(&binary, b"{\"question\": \"\xff\", \"answer\": 1}").unwrap();
    let error = read_problems(&binary).unwrap_err().to_string();
    assert!(error.contains("binary.jsonl:1: invalid JSON ("), "{error}");
}

#[test]
fn long_values_are_cut_in_errors() {
    let line = format!("{{\"input\": \"q\", \"target\": [1, \"{}\"]}}", "é".repeat(500));
    let error = error("a.jsonl", &line);
    assert!(error.contains("é…, expected a string") && error.chars().count() < 300, "{error}");
}

#[test]
fn files_that_are_no_data_files_are_refused() {
    let missing = read_problems(Path::new("no/such/file.jsonl")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file.jsonl: "), "{missing}");
    let kinds = "expected files named .jsonl, .json or .parquet";
    assert_eq!(error("a.csv", "question,answer"), format!("a.csv: a file of an unknown kind, {kinds}"));
    let folder = Folder::new();
    folder.write("a.csv", "");
    let error = read_problems(folder.0.path()).unwrap_err().to_string();
    assert!(error.ends_with(&format!(": a folder without data files, {kinds}")), "{error}");
}

#[test]
#[cfg(not(feature = "parquet"))]
fn parquet_without_its_feature_says_which_one() {
    let expected = "a.parquet: Parquet files need the feature `parquet`, which this program was built without";
    assert_eq!(error("a.parquet", "PAR1"), expected);
}

#[test]
fn the_first_of_the_same_prompts_is_kept() {
    let chat = |system: &str| Problem {
        messages: vec![Message::system(system), Message::user("1+1")],
        ..problem("chat", "2")
    };
    let all = vec![problem("1+1", "2"), chat("x"), problem("2+2", "4"), problem("1+1", "3"), chat("y"), chat("x")];
    let (kept, duplicates) = deduplicate(all);
    assert_eq!(kept, [problem("1+1", "2"), chat("x"), problem("2+2", "4"), chat("y")]);
    assert_eq!(duplicates, Duplicates { dropped: 2, conflicting: 1 });
}

#[test]
fn a_different_division_into_messages_is_another_prompt() {
    let of = |parts: &[(&str, &str)]| Problem {
        messages: parts.iter().map(|(role, content)| Message::new(*role, *content)).collect(),
        ..problem("", "")
    };
    let all = vec![of(&[("user", "ab")]), of(&[("user", "a"), ("user", "b")]), of(&[("usera", "b")])];
    assert_eq!(deduplicate(all.clone()), (all, Duplicates::default()));
}

#[test]
fn repeats_are_dropped_while_reading() {
    let folder = Folder::new();
    let line = |question: &str, answer: &str| format!("{{\"question\": \"{question}\", \"answer\": \"{answer}\"}}\n");
    folder.write("1.jsonl", &[line("a", "1"), line("b", "2"), line("a", "1")].concat());
    folder.write("2.jsonl", &[line("b", "3"), line("c", "4"), line("a", "1")].concat());
    let (problems, duplicates) = read_distinct(folder.0.path()).unwrap();
    assert_eq!(seen(&problems), [("1.jsonl:1", "a", "1"), ("1.jsonl:2", "b", "2"), ("2.jsonl:2", "c", "4")]);
    assert_eq!(duplicates, Duplicates { dropped: 3, conflicting: 1 });
    assert_eq!(deduplicate(read_problems(folder.0.path()).unwrap()), (problems, duplicates));
}

#[test]
fn a_split_follows_its_rule() {
    let ids = |seed| {
        let (train, validation) = split(sums(0..24), 0.25, seed).unwrap();
        assert_eq!(train.len() + validation.len(), 24);
        validation.iter().map(|p| p.id.split('+').next().unwrap().parse().unwrap()).collect::<Vec<usize>>()
    };
    assert_eq!(ids(8), [4, 10, 11, 12, 13, 16, 17, 18, 19]);
    assert_eq!(ids(7), [16]);
}

#[test]
fn other_problems_do_not_change_a_problems_side() {
    let (train, validation) = split(sums(0..500), 0.2, 1).unwrap();
    assert!((60..140).contains(&validation.len()), "{}", validation.len());
    let (more_train, more_validation) = split(sums(0..900).into_iter().rev().collect(), 0.2, 1).unwrap();
    assert!(validation.iter().all(|p| more_validation.contains(p)) && train.iter().all(|p| more_train.contains(p)));
    let (_, larger) = split(sums(0..500), 0.3, 1).unwrap();
    assert!(validation.iter().all(|p| larger.contains(p)) && larger.len() > validation.len());
    let (_, other_seed) = split(sums(0..500), 0.2, 2).unwrap();
    assert_ne!(validation, other_seed);
    let answers = vec![problem("1+1", "2"), problem("1+1", "3")];
    let (train, validation) = split(answers, 0.5, 3).unwrap();
    assert!(train.is_empty() || validation.is_empty());
}

#[test]
fn shares_outside_zero_to_one_are_refused() {
    assert_eq!(split(sums(0..9), 0.0, 1).unwrap(), (sums(0..9), vec![]));
    assert!(split(sums(0..99), 1.0 - f64::EPSILON / 2.0, 1).unwrap().0.is_empty());
    for share in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        let error = split(sums(0..9), share, 1).unwrap_err().to_string();
        assert_eq!(error, format!("share is {share}, expected a share of the problems, in [0, 1)"));
    }
}

fn tiny(template: bool) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3");
    fs::copy(testdata.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    if template {
        let text = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}\
            {{ 'q' if enable_thinking is defined and not enable_thinking else 't' }}";
        fs::write(dir.path().join("chat_template.jinja"), text).unwrap();
    }
    Tokenizer::from_folder(dir.path()).unwrap()
}

#[test]
fn prompts_are_rendered_with_their_style() {
    let chat = Problem {
        messages: vec![Message::user("1"), Message::assistant("2"), Message::user("3")],
        ..problem("x", "4")
    };
    let style = PromptStyle { system: Some("5".into()), suffix: "6".into(), enable_thinking: Some(false) };
    let (prompts, too_long) = encode_prompts(std::slice::from_ref(&chat), &tiny(true), &style, 99).unwrap();
    assert_eq!((prompts[0].text.as_str(), too_long), ("s:5\nu:1\na:2\nu:36\nq", 0));
    assert_eq!((prompts[0].id.as_str(), prompts[0].answer.as_str()), ("x", "4"));
    let (prompts, _) = encode_prompts(&[chat], &tiny(false), &PromptStyle::default(), 99).unwrap();
    assert_eq!(prompts[0].text, "1\n2\n3");
}

#[test]
fn prompts_longer_than_the_limit_are_counted_and_empty_ones_refused() {
    let (style, tokenizer) = (PromptStyle::default(), tiny(false));
    let (prompts, too_long) = encode_prompts(&sums(8..12), &tokenizer, &style, 5).unwrap();
    assert_eq!((prompts.len(), prompts[1].token_ids.len(), too_long), (2, 5, 2));
    let error =
        encode_prompts(&[problem("x", "1"), Problem { messages: vec![], ..problem("y", "1") }], &tokenizer, &style, 5);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the prompt of problem y is \"\", no token, expected at least one token"
    );
}

#[test]
fn lines_and_elements_are_bounded() {
    let entry = |length: usize| format!(r#"{{"question": "{}", "answer": "2"}}"#, "1".repeat(length));
    let (short, long) = (entry(1), entry(LONGEST_LINE));
    let found = error("a.jsonl", &format!("{short}\n\n{long}\n{short}\n"));
    assert_eq!(found, "a.jsonl:3: a line of more than 64 MiB, expected at most 64 MiB");
    let found = error("a.json", &format!("[{short},\n{short},\n{long}]"));
    assert!(found.starts_with("a.json:3: invalid JSON (an element of more than 64 MiB"), "{found}");
    let folder = Folder::new();
    let many = format!("[{}]", vec![entry(LONGEST_LINE / 4); 6].join(",\n"));
    assert_eq!(read_problems(&folder.write("b.json", &many)).unwrap().len(), 6);
    let just = entry(LONGEST_LINE - 40);
    assert_eq!(read_problems(&folder.write("b.jsonl", &just)).unwrap().len(), 1);
}

#[cfg(unix)]
#[test]
fn data_that_is_no_file_is_refused_by_name() {
    let folder = Folder::new();
    let (zero, pipe) = (folder.0.path().join("zero.jsonl"), folder.0.path().join("pipe.json"));
    std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [zero, pipe] {
        let found = read_problems(&path).unwrap_err().to_string();
        assert_eq!(found, format!("{}: a pipe, socket or device, expected a file", path.display()));
    }
}
