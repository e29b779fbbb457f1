//! The cores that this process may use. Open MPI binds each rank to one core by default, on which all its threads would
//! take turns.

use crate::launch::ranks_here;
use std::fmt;

/// Cores and ranks of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// A rank has at least its share of the machine's cores.
    Free {
        /// Logical cores that it may use.
        cores: usize,
        /// Ranks on this machine.
        ranks: usize,
    },
    /// A rank was bound to less than its share, and is not any more.
    Widened {
        /// Logical cores that it may use now.
        cores: usize,
        /// Logical cores before.
        before: usize,
        /// Ranks on this machine.
        ranks: usize,
    },
    /// What a rank may use cannot be found out or changed here.
    Unknown {
        /// Ranks on this machine.
        ranks: usize,
    },
}

impl Binding {
    /// Threads that this rank should compute with: its share of the cores, at least 1.
    pub fn threads(self) -> usize {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Free { cores, ranks } | Self::Widened { cores, ranks, .. } => {
                // Quotas of a container count, too.
                (cores.min(available()) / ranks).max(1)
            }
            Self::Unknown { ranks } => (available() / ranks).max(1),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free { cores, ranks } => write!(f, "{cores} cores for {ranks} ranks of this machine"),
            Self::Widened { cores, before, ranks } => write!(
                f,
                "the launcher bound this rank to {before} of {cores} cores, of which {ranks} ranks of this machine may \
                 now use all; mpirun --bind-to none does not bind"
            ),
            Self::Unknown { ranks } => {
                write!(f, "cores unknown, {ranks} ranks on this machine; mpirun --bind-to none does not bind them")
            }
        }
    }
}

/// Lets this process use its share of the machine, if a launcher bound it to less. Limits that the process cannot
/// lift, such as a container's, stay.
///
/// Call it before other threads start: they inherit what the calling thread may use.
pub fn widen() -> Binding {
    let ranks = ranks_here(|name| std::env::var(name).ok());
    // Without a launcher's ranks, a narrow affinity is what somebody chose.
    widen_to(ranks, std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some())
}

#[cfg(target_os = "linux")]
fn widen_to(ranks: usize, by_launcher: bool) -> Binding {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(bound) = sched_getaffinity(None) else { return Binding::Unknown { ranks } };
    let before = bound.count() as usize;
    let free = Binding::Free { cores: before, ranks };
    if !by_launcher {
        return free;
    }
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|core| all.set(core));
    if sched_setaffinity(None, &all).is_err() {
        return Binding::Unknown { ranks };
    }
    let cores = sched_getaffinity(None).map_or(before, |now| now.count() as usize);
    if before < cores / ranks {
        return Binding::Widened { cores, before, ranks };
    }
    // Its share, or more: as the launcher meant it. `before` cores belong to this rank alone.
    match sched_setaffinity(None, &bound) {
        Ok(()) if before < cores => Binding::Free { cores: before, ranks: 1 },
        Ok(()) => free,
        Err(_) => Binding::Free { cores, ranks },
    }
}

#[cfg(not(target_os = "linux"))]
fn widen_to(ranks: usize, _by_launcher: bool) -> Binding {
    Binding::Unknown { ranks }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// In a thread of its own, whose affinity nobody else has.
    fn bound_to_one_core(test: impl FnOnce(usize) + Send + 'static) {
        let thread = std::thread::spawn(|| {
            let all = sched_getaffinity(None).unwrap();
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap());
            sched_setaffinity(None, &one).unwrap();
            test(all.count() as usize);
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_rank_on_one_core_gets_its_share_back() {
        bound_to_one_core(|cores| {
            let binding = widen_to(1, true);
            if cores == 1 {
                assert_eq!(binding, Binding::Free { cores: 1, ranks: 1 });
            } else {
                assert!(matches!(binding, Binding::Widened { before: 1, cores: now, .. } if now >= cores));
                assert!(binding.to_string().contains("--bind-to none"), "{binding}");
                assert!(sched_getaffinity(None).unwrap().count() as usize >= cores);
            }
        });
    }

    #[test]
    fn a_chosen_affinity_and_a_fair_share_are_kept() {
        bound_to_one_core(|cores| {
            assert_eq!(widen_to(1, false), Binding::Free { cores: 1, ranks: 1 });
            assert_eq!(widen_to(cores.max(1 << 10), true).threads(), 1);
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        });
    }
}
