//! Rewards that settings alone describe.
#![allow(clippy::unwrap_used)]

use dapo_external::{BuiltinConfig, BuiltinReward};
use dapo_reward::{RewardFn, RewardInput, Score};

/// The reward of a table.
fn reward(settings: &str) -> Result<BuiltinReward, String> {
    let config: BuiltinConfig = toml::from_str(settings).map_err(|error| error.to_string())?;
    BuiltinReward::new("mine", &config).map_err(|error| error.to_string())
}

fn score(settings: &str, completion: &str, answer: &str) -> Score {
    let reward = reward(settings).unwrap();
    assert_eq!(reward.name(), "mine");
    reward.score(&RewardInput::new("", completion, answer).with_num_tokens(3)).unwrap()
}

/// Each row: settings, completion, gold answer, and whether it is correct; `None` abstains.
fn check_correct(rows: &[(&str, &str, &str, Option<bool>)]) {
    for (settings, completion, answer, expected) in rows {
        let expected = expected
            .map_or_else(Score::abstain, |correct| Score::value(f64::from(u8::from(correct))).with_correct(correct));
        assert_eq!(score(settings, completion, answer), expected, "{settings}: {completion:?} for {answer:?}");
    }
}

/// Each row: settings, completion, and whether it matches, of which correctness is not known.
fn check_shape(rows: &[(&str, &str, bool)]) {
    for (settings, completion, expected) in rows {
        let expected = Score::value(f64::from(u8::from(*expected)));
        assert_eq!(score(settings, completion, ""), expected, "{settings}: {completion:?}");
    }
}

#[test]
fn exact_leaves_out_what_it_is_told() {
    check_correct(&[
        ("kind = \"exact\"", " Paris\n", "Paris", Some(true)),
        ("kind = \"exact\"", "paris", "Paris", Some(false)),
        ("kind = \"exact\"\nignore_case = true", "paris", "Paris", Some(true)),
        ("kind = \"exact\"", "New  York", "New York", Some(false)),
        ("kind = \"exact\"\nignore_whitespace = true", "New \n York", "New York", Some(true)),
        ("kind = \"exact\"", "Paris.", "Paris", Some(false)),
        ("kind = \"exact\"\nignore_punctuation = true", "\"Paris\".", "Paris", Some(true)),
        ("kind = \"exact\"\nignore_punctuation = true", "+5", "-5", Some(false)),
        ("kind = \"exact\"", "Paris", " ", None),
    ]);
}

#[test]
fn a_pattern_matches_or_finds_the_answer() {
    let compared = "kind = \"regex\"\npattern = '<a>(.*?)</a>'\ncompare = \"answer\"";
    check_correct(&[
        (compared, "<a>1</a> no, <a> 2 </a>", "2", Some(true)),
        (compared, "<a>2</a> no, <a>1</a>", "2", Some(false)),
        (compared, "2", "2", Some(false)),
        (compared, "<a>2</a>", "", None),
        ("kind = \"regex\"\npattern = '\\d+'\ngroup = 0\ncompare = \"answer\"", "It is 42.", "42", Some(true)),
    ]);
    check_shape(&[
        ("kind = \"regex\"\npattern = '^\\d+$'", "42", true),
        ("kind = \"regex\"\npattern = '^\\d+$'", "x42", false),
    ]);
    let valued = "kind = \"regex\"\npattern = 'a'\nvalue = 0.5\nmismatch = -1";
    assert_eq!(score(valued, "a", ""), Score::value(0.5));
    assert_eq!(score(valued, "b", ""), Score::value(-1.0));
}

