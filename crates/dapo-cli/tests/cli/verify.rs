//! `dapo verify`.

use crate::{dapo, dapo_with_stdin, file, path};
use serde_json::{Value, json};

fn column(lines: &[Value], name: &str) -> Vec<Value> {
    lines.iter().map(|line| line[name].clone()).collect()
}

#[test]
fn judges_every_line_in_order() {
    let input = file(concat!(
        r#"{"id": "a", "gold": "\\frac{1}{2}", "pred": "We get $x = 0.5$."}"#,
        "\n",
        r#"{"id": 7, "gold": "46", "pred": "17+4=21,21+25=46####46"}"#,
        "\n\n",
        r#"{"gold": 46, "pred": 45.0, "difficulty": [1]}"#,
        "\n",
        r#"{"id": null, "gold": "1", "pred": "\\boxed{\\frac{1}{}"}"#,
        "\n",
        r#"{"id": 123456789012345678901234567890, "gold": "\\frac{1}{", "pred": "1"}"#,
    ));
    let run = dapo(&["verify", path(&input)]).success();
    let lines = run.json_lines();
    assert_eq!(column(&lines, "verdict"), ["correct", "correct", "incorrect", "unparsable", "unparsable"]);
    assert_eq!(column(&lines, "id")[..4], [json!("a"), json!(7), json!(4), json!(5)]);
    assert!(run.stdout.contains(r#"{"id":123456789012345678901234567890,"#), "ids are echoed as they are");
    assert_eq!(column(&lines, "extracted")[..3], ["x = 0.5", "46", "45.0"]);
    assert_eq!(column(&lines, "rule")[..2], ["number", "number"]);
    assert!(lines.iter().all(|line| line["micros"].is_u64() && line.as_object().unwrap().len() == 5), "{lines:?}");
    let summary =
        "5 judged: 2 correct, 1 incorrect, 2 unparsable (of these, 1 for the gold answer), 0 out of fuel; 0 bad lines";
    assert!(run.stderr.contains(summary), "{}", run.stderr);
}

#[test]
fn a_bad_line_is_reported_and_the_run_goes_on() {
    let good = r#"{"gold": "2", "pred": "2"}"#;
    let input = [
        good,
        "nonsense",
        "[]",
        r#"{"gold": "2"}"#,
        r#"{"gold": {}, "pred": "2"}"#,
        r#"{"gold": "2", "pred": "2", "profile": "nope"}"#,
        r#"{"gold": "2", "pred": "2", "precision": 0}"#,
        r#"{"gold": "2", "pred": "\ud800"}"#,
        good,
    ]
    .join("\n");
    let said = [
        "error: <stdin>:2: expected a JSON object: expected ident, column 2",
        "error: <stdin>:3: expected a JSON object",
        "error: <stdin>:4: no pred, expected gold and pred",
        "error: <stdin>:5: gold is an object, expected a string or a number",
        "error: <stdin>:6: unknown profile \"nope\", expected one of: auto, ",
        "error: <stdin>:7: precision: 0 is not a whole number from 1 to 200",
        "error: <stdin>:8: pred: ",
        "2 judged: 2 correct, 0 incorrect",
        "error: <stdin>: 7 lines could not be judged",
    ];
    let run = dapo_with_stdin(&["verify"], &input).failure(1, &said);
    assert_eq!(column(&run.json_lines(), "id"), [1, 9]);
    assert_eq!(dapo_with_stdin(&["verify", "-"], &input).stdout.lines().count(), 2, "a dash is stdin");
    let run = dapo_with_stdin(&["verify"], b"{\"gold\": \"\xff\", \"pred\": \"1\"}\n".as_slice());
    run.failure(1, &["error: <stdin>:1: "]);
}

#[test]
fn profile_and_precision_come_from_the_line_or_else_from_the_flags() {
    let line = |extra: &str| format!("{{\"gold\": \"1/3\", \"pred\": \"#### 5\\nAnswer: 0.33\"{extra}}}\n");
    let input = line("") + &line(r#", "precision": 2"#) + &line(r#", "profile": "hash""#);
    let verdicts = |args: &[&str]| {
        let lines = dapo_with_stdin(args, &input).success().json_lines();
        (column(&lines, "verdict"), column(&lines, "extracted"))
    };
    let (verdict, extracted) = verdicts(&["verify"]);
    assert_eq!(verdict, ["incorrect", "correct", "incorrect"]);
    assert_eq!(extracted, ["0.33", "0.33", "5"]);
    let (verdict, extracted) = verdicts(&["verify", "--profile", "answer-line", "--precision", "2"]);
    assert_eq!(verdict, ["correct", "correct", "incorrect"]);
    assert_eq!(extracted, ["0.33", "0.33", "5"]);
}

#[test]
fn explains_when_asked() {
    let input = concat!(
        "{\"gold\": \"so \\\\boxed{3}\", \"pred\": \"#### 3\"}\n",
        "{\"gold\": \"\\\\frac{1}{\", \"pred\": \"3\"}\n"
    );
    let lines = dapo_with_stdin(&["verify", "--explain"], input).success().json_lines();
    assert_eq!(lines[0]["gold"], "3");
    assert_eq!(lines[0]["found_by"], "hash");
    assert_eq!(lines[0]["span"], json!([5, 6]));
    assert_eq!((&lines[0]["unparsable"], &lines[1]["unparsable"]), (&Value::Null, &json!("gold")));
    assert!(lines.iter().all(|line| !line["reason"].as_str().unwrap().is_empty()));
}

#[test]
fn quiet_leaves_out_the_summary_but_not_the_errors() {
    let run = dapo_with_stdin(&["-q", "verify"], r#"{"gold": "2", "pred": "2"}"#).success();
    assert_eq!(run.stderr, "");
    dapo_with_stdin(&["verify", "-q"], "nonsense").failure(1, &["error: <stdin>:1: "]);
}

#[test]
fn no_input_is_nothing_to_judge() {
    let run = dapo_with_stdin(&["verify"], "").success();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("0 judged"), "{}", run.stderr);
}
