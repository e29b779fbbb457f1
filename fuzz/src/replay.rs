//! The corpora without a fuzzer: every seed, and variations of them that are the same each time.

use crate::input::{SEPARATOR, Target};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most bytes of a target's seeds.
const MOST_BYTES: usize = 50_000;

/// The folder of all corpora.
pub fn corpora(fuzz: &Path) -> PathBuf {
    fuzz.join("corpus")
}

/// Runs each target on its seeds, and then on variations of them, as many as `variations` and `time` allow for each.
/// Returns the number of inputs.
///
/// # Panics
/// Where a property does not hold, a target has no seeds, or they are too large. The input that breaks a property is
/// written into the folder for temporary files.
pub fn replay(fuzz: &Path, targets: &[(&str, Target)], variations: usize, time: Duration) -> usize {
    targets.iter().map(|(name, target)| one(fuzz, name, *target, variations, time)).sum()
}

fn one(fuzz: &Path, name: &str, target: Target, variations: usize, time: Duration) -> usize {
    let seeds = seeds(&corpora(fuzz).join(name));
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let bytes: usize = seeds.iter().map(|(_, seed)| seed.len()).sum();
    assert!(bytes < MOST_BYTES, "the seeds of {name} have {bytes} bytes");
    for (file, seed) in &seeds {
        run(name, target, seed, &file.display().to_string());
    }
    let start = Instant::now();
    let mut random = Random(name.bytes().fold(7, |state, byte| state * 31 + u64::from(byte)));
    let mut count = seeds.len();
    for number in 0..variations {
        if start.elapsed() > time {
            break;
        }
        let seed = &seeds[random.below(seeds.len())].1;
        let input = varied(seed, &seeds[random.below(seeds.len())].1, &mut random);
        run(name, target, &input, &format!("variation {number}"));
        count += 1;
    }
    count
}

fn seeds(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let read = |file: PathBuf| {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

fn run(name: &str, target: Target, input: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let file = std::env::temp_dir().join(format!("fuzz-{name}"));
        let saved = fs::write(&file, input).map_or_else(|error| error.to_string(), |()| file.display().to_string());
        eprintln!("{name} fails on {what}; the input: {saved}");
        resume_unwind(panic);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
}

/// Pieces that parsers know.
const PIECES: &[&[u8]] = &[
    SEPARATOR,
    b"\0",
    b"\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"-",
    b"=",
    b"null",
    b"1e999",
    b"-0",
    b"18446744073709551616",
    b"0.1",
    b"\xff",
    "\u{202e}".as_bytes(),
    "\u{feff}".as_bytes(),
    "½".as_bytes(),
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\\frac{",
    b"\\boxed{",
    b"$",
    b"{{",
    b"{%",
    b"$((",
    b"${",
    b"<<EOF",
];

/// A seed with one to four changes: bytes, pieces, repeats, cuts, and parts of another seed.
fn varied(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(input.len() + 1);
        let length = random.below((input.len() - place).min(40) + 1);
        match random.below(7) {
            0 if place < input.len() => input[place] ^= 1 << random.below(8),
            1 => drop(input.splice(place..place, PIECES[random.below(PIECES.len())].iter().copied())),
            2 => drop(input.drain(place..place + length)),
            3 => {
                let repeated = input[place..place + length].repeat(1 + random.below(30));
                drop(input.splice(place..place, repeated));
            }
            4 => {
                let from = random.below(other.len() + 1);
                let to = from + random.below((other.len() - from).min(60) + 1);
                drop(input.splice(place..place + length, other[from..to].iter().copied()));
            }
            5 => input.truncate(place),
            _ => {
                let number = random.bits().to_string();
                drop(input.splice(place..place + length.min(3), number.into_bytes()));
            }
        }
    }
    input
}
