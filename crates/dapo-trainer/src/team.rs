//! The ranks that train as one, and how they divide their work.

use crate::error::TrainerError;
use dapo_dist::{DistError, Shards, Solo, World, gather, share_of};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How often a rank that waits for others than ranks says that it is alive.
const PULSE: Duration = Duration::from_millis(100);

/// The ranks, and the virtual shards of their mini-batches.
#[derive(Clone)]
pub(crate) struct Team {
    world: Arc<dyn World>,
    shards: Shards,
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rank, size) = (self.world.rank(), self.world.size());
        f.debug_struct("Team").field("rank", &rank).field("size", &size).field("shards", &self.shards).finish()
    }
}

impl Team {
    /// One rank.
    ///
    /// # Errors
    /// As [`Team::new`].
    pub(crate) fn alone(shards: usize) -> Result<Self, TrainerError> {
        Self::new(Arc::new(Solo), shards)
    }

    /// The ranks of a world, whose mini-batches have this number of shards.
    ///
    /// # Errors
    /// [`TrainerError::Setting`] unless that is a power of two of at least the world's size.
    pub(crate) fn new(world: Arc<dyn World>, shards: usize) -> Result<Self, TrainerError> {
        let size = world.size();
        let Ok(of) = Shards::new(shards, size) else {
            let expected = format!("a power of two of at least {size}, the number of ranks");
            return Err(TrainerError::setting("shards", &shards, &expected));
        };
        Ok(Self { world, shards: of })
    }

    pub(crate) fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    pub(crate) fn shards(&self) -> Shards {
        self.shards
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.world.size() == 1
    }

    /// Says what comes next, on all ranks alike.
    pub(crate) fn phase(&self, step: u64, what: fmt::Arguments<'_>) {
        if !self.is_alone() {
            self.world.phase(&format!("step {step}: {what}"));
        }
    }

    /// Says that this rank is alive.
    pub(crate) fn heartbeat(&self) {
        self.world.heartbeat();
    }

    /// Says so again and again while `work` waits for something that has a time-out of its own.
    pub(crate) fn alive_during<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.is_alone() {
            return work();
        }
        thread::scope(|scope| {
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                while is_done.recv_timeout(PULSE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    self.heartbeat();
                }
            });
            let outcome = work();
            drop(done);
            outcome
        })
    }

    /// This rank's part of a number of things, which are in order and divided alike on all ranks.
    pub(crate) fn part(&self, items: usize, rank: usize) -> Range<usize> {
        share_of(items, rank, self.world.size())
    }

    /// The shards whose gradients this rank computes.
    pub(crate) fn own_shards(&self) -> Range<usize> {
        self.shards.of_rank(self.world.rank(), self.world.size())
    }

    /// Of a mini-batch's groups those of this rank's shards.
    pub(crate) fn own_groups(&self, groups: usize) -> Range<usize> {
        let own = self.own_shards();
        self.shards.items(own.start, groups).start..self.shards.items(own.end - 1, groups).end
    }

    /// What every rank gives, by rank, unless one of them has failed; and this rank's own value.
    ///
    /// # Errors
    /// This rank's own where all have the same, else [`TrainerError::Rank`] on every rank; [`TrainerError::Dist`].
    pub(crate) fn exchange<T>(
        &self,
        mine: Result<(T, Vec<u8>), TrainerError>,
    ) -> Result<(T, Vec<Vec<u8>>), TrainerError> {
        if self.is_alone() {
            return mine.map(|(value, bytes)| (value, vec![bytes]));
        }
        match mine {
            Ok((value, bytes)) => match self.gather(Some(&bytes), "")? {
                Answers::All(all) => Ok((value, all)),
                Answers::Failed { rank, message, .. } => Err(TrainerError::Rank { rank, message, cause: None }),
            },
            // The ranks do not hear each other any more.
            Err(error @ TrainerError::Dist(_)) => Err(error),
            Err(error) => match self.gather(None, &error.to_string())? {
                Answers::Failed { rank, message, are_alike: false } => {
                    let cause = (rank == self.world.rank()).then(|| Box::new(error));
                    Err(TrainerError::Rank { rank, message, cause })
                }
                _ => Err(error),
            },
        }
    }

    /// A value that every rank has, unless one of them has failed.
    ///
    /// # Errors
    /// As [`Team::exchange`].
    pub(crate) fn agree<T>(&self, mine: Result<T, TrainerError>) -> Result<T, TrainerError> {
        self.exchange(mine.map(|value| (value, Vec::new()))).map(|(value, _)| value)
    }

    /// The end of a step: an error on any rank is one on all of them. This rank's own stays as it is.
    ///
    /// # Errors
    /// As [`Team::exchange`].
    pub(crate) fn end<T>(&self, mine: Result<T, TrainerError>) -> Result<T, TrainerError> {
        match mine {
            Err(error) if !self.is_alone() && !matches!(error, TrainerError::Dist(_)) => {
                self.gather(None, &error.to_string())?;
                Err(error)
            }
            mine => self.agree(mine),
        }
    }

    /// Tells all ranks what this one has, or why it has nothing.
    fn gather(&self, bytes: Option<&[u8]>, message: &str) -> Result<Answers, TrainerError> {
        let (status, content) = bytes.map_or((FAILED, message.as_bytes()), |bytes| (DONE, bytes));
        let all = gather(&*self.world, &[&[status], content].concat())?;
        let mut parts = Vec::with_capacity(all.len());
        let mut failures = Vec::new();
        for (rank, mut answer) in all.into_iter().enumerate() {
            match answer.first() {
                Some(&DONE) => {
                    answer.remove(0);
                    parts.push(answer);
                }
                Some(&FAILED) => failures.push((rank, String::from_utf8_lossy(&answer[1..]).into_owned())),
                _ => return Err(unreadable(rank, "an empty answer", "a status").into()),
            }
        }
        let size = self.world.size();
        Ok(match failures.first() {
            None => Answers::All(parts),
            Some((rank, message)) => {
                let are_alike = failures.len() == size && failures.iter().all(|(_, other)| other == message);
                Answers::Failed { rank: *rank, message: message.clone(), are_alike }
            }
        })
    }
}

