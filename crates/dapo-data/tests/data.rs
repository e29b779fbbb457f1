//! Data files, repeats and splits. Which problems a split sets apart was computed by a transcription of SipHash-2-4 in
//! Python.
#![allow(clippy::unwrap_used)]

use dapo_data::{
    Duplicates, Fields, LONGEST_LINE, LeftOut, OnBadLine, Problem, PromptStyle, ReadOptions, deduplicate,
    encode_prompts, overlap, read, read_distinct, read_jsonl, read_problems, split,
};
use dapo_policy::{Message, Tokenizer};
use serde_json::json;
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
    Problem::new(question, vec![Message::user(question)], answer)
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
    let remedy = "(to train on others, set data.fields.prompt and data.fields.answer)";
    let forms = "expected question/answer, problem/answer, Problem/Answer, Body+Question/Answer, question/Answer, \
        input/target, prompt/reward_model.ground_truth, prompt/answer, prompt/ground_truth, prompt/label, \
        messages/answer, question/final_answer, problem/final_answer, problem/solution, prompt/solution, \
        messages/solution, question/solution or query/solution";
    assert_eq!(
        error("a.jsonl", &format!("{good}\n{{\"text\": \"q\"}}")),
        format!("a.jsonl:3: no question and answer in the fields text {remedy}, {forms}")
    );
    assert_eq!(error("a.jsonl", "[1]"), format!("a.jsonl:1: [1], {forms}"));
    assert_eq!(error("a.jsonl", "\n"), format!("a.jsonl:1: no problems, {forms}"));
    assert_eq!(error("a.json", ""), format!("a.json:1: no problems, {forms}"));
    assert_eq!(error("a.json", " []"), format!("a.json:1: no problems, {forms}"));
    let cases = [
        (
            r#"{"input": "q", "target": [1, [2]]}"#,
            "the answer [1,[2]], expected a string, a number, or a list of these",
        ),
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
            "choices whose number or letter is the answer (1), expected a question that holds its choices, or data.fields.choices",
        ),
        (
            r#"{"question": "q", "options": {"A": "1", "B": "2"}, "Answer": "B"}"#,
            "options whose number or letter is the answer (\"B\"), expected a question that holds its choices, or data.fields.choices",
        ),
        (
            r#"{"question": "q", "final_answer": ["1", true]}"#,
            r#"the answer ["1",true], expected a string, a number, or a list of these"#,
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(error("a.jsonl", &format!("{good}{line}")), format!("a.jsonl:2: {expected}"));
    }
    let array = "[{\"question\": \"q\", \"answer\": \"1\"},\n\n{\"text\": 1}, ]";
    assert_eq!(
        error("a.json", array),
        format!("a.json:2: no question and answer in the fields text {remedy}, {forms}")
    );
    let cut = error("a.json", "[{\"question\": \"q\", \"answer\": \"1\"},\n\n {\"que");
    assert!(cut.starts_with("a.json:3: not JSON (EOF") && cut.ends_with("expected an array of objects"), "{cut}");
    let syntax = error("a.jsonl", &format!("{good}nonsense"));
    assert!(syntax.starts_with("a.jsonl:2: not JSON (") && syntax.ends_with("expected one object"), "{syntax}");
    let folder = Folder::new();
    let binary = folder.0.path().join("binary.jsonl");
    fs::write(&binary, b"{\"question\": \"\xff\", \"answer\": 1}").unwrap();
    let error = read_problems(&binary).unwrap_err().to_string();
    assert!(error.contains("binary.jsonl:1: not JSON ("), "{error}");
}

#[test]
fn long_values_are_cut_in_errors() {
    let line = format!("{{\"input\": \"q\", \"target\": [null, \"{}\"]}}", "é".repeat(500));
    let error = error("a.jsonl", &line);
    assert!(error.contains("é…, expected a string") && error.chars().count() < 300, "{error}");
}

