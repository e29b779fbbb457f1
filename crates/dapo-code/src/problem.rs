//! A problem's tests, as its data column has them.

use serde_json::{Map, Value};

use crate::config::{CodeReward, Language};
use crate::error::CodeError;

/// What a program is run against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Tests that are run one by one.
    Cases(Vec<Case>),
    /// A cargo project that the program is a file of.
    Project(Project),
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Case {
    /// What the program reads, and what it must write.
    Output { input: String, output: String },
    /// Python that is run after the program and must not raise.
    Assert(String),
}

/// A cargo project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// Texts by their paths in the project.
    pub(crate) files: Vec<(String, String)>,
    /// The path of the file that holds the program.
    pub(crate) program: String,
}

/// The manifest of projects that have none.
const MANIFEST: &str = "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";

impl Problem {
    /// Reads the column; `None`: the problem has no tests.
    pub(crate) fn read(column: Option<&Value>, config: &CodeReward) -> Result<Option<Self>, CodeError> {
        let path = format!("{:?}", config.column);
        match column {
            None | Some(Value::Null) => Ok(None),
            // Tables without nested columns keep them as text.
            Some(Value::String(text)) => {
                let expected = "tests, or their JSON as a text";
                let parsed = serde_json::from_str(text).map_err(|_| fault(&path, &quoted(text), expected))?;
                match parsed {
                    Value::String(_) => Err(fault(&path, "the JSON of a text", expected)),
                    parsed => Self::read(Some(&parsed), config),
                }
            }
            Some(Value::Array(tests)) if tests.is_empty() => Ok(None),
            Some(Value::Array(tests)) => {
                let case = |(index, test)| Case::read(test, &format!("{path}[{index}]"), config.language);
                tests.iter().enumerate().map(case).collect::<Result<_, _>>().map(|cases| Some(Self::Cases(cases)))
            }
            Some(Value::Object(project)) if config.language == Language::Rust => {
                Project::read(project, &path).map(|project| Some(Self::Project(project)))
            }
            Some(other) if config.language == Language::Rust => {
                Err(fault(&path, &shape(other), "a list of tests, or an object with `files`"))
            }
            Some(other) => Err(fault(&path, &shape(other), "a list of tests")),
        }
    }
}

impl Problem {
    /// How many tests there are, as far as can be told without running a program.
    pub(crate) fn num_tests(&self, config: &CodeReward) -> usize {
        match self {
            Self::Cases(cases) => cases.len(),
            Self::Project(project) => project.num_tests(config),
        }
    }
}

impl Case {
    fn read(test: &Value, path: &str, language: Language) -> Result<Self, CodeError> {
        let expected = match language {
            Language::Python => "{\"input\": TEXT, \"output\": TEXT} or {\"assert\": TEXT}",
            Language::Rust | Language::Command => "{\"input\": TEXT, \"output\": TEXT}",
        };
        let Some(fields) = test.as_object() else { return Err(fault(path, &shape(test), expected)) };
        let text = |name: &str| text(&fields[name], &format!("{path}.{name}"));
        let mut names: Vec<_> = fields.keys().map(String::as_str).collect();
        names.sort_unstable();
        match (names.as_slice(), language) {
            (["input", "output"], _) => Ok(Self::Output { input: text("input")?, output: text("output")? }),
            (["output"], _) => Ok(Self::Output { input: String::new(), output: text("output")? }),
            (["assert"], Language::Python) => Ok(Self::Assert(text("assert")?)),
            _ => Err(fault(path, &format!("an object with the fields {names:?}"), expected)),
        }
    }
}

impl Project {
    fn read(project: &Map<String, Value>, path: &str) -> Result<Self, CodeError> {
        if let Some(name) = project.keys().find(|name| !["files", "program"].contains(&name.as_str())) {
            return Err(fault(path, &format!("an object with the field {name:?}"), "the fields `files` and `program`"));
        }
        let files_path = format!("{path}.files");
        let Some(Value::Object(texts)) = project.get("files") else {
            let found = project.get("files").map_or_else(|| "missing".to_owned(), shape);
            return Err(fault(&files_path, &found, "an object of texts by path"));
        };
        let mut files = Vec::new();
        for (name, value) in texts {
            files.push((inner_path(name, &files_path)?, text(value, &format!("{files_path}.{name:?}"))?));
        }
        let program = match project.get("program") {
            None => "src/lib.rs".to_owned(),
            Some(value) => {
                let path = format!("{path}.program");
                inner_path(&text(value, &path)?, &path)?
            }
        };
        files.retain(|(name, _)| *name != program);
        if !files.iter().any(|(name, _)| name.starts_with("tests/")) {
            return Err(fault(&files_path, "without a file in `tests/`", "the project's tests, as tests/NAME.rs"));
        }
        if !files.iter().any(|(name, _)| name == "Cargo.toml") {
            files.push(("Cargo.toml".to_owned(), MANIFEST.to_owned()));
        }
        Ok(Self { files, program })
    }
}