const DONE: u8 = 0;
const FAILED: u8 = 1;

enum Answers {
    All(Vec<Vec<u8>>),
    Failed {
        /// The first rank.
        rank: usize,
        message: String,
        /// Whether all ranks have failed with this message.
        are_alike: bool,
    },
}

/// What another rank sent is not what it should send.
pub(crate) fn unreadable(rank: usize, found: &str, expected: &str) -> DistError {
    DistError::Content { rank, found: found.to_owned(), expected: expected.to_owned() }
}

/// Words as bytes.
pub(crate) fn to_bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The words that [`to_bytes`] was given.
pub(crate) fn to_words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dapo_dist::threads;

    fn on_ranks<T: Send>(size: usize, rank: impl Fn(Team) -> T + Sync) -> Vec<T> {
        let (rank, worlds) = (&rank, threads::worlds(size, Duration::from_secs(20)));
        thread::scope(|scope| {
            let ranks = worlds.into_iter().map(|world| {
                scope.spawn(move || {
                    let team = Team::new(Arc::from(world), 4).unwrap();
                    let value = rank(team.clone());
                    team.world().finish().unwrap();
                    value
                })
            });
            ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_failure_of_one_rank_is_every_ranks() {
        let outcomes = on_ranks(4, |team| {
            let rank = team.world().rank();
            let mine = if rank < 2 { Ok(rank) } else { Err(TrainerError::setting("x", &rank, "less")) };
            team.agree(mine).unwrap_err()
        });
        for (rank, error) in outcomes.iter().enumerate() {
            let TrainerError::Rank { rank: 2, cause, .. } = error else { panic!("{error}") };
            assert_eq!(error.to_string(), "rank 2: x is 2, expected less");
            assert_eq!(cause.is_some(), rank == 2);
        }
    }

    #[test]
    fn what_fails_alike_on_all_ranks_is_nobodys_fault() {
        for error in on_ranks(2, |team| team.agree::<()>(Err(TrainerError::setting("x", &1, "less"))).unwrap_err()) {
            assert_eq!(error.to_string(), "x is 1, expected less");
        }
    }

    #[test]
    fn values_come_by_rank() {
        let outcomes = on_ranks(4, |team| {
            let rank = team.world().rank();
            team.exchange(Ok((rank, vec![rank as u8; rank]))).unwrap()
        });
        for (rank, (own, all)) in outcomes.into_iter().enumerate() {
            assert_eq!((own, all), (rank, vec![vec![], vec![1], vec![2, 2], vec![3, 3, 3]]));
        }
    }

    #[test]
    fn ranks_have_the_groups_of_their_shards() {
        for (groups, expected) in [(4, [0..2, 2..4]), (5, [0..2, 2..5]), (1, [0..0, 0..1]), (0, [0..0, 0..0])] {
            assert_eq!(on_ranks(2, |team| team.own_groups(groups)), expected, "{groups} groups");
        }
    }

    #[test]
    fn shards_are_as_many_as_ranks_at_least() {
        let error = Team::alone(3).unwrap_err().to_string();
        assert_eq!(error, "shards is 3, expected a power of two of at least 1, the number of ranks");
    }
}