#[test]
fn json_parses_and_has_the_golds_fields() {
    check_shape(&[
        ("kind = \"json\"", "{\"a\": 1}", true),
        ("kind = \"json\"", "Here:\n```json\n{\"a\": 1}\n```\n", true),
        ("kind = \"json\"", "{\"a\": NaN}", false),
        ("kind = \"json\"", "Here: {\"a\": 1}", false),
        ("kind = \"json\"", "```", false),
    ]);
    let fields = "kind = \"json\"\nfields = [\"city\", \"/at/0\"]";
    let gold = r#"{"city": "Paris", "at": [48, 2], "note": "x"}"#;
    check_correct(&[
        (fields, r#"{"at": [48.0, 3], "city": "Paris"}"#, gold, Some(true)),
        (fields, r#"{"at": [49], "city": "Paris"}"#, gold, Some(false)),
        (fields, r#"{"city": "Paris"}"#, gold, Some(false)),
        (fields, "Paris", gold, Some(false)),
        (fields, r#"{"city": "Paris"}"#, "Paris", None),
    ]);
}

#[test]
fn choices_and_numbers_are_found_in_the_text() {
    check_correct(&[
        ("kind = \"choice\"", "The answer is (B).", "B", Some(true)),
        ("kind = \"choice\"", "The answer is (C).", "B", Some(false)),
        ("kind = \"choice\"", "B", "", None),
        ("kind = \"number\"", "3 and 4 make 7.", "7", Some(true)),
        ("kind = \"number\"", "It costs 1,234.50 in all", "1234.5", Some(true)),
        ("kind = \"number\"", "7.1", "7", Some(false)),
        ("kind = \"number\"", "-7", "7", Some(false)),
        ("kind = \"number\"\nabsolute = 0.2", "7.1", "7", Some(true)),
        ("kind = \"number\"\nrelative = 0.01", "101", "100", Some(true)),
        ("kind = \"number\"\nrelative = 0.01", "102", "100", Some(false)),
        ("kind = \"number\"", "none", "7", Some(false)),
        ("kind = \"number\"", "7", "seven", None),
    ]);
}

#[test]
fn texts_are_contained_and_lengths_limited() {
    check_correct(&[
        ("kind = \"contains\"", "It is Paris.", "Paris", Some(true)),
        ("kind = \"contains\"", "It is paris.", "Paris", Some(false)),
        ("kind = \"contains\"\nignore_case = true", "It is PARIS.", "Paris", Some(true)),
        ("kind = \"contains\"", "x", "", None),
    ]);
    check_shape(&[
        ("kind = \"contains\"\ntexts = [\"a\", \"b\"]", "ab", true),
        ("kind = \"contains\"\ntexts = [\"a\", \"b\"]", "a", false),
        ("kind = \"contains\"\ntexts = [\"a\", \"b\"]\nneed = \"any\"", "b", true),
        ("kind = \"length\"\nmax = 2", "éé", true),
        ("kind = \"length\"\nmax = 2", "ééé", false),
        ("kind = \"length\"\nmin = 3\nmax = 3\nunit = \"tokens\"", "a long text", true),
        ("kind = \"length\"\nmin = 4\nunit = \"tokens\"", "a long text", false),
    ]);
}

#[test]
fn settings_are_checked() {
    for (settings, expected) in [
        ("kind = \"regexp\"", "unknown variant `regexp`"),
        ("kind = \"regex\"\npatern = 'a'", "unknown field `patern`"),
        ("kind = \"regex\"", "RegexReward: pattern is empty, expected a regular expression"),
        ("kind = \"regex\"\npattern = '('", "RegexReward: pattern is \"(\" (regex parse error"),
        (
            "kind = \"regex\"\npattern = 'a'\ncompare = \"answer\"",
            "RegexReward: group is 1 of \"a\", expected one of the pattern's groups, or 0 for the whole match",
        ),
        ("kind = \"exact\"\nvalue = nan", "ExactReward: value is NaN, expected a finite number"),
        ("kind = \"number\"\nabsolute = -1", "NumberReward: absolute is -1, expected a finite number of at least 0"),
        ("kind = \"contains\"\ntexts = [\"\"]", "ContainsReward: texts is [\"\"], expected texts that are not empty"),
        ("kind = \"length\"", "LengthReward: max is unset, expected min, max or both"),
        ("kind = \"length\"\nmin = 2\nmax = 1", "LengthReward: max is 1, expected at least min"),
    ] {
        let error = reward(settings).unwrap_err();
        assert!(error.contains(expected), "{settings}: {error}");
    }
}

/// Run with the feature: `cargo test -p dapo-external --features json-schema`.
#[cfg(feature = "json-schema")]
#[test]
fn json_meets_a_schema() {
    let schema = "kind = \"json\"\n[schema]\ntype = \"object\"\nrequired = [\"city\"]\n\
                  properties.city = { type = \"string\", pattern = \"^P\" }";
    check_shape(&[
        (schema, r#"{"city": "Paris"}"#, true),
        (schema, r#"{"city": "London"}"#, false),
        (schema, r#"{"city": 1}"#, false),
        (schema, "{}", false),
        (schema, "[]", false),
        (schema, "Paris", false),
    ]);
    let fields = "kind = \"json\"\nfields = [\"city\"]\nschema = { maxProperties = 1 }";
    let gold = r#"{"city": "Paris"}"#;
    check_correct(&[(fields, gold, gold, Some(true)), (fields, r#"{"city": "Paris", "note": 1}"#, gold, Some(false))]);
    for settings in ["schema = { type = 1 }", "schema = { \"$ref\" = \"http://127.0.0.1:9/\" }"] {
        let error = reward(&format!("kind = \"json\"\n{settings}")).unwrap_err();
        assert!(error.starts_with("JsonReward: schema is ") && error.ends_with(", expected a JSON Schema"), "{error}");
    }
}

#[cfg(feature = "json-schema")]
#[test]
fn a_schema_may_be_a_file() {
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = temp.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("kind = \"json\"\nschema_file = '{}'", path.display())
    };
    let number = write("number.json", r#"{"type": "integer", "default": null}"#);
    check_shape(&[(&number, "3", true), (&number, "3.5", false)]);
    let missing = number.replace("number.json", "none.json");
    let both = format!("{number}\nschema = {{}}");
    for (settings, expected) in [
        (&write("text.json", "{"), "expected a file with a JSON Schema"),
        (&write("other.json", r#"{"type": 1}"#), "expected a JSON Schema"),
        (&missing, "expected a file with a JSON Schema"),
        (&both, "expected unset beside schema"),
    ] {
        let error = reward(settings).unwrap_err();
        assert!(error.starts_with("JsonReward: schema_file is \"") && error.ends_with(expected), "{error}");
    }
}

#[cfg(not(feature = "json-schema"))]
#[test]
fn a_schema_is_refused_where_it_cannot_be_checked() {
    let error = reward("kind = \"json\"\nschema = {}").unwrap_err();
    assert_eq!(error, "JsonReward: schema is set, expected unset, or a build with --features json-schema");
}
