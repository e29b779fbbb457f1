//! One table of what the other benches have measured, beside the same of the run before: what `cargo bench` ends with,
//! because Cargo runs benches in the order of their names.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

#[path = "support/folder.rs"]
mod folder;

/// Rows that are older are of another run.
const OLDEST: Duration = Duration::from_mins(15);

/// A time in nanoseconds, with two or three digits, in a unit that suits it.
fn readable(time: f64) -> String {
    let units = [(1e3, 1.0, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms")];
    let (_, one, unit) = units.into_iter().find(|(most, ..)| time < *most).unwrap_or((f64::INFINITY, 1e9, "s "));
    let value = time / one;
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// What, time in nanoseconds, and rate of each line.
fn parse(lines: &str) -> Result<Vec<(&str, f64, &str)>> {
    let row = |line| {
        let mut parts = str::split(line, '\t');
        let [what, time, rate] = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
        Ok((what, time.parse().with_context(|| format!("{line:?} is no row"))?, rate))
    };
    lines.lines().map(row).collect()
}

/// Prints each bench's rows, which are then those of the run before.
fn main() -> Result<()> {
    let (folder, before) = (folder::folder(), folder::folder().with_extension("before"));
    if !std::env::args().any(|argument| argument == "--bench") || !folder.exists() {
        return Ok(());
    }
    fs::create_dir_all(&before)?;
    let mut files: Vec<_> = fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    println!("\n{:<8} {:<54} {:>10} {:>8}  rate", "bench", "what", "time", "change");
    for file in files {
        let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or_default();
        let old = before.join(file.file_name());
        if age <= OLDEST {
            let (bench, lines) = (file.file_name(), fs::read_to_string(file.path())?);
            let earlier = fs::read_to_string(&old).unwrap_or_default();
            let earlier: HashMap<_, _> = parse(&earlier)?.into_iter().map(|(what, time, _)| (what, time)).collect();
            for (what, time, rate) in parse(&lines)? {
                let change =
                    earlier.get(what).map_or(String::new(), |old| format!("{:+.1} %", 100.0 * (time / old - 1.0)));
                println!("{:<8} {what:<54} {:>10} {change:>8}  {rate}", bench.display(), readable(time));
            }
        }
        fs::rename(file.path(), old)?;
    }
    Ok(())
}
