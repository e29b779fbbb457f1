//! How data files are read, and what is left out of them.

use serde::{Deserialize, Serialize};

/// Names of the columns that make a problem, where the known layouts do not say it. Dots lead into objects, as in
/// `extra_info.question`.
///
/// A named column must be there in every entry; a column that is empty or null counts as none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fields {
    /// Column of the question: text or chat messages. By default that of the known layouts.
    pub prompt: Option<String>,
    /// Column of the gold answer, or of a list of accepted ones. By default that of the known layouts.
    pub answer: Option<String>,
    /// Column of a system message before the question.
    pub system: Option<String>,
    /// Column of a multiple-choice problem's choices: they are appended to the question as A, B and so on, and the gold
    /// answer is the letter.
    pub choices: Option<String>,
}

/// What happens to an entry of a data file that is no problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnBadLine {
    /// It is an error that names file and line.
    #[default]
    Error,
    /// It is left out and counted.
    Skip,
}

/// How data files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Columns with other names than the known layouts have.
    pub fields: Fields,
    /// Whether an entry without a gold answer is no problem.
    pub needs_answer: bool,
    /// What happens to an entry that is no problem.
    pub on_bad_line: OnBadLine,
    /// Whether entries are left out whose answer is missing or a placeholder: `proof` and `notfound`, as in NuminaMath.
    /// Otherwise these are words like any others, and a missing answer makes a bad line.
    pub leave_out_placeholders: bool,
    /// Whether the first of the problems with the same messages is kept alone.
    pub deduplicate: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            fields: Fields::default(),
            needs_answer: true,
            on_bad_line: OnBadLine::Error,
            leave_out_placeholders: false,
            deduplicate: false,
        }
    }
}

/// Why an entry is no problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Syntax,
    Layout,
    Question,
    Answer,
    Placeholder,
    Choices,
}

/// What is wrong with an entry of a file.
pub(super) struct Misfit {
    pub(super) reason: Reason,
    pub(super) found: String,
    pub(super) expected: String,
}

impl Misfit {
    pub(super) fn new(reason: Reason, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { reason, found: found.into(), expected: expected.into() }
    }
}

/// Entries that were left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The answer is missing or a placeholder.
    pub placeholder: usize,
    /// Not JSON, or a row of CSV with too many or too few columns.
    pub syntax: usize,
    /// Of no known layout, or without a column that [`Fields`] names.
    pub layout: usize,
    /// The question is empty, or neither text nor chat messages.
    pub question: usize,
    /// The answer is neither text, a number nor a list of these.
    pub answer: usize,
    /// The choices cannot be read, or the answer is none of them.
    pub choices: usize,
}

impl LeftOut {
    /// Every reason in words, with its count.
    pub fn terms(self) -> [(&'static str, usize); 6] {
        [
            ("without an answer", self.placeholder),
            ("with invalid syntax", self.syntax),
            ("of an unknown layout", self.layout),
            ("with an unfit question", self.question),
            ("with an unfit answer", self.answer),
            ("with unfit choices", self.choices),
        ]
    }

    /// All that were left out.
    pub fn total(self) -> usize {
        self.terms().iter().map(|(_, count)| count).sum()
    }

    pub(super) fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::Syntax => &mut self.syntax,
            Reason::Layout => &mut self.layout,
            Reason::Question => &mut self.question,
            Reason::Answer => &mut self.answer,
            Reason::Placeholder => &mut self.placeholder,
            Reason::Choices => &mut self.choices,
        } += 1;
    }
}

impl std::ops::AddAssign for LeftOut {
    fn add_assign(&mut self, other: Self) {
        self.placeholder += other.placeholder;
        self.syntax += other.syntax;
        self.layout += other.layout;
        self.question += other.question;
        self.answer += other.answer;
        self.choices += other.choices;
    }
}

/// The counts that are not 0, in words.
impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let terms = self.terms().into_iter().filter(|(_, count)| *count > 0);
        let terms: Vec<String> = terms.map(|(reason, count)| format!("{count} {reason}")).collect();
        f.write_str(&terms.join(", "))
    }
}
