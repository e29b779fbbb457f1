//! Whether what a file claims fits into memory.

use std::fs;

/// Bytes of memory that this process can still take: what the system and the limit on its address space leave. `None`
/// where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kibibytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        Some((kibibytes("MemAvailable")? + kibibytes("SwapFree").unwrap_or(0)) << 10)
    });
    let limit = fs::read_to_string("/proc/self/limits").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
        // The first field is the number of pages that are mapped.
        let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
        Some(limit.saturating_sub(pages.saturating_mul(4096)))
    });
    system.into_iter().chain(limit).min()
}

/// Refuses more bytes than there is memory for, in words that follow "FILE: ".
pub(crate) fn check(bytes: u64) -> Result<(), String> {
    // Asking the system takes longer than reading a small file.
    const SMALL: u64 = 1 << 24;
    if bytes <= SMALL {
        return Ok(());
    }
    match available() {
        Some(available) if bytes > available => {
            let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let (needed, available) = (gibibytes(bytes), gibibytes(available));
            Err(format!("{needed:.1} GiB of memory are needed, {available:.1} GiB are available"))
        }
        _ => Ok(()),
    }
}
