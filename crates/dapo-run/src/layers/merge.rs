//! Layers laid over one another, key by key.

use super::own::{kind_of, own_tables};
use super::read::Assignment;
use crate::error::{KeyError, KeyFault};
use crate::keys::{EITHER, IN_REWARD, LAYOUT, NAME, in_place_of, join, split};
use crate::settings::RunConfig;
use crate::source::Source;
use std::collections::BTreeMap;

const KL_IN_LOSS: &str = "loss.kl.coef";
const KL_IN_REWARD: &str = "rewards.kl_coef";

/// The TOML of a key's value; a table that is present has the value `{}`.
#[derive(Clone)]
struct Setting {
    value: String,
    source: Source,
    /// Whether it was set by a key that has moved.
    moved: bool,
}

/// What the layers so far have set.
#[derive(Default)]
pub(super) struct Merged {
    set: BTreeMap<String, Setting>,
    /// What lies beneath all layers, and holds again where a layer is taken out.
    beneath: BTreeMap<String, Setting>,
}

impl Merged {
    /// What is set where nothing but the algorithm's settings is.
    pub(super) fn over(algorithm: Vec<Assignment>) -> Self {
        let mut merged = Self::default();
        merged.lay(algorithm, &mut Vec::new());
        merged.beneath = merged.set.clone();
        merged
    }

    /// Lays one layer over the others. Another name for a table drops the constants of the one before, and of two keys that
    /// exclude each other the later layer's counts.
    pub(super) fn lay(&mut self, assignments: Vec<Assignment>, warnings: &mut Vec<String>) {
        for Assignment { path, value, source, .. } in &assignments {
            let (table, last) = split(path);
            if let (NAME, Some(name)) = (last, value)
                && let before = self.name(path)
                && before != unquoted(name)
            {
                let dropped = self.drop_constants(table, &before);
                if !dropped.is_empty() {
                    let (name, dropped) = (unquoted(name), dropped.join(", "));
                    warnings.push(format!("{source}: {table} is {name} instead of {before}, without its {dropped}"));
                }
            }
        }
        for (path, other) in EITHER.into_iter().flat_map(|(count, share)| [(count, share), (share, count)]) {
            let set = assignments.iter().find(|assignment| assignment.path == path && assignment.value.is_some());
            if let (Some(set), Some(before)) = (set, self.set.get(other))
                && !set.source.is_of_one_layer(&before.source)
            {
                self.set.remove(other);
            }
        }
        let (set, unset): (Vec<_>, Vec<_>) = assignments.into_iter().partition(|assignment| assignment.value.is_some());
        for Assignment { path, value, source, moved } in set {
            self.set.extend(value.map(|value| (path, Setting { value, source, moved })));
        }
        for Assignment { path, .. } in unset {
            self.unset(&path);
        }
    }

    /// Takes out what layers set of a key or a table, so that what lies beneath them holds.
    pub(super) fn remove(&mut self, path: &str) {
        self.unset(path);
        for place in std::iter::once(&path).chain(in_place_of(path).into_iter().flatten()) {
            let holds = |key: &str| is_in(key, place) && self.belongs(key, place);
            let beneath: Vec<_> = self.beneath.iter().filter(|(key, _)| holds(key)).collect();
            let beneath: Vec<_> = beneath.into_iter().map(|(key, setting)| (key.clone(), setting.clone())).collect();
            self.set.extend(beneath);
        }
    }

    /// Whether what lies beneath in a place still has the name that it is a constant of.
    fn belongs(&self, key: &str, place: &str) -> bool {
        let Some((owner, _)) = LAYOUT.condition(key) else { return true };
        let name = |of: &BTreeMap<String, Setting>| of.get(&owner).map(|setting| unquoted(&setting.value).to_owned());
        is_in(&owner, place) || name(&self.set) == name(&self.beneath)
    }

    /// Unsets a key or a table.
    fn unset(&mut self, path: &str) {
        for new in in_place_of(path).into_iter().flatten() {
            self.unset(new);
        }
        self.set.retain(|key, _| !is_in(key, path));
    }

