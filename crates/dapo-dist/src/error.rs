//! The one error type of the crate.

use std::fmt;

/// Errors of ranks that do not come, do something else, or were started differently.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DistError {
    /// Ranks gave no sign of life within the deadline.
    #[error(
        "{} silent for {seconds:.1} s, expected {place} as on rank {here}{}",
        Ranks(.ranks),
        Last(.last)
    )]
    Late {
        /// The ranks that are missing.
        ranks: Vec<usize>,
        /// The deadline, in seconds.
        seconds: f64,
        /// What this rank waits in.
        place: Place,
        /// This rank.
        here: usize,
        /// The phase that the first of the missing ranks last told of; empty if it never did.
        last: String,
    },
    /// A rank ended the job.
    #[error("rank {rank} ended the job with code {code}; this rank was in {place}")]
    Aborted {
        /// The rank that did.
        rank: usize,
        /// The exit code that it gave.
        code: i32,
        /// What this rank was doing.
        place: Place,
    },
    /// A rank dropped its world without finishing.
    #[error("rank {here} left the others without finishing, which ends the job")]
    Unfinished {
        /// This rank.
        here: usize,
    },
    /// A rank does something else: the program is not the same on all ranks, or has taken another way.
    #[error("rank {rank} is in {found}, expected {expected} as on rank {here}")]
    Astray {
        /// The other rank.
        rank: usize,
        /// What it does.
        found: Place,
        /// What this rank does.
        expected: Place,
        /// This rank.
        here: usize,
    },
    /// A message is shorter or longer than the place for it.
    #[error("a message of rank {rank} in {place} is {found} bytes, expected {expected}")]
    Length {
        /// The sender.
        rank: usize,
        /// Bytes that it sends.
        found: usize,
        /// Bytes that there is room for.
        expected: usize,
        /// The operation.
        place: Place,
    },
    /// What is given to an operation does not fit the world or the other arguments.
    #[error("{what} is {found}, expected {expected}")]
    Argument {
        /// The argument, or a setting's name.
        what: String,
        /// The value given.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// Ranks differ in what must be equal.
    #[error("{item} of rank {rank} is {found:?}, expected {expected:?} as on rank 0{}", More(*.more))]
    Differs {
        /// The item's name.
        item: String,
        /// The first rank that differs.
        rank: usize,
        /// Its value; empty if it has no such item.
        found: String,
        /// Rank 0's value; empty if it has no such item.
        expected: String,
        /// Further differences of any rank.
        more: usize,
    },
    /// A launcher started several processes, and this one is alone.
    #[error("the world has 1 process, expected {expected} as {variable} says: {hint}")]
    Singleton {
        /// The launcher's variable.
        variable: &'static str,
        /// The variable's value.
        expected: usize,
        /// What to do.
        hint: &'static str,
    },
    /// A rank's supervisor cannot start it.
    #[error("the supervisor cannot start this rank: {cause}")]
    Supervisor {
        /// The system's error.
        cause: String,
    },
    /// MPI cannot be used as it is.
    #[error("MPI {what}")]
    Mpi {
        /// What is the matter.
        what: String,
    },
    /// What a rank sent cannot be read, or contradicts what it should send.
    #[error("what rank {rank} sent is {found}, expected {expected}")]
    Content {
        /// The sender.
        rank: usize,
        /// What came.
        found: String,
        /// What should have.
        expected: String,
    },
}

/// An operation within a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The label that [`World::phase`](crate::World::phase) set.
    pub phase: String,
    /// The operation, such as `all-to-all`.
    pub operation: &'static str,
    /// How many operations this world has begun.
    pub sequence: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} {})", self.phase, self.operation, self.sequence)
    }
}

struct Ranks<'a>(&'a [usize]);

impl fmt::Display for Ranks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [rank] => write!(f, "rank {rank} is"),
            ranks => {
                let names: Vec<_> = ranks.iter().map(usize::to_string).collect();
                write!(f, "ranks {} are", names.join(", "))
            }
        }
    }
}

struct Last<'a>(&'a str);

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it was last in {:?}", self.0) }
    }
}

struct More(usize);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " (and {} more)", self.0) }
    }
}
