//! The graders beside mathematics: texts, JSON and choices, in both directions.

use dapo_reward::{Accuracy, CosineLength, Grader, RewardFn, RewardInput, TextOptions, group_answers};

fn is_right(grader: &Grader, gold: &str, completion: &str) -> Option<bool> {
    let input = RewardInput::new("", completion, gold).with_num_tokens(1);
    let accuracy = Accuracy { grader: grader.clone(), ..Accuracy::default() };
    let score = accuracy.score(&input).expect("scored");
    assert_eq!(accuracy.score_batch(&[input]).expect("scored"), std::slice::from_ref(&score), "{gold}: {completion}");
    assert_eq!(score.value, score.correct.map(|correct| if correct { 1.0 } else { -1.0 }));
    score.correct
}

#[track_caller]
fn check(grader: &Grader, gold: &str, right: &[&str], wrong: &[&str]) {
    for completion in right {
        assert_eq!(is_right(grader, gold, completion), Some(true), "{gold}: {completion}");
    }
    for completion in wrong {
        assert_eq!(is_right(grader, gold, completion), Some(false), "{gold}: {completion}");
    }
}

fn text() -> Grader {
    Grader::Text(TextOptions::default())
}

#[test]
fn a_text_is_met_by_the_same_words() {
    check(
        &text(),
        "The Eiffel Tower",
        &[
            "the Eiffel tower",
            "Eiffel Tower.",
            "The answer is the Eiffel Tower.",
            "\\boxed{\\text{Eiffel Tower}}",
            "Answer: **Eiffel Tower**",
            "<answer>Eiffel Tower</answer>",
            "#### Eiffel  Tower",
            "It stands in Paris.\n\nEiffel Tower",
            "Final Answer: The answer is the Eiffel Tower.",
            "Eiffel Tower<|im_end|>",
            "### Answer\nThe Eiffel Tower",
        ],
        &[
            "Eiffel",
            "The Eiffel Tower or the Louvre",
            "not the Eiffel Tower",
            "The answer is not the Eiffel Tower.",
            "Eiffel Tower\nNo, the Louvre",
            "",
            "The answer is the Tower of Pisa.",
            "I considered the Eiffel Tower.",
            "Eiffel Towers",
        ],
    );
    check(&text(), "1.5", &["1.5", "The answer is 1.5."], &["15", "-1.5", "1.50", "1,5"]);
    check(&text(), "first line\nsecond line", &["First line\nSecond line."], &["second line", "first line"]);
    check(&text(), "C++", &["c++", "Answer: C++"], &["C", "C#"]);
    check(
        &text(),
        "billing",
        &["The category is billing.", "Category: Billing"],
        &["billing or sales", "The category is billing or sales.", "The category is sales."],
    );
}

#[test]
fn what_counts_is_an_option() {
    let strict = Grader::Text(TextOptions {
        ignore_case: false,
        ignore_whitespace: false,
        ignore_punctuation: false,
        ignore_articles: false,
    });
    check(&strict, "Paris", &["Paris", "Answer: Paris"], &["paris", "Paris!", "the Paris"]);
    let json = serde_json::to_string(&strict).expect("serialises");
    assert_eq!(serde_json::from_str::<Grader>(&json).expect("the same"), strict);
    assert_eq!(serde_json::from_str::<Grader>("{\"name\": \"text\"}").expect("defaults"), text());
    assert_eq!(
        serde_json::from_str::<Grader>("{\"name\": \"text\", \"ignore_case\": false}").expect("one option"),
        Grader::Text(TextOptions { ignore_case: false, ..TextOptions::default() })
    );
    assert_eq!(serde_json::from_str::<Grader>("\"choice\"").expect("a name"), Grader::Choice);
}

#[test]
fn json_is_met_up_to_the_order_of_keys() {
    check(
        &text(),
        r#"{"name": "Ann", "age": 30}"#,
        &[
            r#"{"age": 30, "name": "Ann"}"#,
            "Here it is:\n```json\n{\n  \"age\": 30.0,\n  \"name\": \"Ann\"\n}\n```\nDone.",
            r#"First {"name": "Bob", "age": 1}, but the answer is {"name":"Ann","age":30}."#,
        ],
        &[
            r#"{"age": 31, "name": "Ann"}"#,
            r#"{"age": -30, "name": "Ann"}"#,
            r#"{"age": "30", "name": "Ann"}"#,
            r#"{"name": "Ann"}"#,
            r#"{"age": 30, "name": "ann"}"#,
            r#"{"age": 30, "name": "Ann", "x": 1}"#,
            r#"[{"age": 30, "name": "Ann"}]"#,
            "name: Ann, age: 30",
            "",
            r#"{"age": 30, "name": "Ann"} or {"age": 31, "name": "Ann"}"#,
            r#"{"age": 30, "name": "Ann""#,
        ],
    );
    check(&text(), "[1, 2]", &["[1,2]", "so [1, 2]"], &["[2, 1]", "[1, 2, 3]", "1, 2"]);
}

