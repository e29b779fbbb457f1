//! Everything that docs/algorithm.md names exists: functions, settings of the libraries, keys of a run, tests.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The functions of the algorithm that a reader should find from the page at once, by the first words of their row.
const LANDMARKS: [&str; 8] = [
    "DAPO Eq. 8 (clip-higher)",
    "GSPO Eq.",
    "truncated importance sampling",
    "DAPO Eq. 13 (soft overlong)",
    "DAPO Eq. 11 (the constraint",
    "RLOO",
    "pass@k",
    "top-p",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, with its text.
fn rust_files(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
}

/// The sources of the workspace, and what they define.
struct Sources {
    files: Vec<(PathBuf, String)>,
    tests: BTreeSet<String>,
}

impl Sources {
    fn read() -> Self {
        let mut files = Vec::new();
        for folder in ["crates", "tests"] {
            rust_files(&root().join(folder), &mut files);
        }
        files.retain(|(path, _)| !path.ends_with("tests/algorithm_page.rs"));
        let mut tests: BTreeSet<String> = files.iter().flat_map(|(_, text)| test_names(text)).collect();
        let is_test = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("tests"));
        let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        tests.extend(files.iter().filter(|(path, _)| is_test(path)).map(|(path, _)| stem(path)));
        Self { files, tests }
    }

    fn any(&self, test: impl Fn(&Path, &str) -> bool) -> bool {
        self.files
            .iter()
            .any(|(path, text)| path.components().any(|part| part.as_os_str() == "src") && test(path, text))
    }

    /// `Type`, `function`, `module::function`, `Type::method` or `Type::field`.
    fn has_item(&self, item: &str) -> bool {
        let (owner, name) = item.rsplit_once("::").map_or((None, item), |(owner, name)| (Some(owner), name));
        if name.starts_with(char::is_uppercase) {
            return self.any(|_, text| ["struct", "enum", "trait"].iter().any(|kind| defines(text, kind, name)));
        }
        self.any(|path, text| {
            let defined = defines(text, "fn", name) || text.contains(&format!("pub {name}:"));
            defined
                && owner.is_none_or(|owner| {
                    if owner.starts_with(char::is_uppercase) {
                        ["impl", "impl<G>", "impl<'a>", "struct", "enum"].iter().any(|kind| defines(text, kind, owner))
                    } else {
                        path.file_stem().unwrap() == owner || path.parent().unwrap().ends_with(owner)
                    }
                })
        })
    }

    /// A field of dapo-loss's settings, `kl.coef`, or with a value by name, `scale = group`.
    fn has_setting(&self, setting: &str) -> bool {
        let library = root().join("crates/dapo-loss/src");
        let any = |text: &str| self.any(|path, source| path.starts_with(&library) && source.contains(text));
        let (path, value) = setting.split_once(" = ").map_or((setting, None), |(path, value)| (path, Some(value)));
        path.split('.').all(|field| any(&format!(" {field}: ")))
            && value.is_none_or(|value| any(&format!("\"{value}\"")))
    }

    /// A key of a run's settings, such as `rewards.soft_overlong.max_len`, or a table of them.
    fn has_key(key: &str) -> bool {
        let below = format!("{key}.");
        dapo_run::keys().iter().any(|known| known.path == key || known.path.starts_with(&below))
    }

    /// A test, a file of tests, or one of TRL's cases.
    fn has_test(&self, name: &str) -> bool {
        let cases = &self.files.iter().find(|(path, _)| path.ends_with("trl_cases.rs")).unwrap().1;
        self.tests.contains(name) || cases.contains(&format!("(\"{name}\","))
    }
}

/// Whether `text` has `kind name`, with `name` as a whole word.
fn defines(text: &str, kind: &str, name: &str) -> bool {
    let definition = format!("{kind} {name}");
    text.match_indices(&definition).any(|(start, found)| {
        !text[start + found.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
    })
}

/// The names of the functions under `#[test]`.
fn test_names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split("#[test]").skip(1).filter_map(|rest| {
        let name = rest.split_once("fn ")?.1;
        Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
    })
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The cells of a table's row.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "∣");
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The rows of all tables, as cells by the heading of their column.
fn rows(page: &str) -> Vec<BTreeMap<String, String>> {
    let mut rows = Vec::new();
    let mut heading: Option<Vec<String>> = None;
    for line in page.lines() {
        if !line.starts_with('|') {
            heading = None;
        } else if let Some(heading) = &heading {
            if !line.starts_with("|---") {
                let cells = cells(line);
                assert_eq!(cells.len(), heading.len(), "{line}");
                rows.push(heading.iter().cloned().zip(cells).collect());
            }
        } else {
            heading = Some(cells(line));
        }
    }
    rows
}

#[test]
fn everything_that_the_page_names_exists() {
    let page = fs::read_to_string(root().join("docs/algorithm.md")).unwrap();
    let sources = Sources::read();
    let mut missing = Vec::new();
    let mut expect = |kind: &str, name: &str, exists: bool| {
        if !exists {
            missing.push(format!("{kind} `{name}`"));
        }
    };
    for row in rows(&page) {
        for (column, cell) in &row {
            for name in quoted(cell) {
                match column.as_str() {
                    "function" => expect("function", name, sources.has_item(name)),
                    "setting" => expect("setting", name, sources.has_setting(name)),
                    "key" => expect("key", name, Sources::has_key(name)),
                    "test" => expect("test", name, sources.has_test(name)),
                    "here" => expect("setting", name, sources.has_item(name) || sources.has_setting(name)),
                    _ => {}
                }
            }
        }
    }
    for line in page.lines().filter(|line| !line.starts_with(['|', ' '])) {
        for name in quoted(line) {
            if name.contains("::") {
                expect("function", name, sources.has_item(name));
            } else if name.matches('_').count() >= 3 {
                expect("test", name, sources.has_test(name));
            }
        }
    }
    assert!(missing.is_empty(), "docs/algorithm.md names what does not exist: {}", missing.join(", "));
}

#[test]
fn every_row_of_a_formula_leads_to_a_function_and_a_test() {
    let page = fs::read_to_string(root().join("docs/algorithm.md")).unwrap();
    let rows = rows(&page);
    let formulas: Vec<_> = rows.iter().filter(|row| row.contains_key("test")).collect();
    assert!(formulas.len() > 30);
    for row in &formulas {
        for column in ["function", "test"] {
            assert!(!quoted(&row[column]).is_empty(), "{}: no {column}", row["source"]);
        }
        assert!(!quoted(&row["key"]).is_empty() || row["key"] == "–", "{}: no key", row["source"]);
    }
    for landmark in LANDMARKS {
        assert!(formulas.iter().any(|row| row["source"].starts_with(landmark)), "{landmark}");
    }
}

#[test]
fn names_that_do_not_exist_are_found_missing() {
    let sources = Sources::read();
    assert!(sources.has_item("token::gspo") && !sources.has_item("token::gsp") && !sources.has_item("kl::gspo"));
    assert!(sources.has_item("LossMetrics::clamped") && !sources.has_item("LossConfig::clamped"));
    assert!(sources.has_setting("kl.coef") && !sources.has_setting("kl.beta"));
    assert!(!sources.has_setting("scale = grou"));
    assert!(Sources::has_key("rewards.soft_overlong.max_len") && !Sources::has_key("rewards.max_len"));
    assert!(sources.has_test("formulas") && !sources.has_test("token_loss"));
}
