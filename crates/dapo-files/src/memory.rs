//! Whether what a file claims fits into memory.

use std::fs;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes of memory that this process can still take: what the system, its control group and the limit on its address space
/// leave. `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let system = System::new_with_specifics(memory);
    let swap = system.free_swap();
    let of_system = Some(system.available_memory()).filter(|bytes| *bytes > 0);
    let of_group = system.cgroup_limits().map(|limits| limits.free_memory);
    let memory = of_system.into_iter().chain(of_group).min().map(|bytes| bytes.saturating_add(swap));
    let limit = fs::read_to_string("/proc/self/limits").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
        // The first field is the number of pages that are mapped.
        let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
        Some(limit.saturating_sub(pages.saturating_mul(4096)))
    });
    memory.into_iter().chain(limit).min()
}

/// Refuses more bytes than there is memory for. Up to 16 MiB are never refused.
///
/// # Errors
/// How much is needed and how much is available, in words that follow "FILE: ".
pub fn check_memory(bytes: u64) -> Result<(), String> {
    // Asking the system takes longer than reading a small file.
    const SMALL: u64 = 1 << 24;
    if bytes <= SMALL {
        return Ok(());
    }
    match available_memory() {
        Some(available) if bytes > available => {
            let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let (needed, available) = (gibibytes(bytes), gibibytes(available));
            Err(format!("{needed:.1} GiB of memory are needed, {available:.1} GiB are available"))
        }
        _ => Ok(()),
    }
}
