//! Settings that mean something else, or have another default, in another kind of table.

use serde::{Deserialize, Serialize};

/// What a setting means for some of the kinds that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// The kinds.
    pub of: Vec<String>,
    /// Its default, as TOML; `None`: not set.
    pub default: Option<String>,
    /// What it means.
    pub description: String,
}

/// Adds what a setting means for a kind to what it means for others.
pub(super) fn add(variants: &mut Vec<Variant>, kind: &str, default: Option<String>, description: String) {
    let same = variants.iter_mut().find(|known| known.default == default && known.description == description);
    match same {
        Some(known) => known.of.push(kind.to_owned()),
        None => variants.push(Variant { of: vec![kind.to_owned()], default, description }),
    }
}

/// The description of all, or those of each, after the kinds that it is for.
pub(super) fn description(variants: &[Variant]) -> String {
    match grouped(variants, |variant| &variant.description).as_slice() {
        [(text, _)] => (*text).clone(),
        told => told.iter().map(|(text, kinds)| format!("{}: {text}", kinds.join(", "))).collect::<Vec<_>>().join(" "),
    }
}

/// The default of all; `None` where they differ.
pub(super) fn default(variants: &[Variant]) -> Option<String> {
    let first = variants.first()?;
    variants.iter().all(|variant| variant.default == first.default).then(|| first.default.clone()).flatten()
}

/// The default for people: of each kind, where kinds differ.
pub(super) fn shown_default(variants: &[Variant], default: Option<&str>) -> String {
    let shown = |default: Option<&str>| default.unwrap_or("not set").to_owned();
    match grouped(variants, |variant| &variant.default).as_slice() {
        [] | [_] => shown(default),
        several => {
            let each = several.iter().map(|(one, kinds)| format!("{} ({})", shown(one.as_deref()), kinds.join(", ")));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The kinds of each value that occurs, in the order of its first occurrence.
fn grouped<'a, T: PartialEq>(
    variants: &'a [Variant],
    value: impl Fn(&'a Variant) -> &'a T,
) -> Vec<(&'a T, Vec<&'a str>)> {
    let mut groups: Vec<(&T, Vec<&str>)> = Vec::new();
    for variant in variants {
        let kinds = variant.of.iter().map(String::as_str);
        match groups.iter_mut().find(|(known, _)| *known == value(variant)) {
            Some((_, known)) => known.extend(kinds),
            None => groups.push((value(variant), kinds.collect())),
        }
    }
    groups
}
