//! Rewards under names of the user's own: commands, servers, Python functions, judges, rules, and programs that are run.

use dapo_code::CodeReward;
use dapo_external::{BuiltinConfig, CommandReward, JudgeReward, PythonReward, UrlReward};
use dapo_reward::OnAbstain;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The name of the table whose programs are run against tests.
pub(crate) const CODE: &str = "code";

/// The keys of which one makes a table a reward; each but `kind` is the kind.
pub(crate) const SELECTORS: [&str; 5] = ["command", "url", "python", "judge_url", "kind"];

/// Rewards by their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct OwnRewards(pub BTreeMap<String, OwnReward>);

/// A reward and its place in the sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OwnReward {
    /// Weight in the sum.
    pub weight: f64,
    /// What an abstention does, as with [`Judging`](super::Judging).
    pub on_abstain: OnAbstain,
    /// Where a command or Python runs and relative paths begin; unset: the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What scores.
    #[serde(flatten)]
    pub kind: OwnKind,
}

/// What scores completions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OwnKind {
    /// A program.
    Command(CommandReward),
    /// A server.
    Url(UrlReward),
    /// A Python function.
    Python(PythonReward),
    /// A language model that judges.
    Judge(JudgeReward),
    /// A rule.
    Rule(BuiltinConfig),
    /// The share of a problem's tests that a completion's program passes.
    Code(CodeReward),
}

impl OwnRewards {
    /// Whether the answers of one come from outside: a command, a server, a Python function or a judge.
    pub fn have_external(&self) -> bool {
        let is_external = |own: &OwnReward| !matches!(own.kind, OwnKind::Rule(_) | OwnKind::Code(_));
        self.0.values().any(is_external)
    }
}

impl<'de> Deserialize<'de> for OwnRewards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tables = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let read = |(name, table): (String, Value)| match table {
            Value::Object(table) => {
                let own = OwnReward::read(&name, table).map_err(|error| Error::custom(format!("{name}: {error}")))?;
                Ok((name, own))
            }
            _ => Err(Error::custom(format!("unknown field `{name}`"))),
        };
        tables.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl OwnReward {
    /// The reward that a table of this name describes.
    fn read(name: &str, mut table: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let weight = table.remove("weight").map_or(Ok(1.0), serde_json::from_value)?;
        let on_abstain = table.remove("on_abstain").map_or(Ok(OnAbstain::default()), serde_json::from_value)?;
        let has = |key: &str| table.contains_key(key);
        let dir = if name != CODE && (has("command") || has("python")) { table.remove("dir") } else { None };
        let dir = dir.map(serde_json::from_value).transpose()?;
        let found = SELECTORS.into_iter().find(|key| table.contains_key(*key));
        let table = Value::Object(table);
        let kind = match found {
            _ if name == CODE => OwnKind::Code(serde_json::from_value(table)?),
            Some("command") => OwnKind::Command(serde_json::from_value(table)?),
            Some("url") => OwnKind::Url(serde_json::from_value(table)?),
            Some("python") => OwnKind::Python(serde_json::from_value(table)?),
            Some("judge_url") => OwnKind::Judge(serde_json::from_value(table)?),
            Some(_) => OwnKind::Rule(serde_json::from_value(table)?),
            None => return Err(Error::custom("no command, url, python, judge_url or kind")),
        };
        Ok(Self { weight, on_abstain, dir, kind })
    }
}