impl Project {
    /// How many tests are written in its files, and that of Clippy.
    pub(crate) fn num_tests(&self, config: &CodeReward) -> usize {
        let written: usize = self.files.iter().map(|(_, text)| text.matches("#[test]").count()).sum();
        written.max(1) + usize::from(config.clippy)
    }
}

/// A path that stays in the project's folder.
fn inner_path(name: &str, path: &str) -> Result<String, CodeError> {
    let is_inner = |part: &str| !part.is_empty() && part != "." && part != "..";
    if name.split('/').all(is_inner) && !name.contains('\0') {
        return Ok(name.to_owned());
    }
    Err(fault(path, &quoted(name), "paths in the project, such as \"tests/check.rs\""))
}

fn text(value: &Value, path: &str) -> Result<String, CodeError> {
    value.as_str().map(str::to_owned).ok_or_else(|| fault(path, &shape(value), "a text"))
}

fn fault(path: &str, found: &str, expected: &'static str) -> CodeError {
    CodeError::Tests { path: path.to_owned(), found: found.to_owned(), expected }
}

/// A value in a message, shortened.
fn shape(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(language: Language, column: &Value) -> Result<Option<Problem>, String> {
        let config = CodeReward { language, ..CodeReward::default() };
        Problem::read(Some(column), &config).map_err(|error| error.to_string())
    }

    #[test]
    fn tests_are_lists_their_json_or_a_project() {
        let cases = vec![
            Case::Output { input: "1\n".into(), output: "2".into() },
            Case::Output { input: String::new(), output: "3".into() },
            Case::Assert("assert f(1) == 2".into()),
        ];
        let list = json!([{"input": "1\n", "output": "2"}, {"output": "3"}, {"assert": "assert f(1) == 2"}]);
        assert_eq!(read(Language::Python, &list), Ok(Some(Problem::Cases(cases.clone()))));
        assert_eq!(read(Language::Python, &json!(list.to_string())), Ok(Some(Problem::Cases(cases))));
        let project = json!({"files": {"tests/a.rs": "#[test] fn a() {}", "src/lib.rs": "pub fn given() {}"}});
        let Ok(Some(Problem::Project(project))) = read(Language::Rust, &project) else { panic!() };
        assert_eq!(project.program, "src/lib.rs");
        let names: Vec<_> = project.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tests/a.rs", "Cargo.toml"]);
    }

    #[test]
    fn problems_without_tests_have_none() {
        assert_eq!(Problem::read(None, &CodeReward::default()), Ok(None));
        for column in [json!(null), json!([]), json!("[]"), json!("null")] {
            assert_eq!(read(Language::Python, &column), Ok(None), "{column}");
        }
    }

    #[test]
    fn malformed_tests_are_named_with_what_was_found_and_expected() {
        let python = |column| read(Language::Python, &column).unwrap_err();
        assert_eq!(python(json!(7)), r#"column "tests" is 7, expected a list of tests"#);
        assert_eq!(python(json!("x = 1")), r#"column "tests" is "x = 1", expected tests, or their JSON as a text"#);
        assert_eq!(
            python(json!([{"input": "1", "output": "2"}, {"input": 1, "output": "2"}])),
            r#"column "tests"[1].input is 1, expected a text"#
        );
        assert_eq!(
            python(json!([{"in": "1"}])),
            r#"column "tests"[0] is an object with the fields ["in"], expected {"input": TEXT, "output": TEXT} or {"assert": TEXT}"#
        );
        assert!(python(json!({"files": {}})).ends_with("expected a list of tests"));
        let rust = |column| read(Language::Rust, &column).unwrap_err();
        assert!(rust(json!([{"assert": "true"}])).ends_with(r#"expected {"input": TEXT, "output": TEXT}"#));
        assert_eq!(rust(json!({})), r#"column "tests".files is missing, expected an object of texts by path"#);
        assert!(rust(json!({"files": {"../x": ""}})).contains(r#"files is "../x", expected paths in the project"#));
        assert!(rust(json!({"files": {"src/a.rs": ""}})).contains("without a file in `tests/`"));
        assert!(rust(json!({"files": {"tests/a.rs": ""}, "main": ""})).contains(r#"the field "main""#));
    }
}