    /// The name that decides what else a table may hold.
    fn name(&self, key: &str) -> String {
        let set = self.set.get(key).map(|setting| setting.value.as_str());
        let default = || LAYOUT.key(key).and_then(|key| key.default.as_deref());
        unquoted(set.or_else(default).unwrap_or_default()).to_owned()
    }

    fn drop_constants(&mut self, table: &str, name: &str) -> Vec<String> {
        let below = format!("{table}.");
        let belongs = |key: &String| {
            let condition = LAYOUT.condition(key);
            key.starts_with(&below) && condition.is_some_and(|(_, of)| of.iter().any(|of| of == name))
        };
        let dropped: Vec<String> = self.set.keys().filter(|key| belongs(key)).cloned().collect();
        dropped
            .iter()
            .filter_map(|key| Some((key, self.set.remove(key)?)))
            .filter_map(|(key, setting)| {
                let is_of_user = !matches!(setting.source, Source::Algorithm { .. });
                (is_of_user && setting.value != "{}").then(|| format!("{} = {}", &key[below.len()..], setting.value))
            })
            .collect()
    }

    /// Turns what old keys said together into what it means, and finds what does not go together.
    pub(super) fn finish(&mut self, errors: &mut Vec<KeyError>) {
        if self.set.remove(IN_REWARD).is_some_and(|setting| setting.value == "true")
            && let Some(coef) = self.set.remove(KL_IN_LOSS)
        {
            self.set.entry(KL_IN_REWARD.into()).or_insert(coef);
        }
        for (count, share) in EITHER {
            if let (Some(_), Some(Setting { value, source, .. })) = (self.set.get(count), self.set.get(share)) {
                let fault = KeyFault::Value { found: value.clone(), expected: format!("unset beside {count}") };
                errors.push(KeyError { place: source.clone(), key: share.into(), fault });
            }
        }
        // Without a maximum, the old increment had no effect.
        let per_prompt = "sampler.per_prompt";
        if !self.set.contains_key("sampler.per_prompt.max_samples")
            && self.set.get(per_prompt).is_some_and(|table| table.moved)
        {
            self.unset(per_prompt);
        }
        let foreign: Vec<(String, String)> = self
            .set
            .keys()
            .filter_map(|key| {
                let (owner, of) = LAYOUT.condition(key)?;
                let name = self.name(&owner);
                let only = format!("nothing, as {owner} is {name}; only {} has it", of.join(", "));
                (!of.contains(&name)).then(|| (key.clone(), only))
            })
            .collect();
        for (key, expected) in foreign {
            // Old keys stood beside one another whatever the name.
            if let Some(Setting { value, source, .. }) = self.set.remove(&key).filter(|setting| !setting.moved) {
                errors.push(KeyError { place: source, key, fault: KeyFault::Value { found: value, expected } });
            }
        }
        self.check_own(errors);
        self.name_tables();
    }

    /// Checks that each reward under a name of one's own has one kind, and the keys of that kind alone.
    fn check_own(&mut self, errors: &mut Vec<KeyError>) {
        for table in own_tables(self.set.keys()) {
            let below = format!("{table}.");
            let of_table = |(path, setting): (&String, &Setting)| {
                Some((path.strip_prefix(&below)?.to_owned(), (setting.value.clone(), setting.source.clone())))
            };
            let keys: BTreeMap<String, (String, Source)> = self.set.iter().filter_map(of_table).collect();
            let place = self.set.get(&table).map_or(Source::Default, |setting| setting.source.clone());
            let kind = match kind_of(&table, &keys) {
                Ok(kind) => kind,
                Err((key, fault)) => {
                    let place = keys.get(&key).map_or(place, |(_, source)| source.clone());
                    errors.push(KeyError { place, key: if key.is_empty() { table } else { below + &key }, fault });
                    continue;
                }
            };
            for (key, (found, place)) in keys {
                let path = join(&table, &key);
                let of = LAYOUT.key(&path).map(|key| key.of.as_slice()).unwrap_or_default();
                if of.is_empty() || of.contains(&kind) {
                    continue;
                }
                if key == "dir" {
                    // It came with a command that was taken out again.
                    self.set.remove(&path);
                    continue;
                }
                let expected = format!("nothing, as {table} is of kind {kind}; only {} has it", of.join(", "));
                errors.push(KeyError { place, key: path, fault: KeyFault::Value { found, expected } });
            }
        }
    }

