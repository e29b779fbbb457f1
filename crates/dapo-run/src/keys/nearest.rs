//! The name that was probably meant.

use super::layout::{LAYOUT, OWN_LAYOUT};
use super::moved::{moved, old_keys};
use super::path::{join, split};

/// Below this similarity a name is no help.
const LEAST: f64 = 0.7;

/// The most similar of some names.
pub(crate) fn nearest_of<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::jaro_winkler(word, name), name));
    scored.filter(|(score, _)| *score >= LEAST).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// The most similar key or table, of older versions too: by its last name first, wherever it stands, then by its table.
pub(crate) fn nearest_key(path: &str) -> Option<String> {
    nearest_keys(path).into_iter().next()
}

/// As many names as [`nearest_keys`] gives.
const MOST: usize = 3;

/// The most similar keys and tables, the most similar one first.
pub(crate) fn nearest_keys(path: &str) -> Vec<String> {
    let tables = LAYOUT.tables.iter().map(|table| table.path.as_str()).filter(|path| !path.is_empty());
    let (table, last) = split(path);
    // A misspelt key of a reward of one's own.
    let is_own = LAYOUT.own(table).is_some();
    let own: Vec<String> =
        OWN_LAYOUT.keys.iter().filter(|_| is_own).map(|key| join(table, split(&key.path).1)).collect();
    let mut names: Vec<&str> = LAYOUT.keys.iter().map(|key| key.path.as_str()).chain(tables).collect();
    for old in old_keys() {
        names.push(old);
    }
    names.extend(own.iter().map(String::as_str));
    let score = |name: &str| {
        let (its_table, its_last) = split(name);
        let tables = if table == its_table { 1.0 } else { strsim::jaro_winkler(table, its_table) };
        // The last name says most; a key of the same table is likelier than one of another.
        if last == its_last { 0.9 + 0.1 * tables } else { 0.7 * strsim::jaro_winkler(last, its_last) + 0.2 * tables }
    };
    let scored = names.into_iter().map(|name| (score(name), name)).filter(|(score, _)| *score >= LEAST);
    let mut scored: Vec<(f64, &str)> = scored.collect();
    // Of equally similar names one of a table that is always there comes first, then the last one.
    scored.reverse();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| is_optional(a.1).cmp(&is_optional(b.1))));
    let mut found: Vec<String> = Vec::new();
    for (_, name) in scored {
        let name = moved(name).unwrap_or(name).to_owned();
        if found.len() < MOST && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Whether a key is below a table that settings may leave out.
fn is_optional(key: &str) -> bool {
    LAYOUT.tables.iter().any(|table| {
        table.optional && key.strip_prefix(table.path.as_str()).is_some_and(|below| below.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_and_misplaced_keys_find_what_was_meant() {
        for (wrong, right) in [
            ("optimizer.learning_rate", "optimizer.lr"),
            ("optimizer.warmup", "optimizer.warmup_ratio"),
            ("optimizer.warmup_step", "optimizer.warmup_steps"),
            ("optimiser.lr", "optimizer.lr"),
            ("optimiser", "optimizer"),
            ("lr", "optimizer.lr"),
            ("warmup_steps", "optimizer.warmup_steps"),
            ("rollout.temprature", "rollout.temperature"),
            ("rollout.max_tokens", "rollout.max_new_tokens"),
            ("rollout.groupsize", "rollout.group_size"),
            ("group_size", "rollout.group_size"),
            ("sampler.trainbatch", "sampler.train_batch"),
            ("train.train_batch", "sampler.train_batch"),
            ("loss.clip_hihg", "loss.policy_loss.clip.high"),
            ("loss.cliphigh", "loss.policy_loss.clip.high"),
            ("rewards.soft_overlong.cache", "rewards.soft_overlong.cache_len"),
            ("reward.accuracy.grader", "rewards.accuracy.grader"),
            ("model.pth", "model.path"),
            ("path", "model.path"),
            ("evaluation", "eval"),
            ("rewards.mine.comand", "rewards.mine.command"),
            ("rewards.acuracy.incorrect", "rewards.accuracy.incorrect"),
        ] {
            assert_eq!(nearest_key(wrong).as_deref(), Some(right), "{wrong}");
        }
        assert_eq!((nearest_key("zzz"), nearest_key("rollout.zzz")), (None, None));
    }

    #[test]
    fn names_too_different_are_not_offered() {
        assert_eq!(nearest_of("clip-hihger", ["grpo", "clip-higher", "dapo"]), Some("clip-higher"));
        assert_eq!(nearest_of("xyz", ["grpo", "clip-higher", "dapo"]), None);
    }
}
