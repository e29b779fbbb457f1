//! Whether all ranks were started alike.

use crate::{collect::gather, error::DistError, wire, world::World};

/// A value that a rank has and rank 0 has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The item's name.
    pub item: String,
    /// The rank.
    pub rank: usize,
    /// Its value; empty if it has no such item.
    pub found: String,
    /// Rank 0's value; empty if it has no such item.
    pub expected: String,
}

/// Compares named values of all ranks with those of rank 0. Every rank gets the same list, by rank and then in the
/// order of the items.
///
/// # Errors
///
/// [`DistError::Content`] if a rank's list cannot be read; and see [`World`].
pub fn differences(world: &dyn World, items: &[(&str, String)]) -> Result<Vec<Difference>, DistError> {
    let mut mine = Vec::new();
    for (item, value) in items {
        wire::put(&mut mine, item.as_bytes());
        wire::put(&mut mine, value.as_bytes());
    }
    let lists = gather(world, &mine)?.into_iter().enumerate().map(|(rank, bytes)| {
        let (found, expected) = ("cut short".to_owned(), "a list of names and values".to_owned());
        read(&bytes).ok_or(DistError::Content { rank, found, expected })
    });
    let lists = lists.collect::<Result<Vec<_>, _>>()?;
    let Some((first, others)) = lists.split_first() else { return Ok(Vec::new()) };
    let mut differences = Vec::new();
    for (list, rank) in others.iter().zip(1..) {
        let additional = list.iter().filter(|(item, _)| value(first, item).is_none());
        for (item, _) in first.iter().chain(additional) {
            let (found, expected) = (value(list, item), value(first, item));
            if found != expected {
                let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
                differences.push(Difference { item: item.clone(), rank, found: text(found), expected: text(expected) });
            }
        }
    }
    Ok(differences)
}

/// Requires that all ranks have the same named values: version, settings, weights, tokenizer, [`cpu`]. All ranks get the
/// same answer, and can still [`finish`](World::finish) together.
///
/// # Errors
///
/// [`DistError::Differs`] with the first of the [`differences`]; and their errors.
pub fn handshake(world: &dyn World, items: &[(&str, String)]) -> Result<(), DistError> {
    let differences = differences(world, items)?;
    let more = differences.len().saturating_sub(1);
    match differences.into_iter().next() {
        None => Ok(()),
        Some(Difference { item, rank, found, expected }) => {
            Err(DistError::Differs { item, rank, found, expected, more })
        }
    }
}

fn read(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut list = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while !bytes.is_empty() {
        list.push((text(wire::take(&mut bytes)?), text(wire::take(&mut bytes)?)));
    }
    Some(list)
}

fn value<'a>(list: &'a [(String, String)], item: &str) -> Option<&'a str> {
    list.iter().find(|(name, _)| name == item).map(|(_, value)| value.as_str())
}

/// The CPU's architecture and those of its instruction sets that kernels choose by. Ranks that differ in it may round
/// differently.
pub fn cpu() -> String {
    let mut parts = vec![std::env::consts::ARCH];
    parts.extend(instruction_sets());
    parts.join(" ")
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    let sets = [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    sets.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let sets = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("fp16", is_aarch64_feature_detected!("fp16")),
        ("dotprod", is_aarch64_feature_detected!("dotprod")),
        ("bf16", is_aarch64_feature_detected!("bf16")),
        ("sve", is_aarch64_feature_detected!("sve")),
    ];
    sets.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}