#[test]
fn files_that_are_no_data_files_are_refused() {
    let missing = read_problems(Path::new("no/such/file.jsonl")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file.jsonl: "), "{missing}");
    let kinds = "expected files named .jsonl, .json, .csv or .parquet";
    assert_eq!(error("a.tsv", "question\tanswer"), format!("a.tsv: a file of an unknown kind, {kinds}"));
    let folder = Folder::new();
    folder.write("a.tsv", "");
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
    assert!(found.starts_with("a.json:3: not JSON (an element of more than 64 MiB"), "{found}");
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

/// What is read from one line with these column names.
fn read_line(line: &str, fields: &Fields) -> Result<Problem, String> {
    let folder = Folder::new();
    let file = folder.write("a.jsonl", line);
    let options = ReadOptions { fields: fields.clone(), ..ReadOptions::default() };
    let reading = read(&file, &options).map_err(|error| error.to_string())?;
    Ok(reading.problems.into_iter().next().unwrap())
}

fn fields(names: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (field, name) in names {
        *match *field {
            "prompt" => &mut fields.prompt,
            "answer" => &mut fields.answer,
            "system" => &mut fields.system,
            _ => &mut fields.choices,
        } = Some((*name).to_owned());
    }
    fields
}

#[test]
fn the_whole_entry_stays_with_its_problem_and_its_prompt() {
    let line =
        r#"{"question": "q", "answer": "1", "level": 3, "tests": [{"input": "a"}], "big": 100000000000000000000}"#;
    let problem = read_line(line, &Fields::default()).unwrap();
    let expected =
        json!({"question": "q", "answer": "1", "level": 3, "tests": [{"input": "a"}], "big": "100000000000000000000"});
    assert_eq!(*problem.columns, expected);
    let style = PromptStyle { system: Some("s".into()), suffix: "!".into(), ..PromptStyle::default() };
    let (prompts, _) = encode_prompts(&[problem], &tiny(true), &style, 99).unwrap();
    assert_eq!(*prompts[0].columns, expected);
    let messages = [json!({"role": "system", "content": "s"}), json!({"role": "user", "content": "q!"})];
    assert_eq!(*prompts[0].messages, messages);
}

#[test]
fn columns_have_the_names_that_are_given() {
    let line = r#"{"meta": {"q": "deep", "gold": 7}, "rule": "Be brief.", "instruction": "top", "answer": 1, "extra": "{\"q\": \"text\"}"}"#;
    let seen = |names: &[(&str, &str)]| {
        let Problem { messages, answer, .. } = read_line(line, &fields(names)).unwrap();
        (messages.into_iter().map(|m| (m.role, m.content)).collect::<Vec<_>>(), answer)
    };
    let user = |content: &str| ("user".to_owned(), content.to_owned());
    assert_eq!(seen(&[("prompt", "instruction")]), (vec![user("top")], "1".into()));
    assert_eq!(seen(&[("prompt", "meta.q"), ("answer", "meta.gold")]), (vec![user("deep")], "7".into()));
    assert_eq!(seen(&[("prompt", "extra.q")]), (vec![user("text")], "1".into()));
    let system = ("system".to_owned(), "Be brief.".to_owned());
    assert_eq!(seen(&[("prompt", "instruction"), ("system", "rule")]), (vec![system, user("top")], "1".into()));
    let other = r#"{"question": "q", "my_solution": "so \\boxed{5}", "note": "", "answer": 2}"#;
    assert_eq!(read_line(other, &fields(&[("answer", "my_solution")])).unwrap().answer, "5");
    assert_eq!(read_line(other, &fields(&[("system", "note")])).unwrap().messages, [Message::user("q")]);
    let error = |names| read_line(other, &fields(names)).unwrap_err().split_once(":1: ").unwrap().1.to_owned();
    assert_eq!(
        error(&[("prompt", "questoin")]),
        "an object with question, my_solution, note, answer, expected questoin, which data.fields.prompt names; did you \
         mean question?"
    );
    assert_eq!(
        error(&[("prompt", "question"), ("answer", "gold")]),
        "an object with question, my_solution, note, answer, expected gold, which data.fields.answer names"
    );
    assert_eq!(
        error(&[("system", "rule")]),
        "an object with question, my_solution, note, answer, expected rule, which data.fields.system names"
    );
    let two = r#"{"prompt": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "answer": 1, "rule": "c"}"#;
    let error = read_line(two, &fields(&[("system", "rule")])).unwrap_err();
    assert!(
        error.ends_with("rule beside a system message in the question, expected one system message, a text"),
        "{error}"
    );
}

#[test]
fn choices_are_appended_and_the_gold_is_a_letter() {
    let names = fields(&[("choices", "options")]);
    let read = |options: &str, answer: &str| {
        let line = format!(r#"{{"question": "Which?", "options": {options}, "answer": {answer}}}"#);
        read_line(&line, &names).map(|p| (p.messages[0].content.clone(), p.answer))
    };
    let lines = |texts: [&str; 3]| format!("Which?\nA. {}\nB. {}\nC. {}", texts[0], texts[1], texts[2]);
    let list = r#"["red", "green", "blue"]"#;
    for answer in ["2", "\"C\"", "\"(c)\"", "\"blue\"", "\"2\""] {
        assert_eq!(read(list, answer).unwrap(), (lines(["red", "green", "blue"]), "C".into()), "{answer}");
    }
    let labelled = r#"{"A": "red", "B": "green", "C": "blue"}"#;
    assert_eq!(read(labelled, "\"B\"").unwrap(), (lines(["red", "green", "blue"]), "B".into()));
    let arc = r#"{"label": ["1", "2", "3"], "text": ["red", "green", "blue"]}"#;
    assert_eq!(read(arc, "\"1\"").unwrap(), (lines(["red", "green", "blue"]), "A".into()));
    let with_letters = r#"["A)21", "B) 22", "(C) 23"]"#;
    assert_eq!(read(with_letters, "\"B\"").unwrap(), (lines(["21", "22", "23"]), "B".into()));
    let json_text = r#""[\"red\", \"green\", \"blue\"]""#;
    assert_eq!(read(json_text, "0").unwrap().1, "A");
    // Numbers that are choices: by text where it is text, and refused where it may be either.
    assert_eq!(read("[2, 4, 1]", "\"1\"").unwrap().1, "C");
    assert_eq!(read("[2, 4, 6]", "4").unwrap().1, "B");
    for (options, answer, expected) in [
        ("[2, 4, 1]", "1", "the answer 1, which stands for C and B, expected an answer that stands for one choice"),
        (list, "3", "the answer 3, expected one of the 3 choices, its letter, or its number from 0"),
        (list, "\"pink\"", "the answer \"pink\", expected one of the 3 choices, its letter, or its number from 0"),
        (list, "[1]", "the answer [1], expected a choice, its letter or its number"),
        ("[\"red\"]", "0", "the choices [\"red\"], expected a list of choices, or an object of labels and choices"),
        (
            "\"A) 1 B) 2\"",
            "0",
            "the choices \"A) 1 B) 2\", expected a list of choices, or an object of labels and choices",
        ),
    ] {
        let error = read(options, answer).unwrap_err();
        assert!(error.ends_with(&format!(":1: {expected}")), "{error}");
    }
    let silent = r#"{"messages": [{"role": "system", "content": "s"}], "options": ["x", "y"], "answer": "x"}"#;
    let error = read_line(silent, &names).unwrap_err();
    assert!(error.ends_with("choices beside a conversation without a user, expected a question"), "{error}");
    let missing = read_line(r#"{"question": "q", "answer": 1}"#, &names).unwrap_err();
    assert!(missing.ends_with("expected options, which data.fields.choices names"), "{missing}");
    assert_eq!(read("null", "7").unwrap(), ("Which?".into(), "7".into()));
}

#[test]
fn a_list_of_answers_accepts_any_of_them() {
    let golds = |line: &str| {
        let Problem { answer, alternatives, .. } = read_line(line, &Fields::default()).unwrap();
        std::iter::once(answer).chain(alternatives).collect::<Vec<_>>()
    };
    assert_eq!(golds(r#"{"question": "q", "answer": ["1/2", 0.5, "x #### half"]}"#), ["1/2", "0.5", "half"]);
    assert_eq!(golds(r#"{"prompt": "q", "reward_model": {"ground_truth": ["a", "b"]}}"#), ["a", "b"]);
    assert_eq!(
        golds(r#"{"question": "q", "final_answer": ["$2$", "$3$"], "is_multiple_answer": false}"#),
        ["$2$", "$3$"]
    );
    assert_eq!(golds(r#"{"question": "q", "final_answer": ["$2$", "$3$"], "is_multiple_answer": true}"#), ["$2$, $3$"]);
    assert_eq!(golds(r#"{"question": "q", "answer": ["", "7"]}"#), ["7"]);
    let several = |answers: &[&str]| Problem {
        alternatives: answers[1..].iter().map(|answer| (*answer).to_owned()).collect(),
        ..problem("q", answers[0])
    };
    let (_, duplicates) = deduplicate(vec![several(&["1", "2"]), several(&["1", "2"]), several(&["1"])]);
    assert_eq!(duplicates, Duplicates { dropped: 2, conflicting: 1 });
}

#[test]
fn problems_without_answers_load_where_none_is_needed() {
    let folder = Folder::new();
    let text = [
        r#"{"prompt": "a"}"#,
        r#"{"prompt": "b", "answer": null}"#,
        r#"{"prompt": [{"role": "user", "content": "c"}], "answer": ""}"#,
        r#"{"question": "d", "answer": "4"}"#,
        r#"{"messages": [{"role": "user", "content": "e"}], "tests": [1]}"#,
        r#"{"problem": "f", "answer": "proof"}"#,
    ];
    let file = folder.write("a.jsonl", &text.join("\n"));
    let options = ReadOptions { needs_answer: false, ..ReadOptions::default() };
    let problems = read(&file, &options).unwrap().problems;
    let seen: Vec<_> = problems.iter().map(|p| (&p.messages[0].content[..], &p.answer[..])).collect();
    assert_eq!(seen, [("a", ""), ("b", ""), ("c", ""), ("d", "4"), ("e", ""), ("f", "proof")]);
    assert!(
        read_problems(&file)
            .unwrap_err()
            .to_string()
            .contains("a.jsonl:1: no question and answer in the fields prompt (to train on others, set data.fields.")
    );
    let error = read(&folder.write("b.jsonl", r#"{"text": "a"}"#), &options).unwrap_err().to_string();
    assert!(error.ends_with("or query/solution, with or without the answer"), "{error}");
}

#[test]
fn columns_that_settings_name_must_be_there_even_where_no_answer_is_needed() {
    let folder = Folder::new();
    let read = |name: &str, text: &str, names: &[(&str, &str)]| {
        let options = ReadOptions { needs_answer: false, fields: fields(names), ..ReadOptions::default() };
        read(&folder.write(name, text), &options).map_err(|error| error.to_string())
    };
    let text = "{\"question\": \"q\", \"answer\": 1, \"meta\": {\"gold\": 2}}";
    let error = read("a.jsonl", text, &[("answer", "gold")]).unwrap_err();
    let expected = "a.jsonl:1: an object with question, answer, meta, expected gold, which data.fields.answer names";
    assert!(error.ends_with(expected), "{error}");
    let error = read("a.jsonl", text, &[("answer", "meta.glod")]).unwrap_err();
    assert!(error.ends_with("expected meta.glod, which data.fields.answer names"), "{error}");
    assert_eq!(read("a.jsonl", text, &[("answer", "meta.gold")]).unwrap().problems[0].answer, "2");
    // A column that is there may be empty.
    let bare = read("a.jsonl", "{\"question\": \"q\", \"gold\": null}", &[("answer", "gold")]).unwrap();
    assert_eq!(bare.problems[0].answer, "");
    let error = read("a.csv", "question,answer\nq,1\n", &[("answer", "anwser")]).unwrap_err();
    let expected = "a.csv:1: a table with the columns question, answer, expected anwser, which data.fields.answer \
                    names; did you mean answer?";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn bad_lines_are_left_out_and_counted_where_that_is_asked_for() {
    let folder = Folder::new();
    let text = [
        r#"{"question": "a", "answer": "1"}"#,
        "{nonsense",
        r#"{"text": "no layout"}"#,
        r#"{"question": " ", "answer": "1"}"#,
        r#"{"question": "b", "answer": {"x": 1}}"#,
        r#"{"question": "c", "answer": "B", "choices": ["x", "y"]}"#,
        r#"{"question": "d", "answer": ""}"#,
        r#"{"question": "e", "answer": "Proof"}"#,
        r#"{"question": "f", "answer": "2", "x": NaN}"#,
        r#"{"question": "g", "answer": null}"#,
        r#"{"question": "h", "answer": ["notfound", "3"]}"#,
    ];
    let file = folder.write("a.jsonl", &text.join("\n"));
    let skip = ReadOptions { on_bad_line: OnBadLine::Skip, leave_out_placeholders: true, ..ReadOptions::default() };
    let reading = read(&file, &skip).unwrap();
    assert_eq!(seen(&reading.problems), [("1", "a", "1"), ("11", "h", "3")]);
    let expected = LeftOut { placeholder: 3, syntax: 2, layout: 1, question: 1, answer: 1, choices: 1 };
    assert_eq!((reading.left_out, reading.left_out.total()), (expected, 9));
    assert_eq!(
        reading.left_out.to_string(),
        "3 without an answer, 2 with invalid syntax, 1 of an unknown layout, 1 with an unfit question, \
         1 with an unfit answer, 1 with unfit choices"
    );
    // Answers that stand for none are no reason to refuse a file.
    let placeholders = folder.write("b.jsonl", &[text[0], text[6], text[7], text[9]].join("\n"));
    let strict = ReadOptions { on_bad_line: OnBadLine::Error, ..skip.clone() };
    let reading = read(&placeholders, &strict).unwrap();
    assert_eq!((reading.problems.len(), reading.left_out), (1, LeftOut { placeholder: 3, ..LeftOut::default() }));
    assert!(read(&file, &strict).unwrap_err().to_string().contains("a.jsonl:2: not JSON"));
    // By default they are words, and an empty one is an error.
    assert_eq!(read_problems(&folder.write("c.jsonl", text[7])).unwrap()[0].answer, "Proof");
    let none = read(&folder.write("d.jsonl", text[7]), &strict).unwrap_err().to_string();
    assert!(none.contains("d.jsonl:1: no problems (1 without an answer), expected question/answer"), "{none}");
    // An array's elements can be left out; broken syntax in it cannot.
    let array = format!("[{}, {}, {}]", text[0], text[2], text[10]);
    assert_eq!(read(&folder.write("e.json", &array), &skip).unwrap().left_out.layout, 1);
    assert!(read(&folder.write("f.json", &array[..array.len() - 9]), &skip).is_err());
}

#[test]
fn csv_files_have_a_header_and_the_same_layouts() {
    let folder = Folder::new();
    let text = "\u{feff}id, question ,answer,note\r\na,\"Two, and\ntwo?\",4,\r\n\r\nb,\"He said \"\"hi\"\".\",1180591620717411303424,x\r\n";
    let problems = read_problems(&folder.write("a.csv", text)).unwrap();
    let expected = [("a", "Two, and\ntwo?", "4"), ("b", "He said \"hi\".", "1180591620717411303424")];
    assert_eq!(seen(&problems), expected);
    assert_eq!(problems[0].columns["note"], serde_json::Value::Null);
    assert_eq!(problems[1].columns["note"], "x");
    let nested = "prompt,reward_model\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"q\"\"}]\",\"{\"\"ground_truth\"\": 5}\"\n";
    assert_eq!(seen(&read_problems(&folder.write("b.csv", nested)).unwrap()), [("2", "q", "5")]);
    assert_eq!(
        error("a.csv", "question,answer\nq\nr,2\n"),
        "a.csv:2: a row of 1 columns, expected 2, as the header has"
    );
    assert_eq!(
        error("a.csv", "question,answer\nq,1\nr,\n"),
        "a.csv:3: answer, which is null, expected a value: a problem has a question and an answer"
    );
    assert_eq!(error("a.csv", "a,a\n1,2\n"), "a.csv:1: two columns named \"a\", expected a header of distinct names");
    assert!(
        error("a.csv", "text,label\n1,2\n").starts_with("a.csv:1: a table with the columns text, label (to train on")
    );
    assert!(error("a.csv", "").starts_with("a.csv:1: a table with the columns  (to train on"));
    assert!(error("a.csv", "question,answer\n").starts_with("a.csv:1: no problems, expected"));
    let path = folder.0.path().join("c.csv");
    fs::write(&path, b"question,answer\nq,1\n\xff,2\nr,3,4\ns,5\n").unwrap();
    let skip = ReadOptions { on_bad_line: OnBadLine::Skip, ..ReadOptions::default() };
    let reading = read(&path, &skip).unwrap();
    assert_eq!(seen(&reading.problems), [("2", "q", "1"), ("5", "s", "5")]);
    assert_eq!(reading.left_out.syntax, 2);
    let named = ReadOptions { fields: fields(&[("prompt", "text"), ("answer", "label")]), ..ReadOptions::default() };
    assert_eq!(seen(&read(&folder.write("d.csv", "text,label\nq,1\n"), &named).unwrap().problems), [("2", "q", "1")]);
}

#[test]
fn a_reading_names_its_files() {
    let folder = Folder::new();
    let (b, a) =
        (folder.write("b.csv", "question,answer\nq,1\n"), folder.write("a.jsonl", r#"{"question": "r", "answer": 1}"#));
    folder.write("notes.txt", "");
    let reading = read(folder.0.path(), &ReadOptions::default()).unwrap();
    assert_eq!(reading.files, [a, b.clone()]);
    assert_eq!(seen(&reading.problems), [("a.jsonl:1", "r", "1"), ("b.csv:2", "q", "1")]);
    assert_eq!(read(&b, &ReadOptions::default()).unwrap().files, [b]);
}

#[test]
fn problems_to_validate_on_that_are_trained_on_are_counted() {
    assert_eq!(overlap(&sums(0..20), &sums(15..30)), 5);
    assert_eq!(overlap(&sums(0..20), &[problem("15+15=?", "another answer")]), 1);
    assert_eq!((overlap(&[], &sums(0..3)), overlap(&sums(0..3), &[])), (0, 0));
}