#[test]
fn a_choice_is_a_letter_or_a_label() {
    check(
        &Grader::Choice,
        "billing",
        &[
            "billing",
            "Billing.",
            "The category is billing.",
            "Label: **billing**",
            "The answer is \"billing\".",
            "\\boxed{billing}",
            "I think it is about money.\nbilling",
            "The correct class is billing, because of the invoice.",
            "(b) billing",
            "billing category",
            "Answer: billing - it is about an invoice",
            "The department is billing.\nThe user asks about an invoice.",
        ],
        &[
            "billing or sales",
            "sales",
            "not billing",
            "The category is not billing.",
            "The category is billing or sales.",
            "billings",
            "It could be billing.",
            "",
            "Answer: billing (or sales)",
            "billing, sales",
            "The category is billing and sales.",
            "non-billing",
        ],
    );
    check(
        &Grader::Choice,
        "B",
        &[
            "B",
            "b",
            "(B)",
            "The answer is B.",
            "B. sales",
            "So it has to be B.",
            "Answer: **B**",
            "The category is B.",
            "\\boxed{\\text{B}}",
        ],
        &[
            "A",
            "A or B",
            "Not B.",
            "AB",
            "The answer is b or c",
            "I don't know",
            "The answer is D, not B",
            "Bob",
            "A, B",
            "",
        ],
    );
    check(
        &Grader::Choice,
        "(B) sales",
        &["B", "sales", "(B) sales", "The answer is B."],
        &["A", "(A) sales", "billing", "B or C"],
    );
    check(&Grader::Choice, "A, C", &["A and C", "AC", "Answer: C, A"], &["A", "A, B, C", "A or C"]);
}

#[test]
fn equal_answers_are_one_class() {
    let completions = ["The category is billing.", "Billing", "sales", "", "Answer: SALES!"];
    assert_eq!(group_answers(&completions, &text()), [Some(0), Some(0), Some(1), None, Some(1)]);
    assert_eq!(group_answers(&completions, &Grader::Choice), [Some(0), Some(0), Some(1), None, Some(1)]);
    let completions = [r#"{"a": 1, "b": 2}"#, r#"so {"b": 2.0, "a": 1}"#, r#"{"a": 2}"#];
    assert_eq!(group_answers(&completions, &text()), [Some(0), Some(0), Some(1)]);
    let completions = ["(B)", "The answer is b.", "C", "B. sales"];
    assert_eq!(group_answers(&completions, &Grader::Choice), [Some(0), Some(0), Some(1), Some(0)]);
    assert_eq!(text().answer("The category is billing."), Some("billing"));
    assert_eq!(Grader::Choice.answer("The answer is (B)."), Some("B"));
}

#[test]
fn every_grader_says_which_golds_it_reads() {
    let published = Grader::Dapo;
    for (grader, gold, expected) in [
        (Grader::default(), "\\frac12", true),
        (Grader::default(), "\\int_0^1 f(x) dx", false),
        (published.clone(), "\\int_0^1 f(x) dx", true),
        (published, " ", false),
        (text(), "?", true),
        (text(), "", false),
        (Grader::Choice, "billing", true),
        (Grader::Choice, "", false),
    ] {
        assert_eq!(grader.can_read(gold), expected, "{grader:?}: {gold}");
    }
    assert_eq!(is_right(&text(), " ", "anything"), None);
    assert_eq!(is_right(&Grader::Choice, "", ""), None);
}

#[test]
fn rewards_are_read_under_their_earlier_names() {
    let accuracy: Accuracy = serde_json::from_str(r#"{"right": 2.0, "wrong": -3.0}"#).expect("the earlier names");
    assert_eq!((accuracy.correct, accuracy.incorrect), (2.0, -3.0));
    let length: CosineLength = serde_json::from_str(r#"{"min_wrong": -4.0, "max_wrong": -2.0}"#).expect("as before");
    assert_eq!((length.min_incorrect, length.max_incorrect), (-4.0, -2.0));
}