    /// Whether `rewards.accuracy` is set by more than a recipe.
    pub(super) fn sets_accuracy(&self) -> bool {
        let is_of_user =
            |source: &Source| !matches!(source, Source::Recipe { .. } | Source::Algorithm { .. } | Source::Default);
        let is_it = |path: &str| path == "rewards.accuracy" || path.starts_with("rewards.accuracy.");
        self.set.iter().any(|(path, setting)| is_it(path) && is_of_user(&setting.source))
    }

    /// A table of which only constants are set has its default name; one of which nothing is left is not there.
    fn name_tables(&mut self) {
        for table in LAYOUT.tables.iter().filter(|table| table.shorthand.as_deref() == Some(NAME)) {
            let (name, below) = (join(&table.path, NAME), format!("{}.", table.path));
            if !self.set.range(below.clone()..).next().is_some_and(|(key, _)| key.starts_with(&below)) {
                self.set.remove(&table.path);
            } else if !self.set.contains_key(&name) {
                let value = format!("{:?}", self.name(&name));
                self.set.insert(name, Setting { value, source: Source::Default, moved: false });
            }
        }
    }

    /// The settings as one document.
    pub(super) fn document(&self) -> String {
        let empty = |path: &str| self.set.range(format!("{path}.")..format!("{path}/")).next().is_none();
        let lines = self.set.iter().filter(|(path, setting)| setting.value != "{}" || empty(path));
        lines.map(|(path, setting)| format!("{path} = {}", setting.value)).collect::<Vec<_>>().join("\n")
    }

    /// Where each setting comes from.
    pub(super) fn sources(self) -> BTreeMap<String, Source> {
        self.set.into_iter().map(|(path, setting)| (path, setting.source)).collect()
    }

    /// The values that the settings' types refuse although their kind is right: numbers too large.
    pub(super) fn culprits(&self, error: &toml::de::Error) -> Vec<KeyError> {
        let mut errors = Vec::new();
        // A reward of one's own cannot be read without its kind.
        for (path, Setting { value, source, .. }) in self.set.iter().filter(|(path, _)| LAYOUT.own(path).is_none()) {
            // A named table cannot be read without its name.
            let name = LAYOUT.condition(path).map(|(owner, _)| format!("{owner} = {:?}\n", self.name(&owner)));
            if let Err(error) = toml::from_str::<RunConfig>(&format!("{}{path} = {value}", name.unwrap_or_default())) {
                let fault = KeyFault::Value { found: value.clone(), expected: expected(error.message()) };
                errors.push(KeyError { place: source.clone(), key: path.clone(), fault });
            }
        }
        if errors.is_empty() {
            let fault = KeyFault::Value { found: "what it is".into(), expected: error.message().to_owned() };
            errors.push(KeyError { place: Source::Default, key: "settings".into(), fault });
        }
        errors
    }
}

/// What a number is expected to be, by what its type says.
fn expected(message: &str) -> String {
    let range = match message.rsplit(", expected ").next() {
        Some("u32") => "a whole number of at most 4294967295",
        Some("u64" | "usize") => "a whole number of at most 18446744073709551615",
        Some("u8") => "a whole number of at most 255",
        _ => message,
    };
    range.to_owned()
}

/// Whether a key is this one, or in the table of this name.
fn is_in(key: &str, path: &str) -> bool {
    key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A TOML string without its quotes.
pub(super) fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}
