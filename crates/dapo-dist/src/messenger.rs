//! The operations of a world, on top of any link.

use crate::{
    error::{DistError, Place},
    link::{Link, Naps, Watch},
    note::{Kind, Note},
    world::{Inbox, World},
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A world whose ranks a link connects.
#[derive(Debug)]
pub(crate) struct Messenger<L: Link> {
    link: L,
    deadline: Duration,
    phase: Mutex<String>,
    /// Held during an operation, so that calls to the link come from one thread at a time.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sequence: u64,
    peers: Vec<Peer>,
    /// When this rank last told the others anything.
    told: Instant,
    finished: bool,
}

/// What is known of another rank.
#[derive(Debug)]
struct Peer {
    heard: Instant,
    phase: String,
    /// Operations that it has begun and this rank has not.
    ahead: VecDeque<Note>,
}

impl<L: Link> Messenger<L> {
    pub(crate) fn new(link: L, deadline: Duration) -> Self {
        let peer = || Peer { heard: Instant::now(), phase: String::new(), ahead: VecDeque::new() };
        let peers = std::iter::repeat_with(peer).take(link.size()).collect();
        let state = State { sequence: 0, peers, told: Instant::now(), finished: false };
        Self { link, deadline, phase: Mutex::new("start".to_owned()), state: Mutex::new(state) }
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<L> {
        let here = self.link.rank();
        (0..self.link.size()).filter(move |rank| *rank != here)
    }

    fn note(&self, kind: Kind, sequence: u64) -> Note {
        Note::new(kind, sequence, &lock(&self.phase))
    }

    /// Tells the others that this rank is alive, if that is due.
    fn beat(&self, last: &mut Instant, sequence: u64) {
        if last.elapsed() < self.deadline / 8 {
            return;
        }
        *last = Instant::now();
        let note = self.note(Kind::Heartbeat, sequence).encode(0);
        for rank in self.others() {
            self.link.tell(rank, &note);
        }
    }

    /// Takes in all notes that have arrived.
    fn listen(&self, state: &mut State, place: impl Fn() -> Place) -> Result<(), DistError> {
        loop {
            let heard = self.link.hear().map_err(|(rank, code)| DistError::Aborted { rank, code, place: place() })?;
            let Some((rank, bytes)) = heard else { return Ok(()) };
            let (note, peer) = (Note::decode(&bytes), &mut state.peers[rank]);
            peer.heard = Instant::now();
            peer.phase.clone_from(&note.phase);
            if note.kind != Kind::Heartbeat {
                peer.ahead.push_back(note);
            }
        }
    }

    /// Tells all ranks what begins here, and waits until all have told the same. Returns this operation, and the bytes
    /// that each rank has for this one.
    fn roll_call(
        &self,
        state: &mut State,
        kind: Kind,
        length: impl Fn(usize) -> usize,
    ) -> Result<(Place, Vec<usize>), DistError> {
        state.sequence += 1;
        let note = self.note(kind, state.sequence);
        for rank in self.others() {
            self.link.tell(rank, &note.encode(length(rank) as u64));
            state.peers[rank].heard = Instant::now();
        }
        state.told = Instant::now();
        let mut naps = Naps::new();
        loop {
            self.listen(state, || note.place())?;
            let missing: Vec<_> = self.others().filter(|rank| state.peers[*rank].ahead.is_empty()).collect();
            if missing.is_empty() {
                break;
            }
            let silent = |rank: &usize| state.peers[*rank].heard.elapsed() > self.deadline;
            let ranks: Vec<_> = missing.into_iter().filter(silent).collect();
            if let Some(first) = ranks.first() {
                let last = state.peers[*first].phase.clone();
                let (seconds, place) = (self.deadline.as_secs_f64(), note.place());
                return Err(self.late(DistError::Late { ranks, seconds, place, here: self.link.rank(), last }));
            }
            // A rank that waits for a silent one is not silent itself: those that are ahead wait for both.
            self.beat(&mut state.told, state.sequence);
            self.link.rest(naps.next());
        }
        let mut lengths = vec![0; self.link.size()];
        lengths[self.link.rank()] = length(self.link.rank());
        for rank in self.others() {
            let Some(theirs) = state.peers[rank].ahead.pop_front() else { continue };
            if (theirs.kind, theirs.sequence, &theirs.phase) != (note.kind, note.sequence, &note.phase) {
                let (found, expected) = (theirs.place(), note.place());
                return Err(DistError::Astray { rank, found, expected, here: self.link.rank() });
            }
            lengths[rank] = theirs.length as usize;
        }
        Ok((note.place(), lengths))
    }

    fn late(&self, error: DistError) -> DistError {
        self.link.fatal(&error);
        error
    }

    fn per_rank(&self, what: &str, found: usize) -> Result<(), DistError> {
        let size = self.link.size();
        if found == size {
            return Ok(());
        }
        let expected = format!("{size}, one per rank");
        Err(DistError::Argument { what: format!("the number of {what}"), found: found.to_string(), expected })
    }

    fn exchange(&self, kind: Kind, send: &[&[u8]], receive: &mut [Inbox<'_>]) -> Result<(), DistError> {
        self.per_rank("messages", send.len())?;
        self.per_rank("inboxes", receive.len())?;
        let here = self.link.rank();
        let mut state = lock(&self.state);
        let (place, lengths) = self.roll_call(&mut state, kind, |rank| send[rank].len())?;
        let mut receives = Vec::new();
        for (rank, (inbox, found)) in receive.iter_mut().zip(lengths).enumerate() {
            let room = match inbox {
                Inbox::Own if rank == here => continue,
                Inbox::Own => &mut [],
                Inbox::Exact(room) => &mut **room,
                Inbox::Any(room) => {
                    room.resize(found, 0);
                    room.as_mut_slice()
                }
            };
            if room.len() != found {
                return Err(DistError::Length { rank, found, expected: room.len(), place });
            }
            if rank == here {
                room.copy_from_slice(send[rank]);
            } else if found > 0 {
                receives.push((rank, room));
            }
        }
        let sends: Vec<_> = self.others().map(|rank| (rank, send[rank])).filter(|(_, data)| !data.is_empty()).collect();
        let State { told, sequence, .. } = &mut *state;
        let mut beat = || self.beat(told, *sequence);
        let mut watch = Watch::new(self.deadline, &place, here, &mut beat);
        self.link.transfer(&sends, receives, &mut watch).map_err(|error| match error {
            DistError::Late { .. } => self.late(error),
            error => error,
        })
    }
}

impl<L: Link> World for Messenger<L> {
    fn rank(&self) -> usize {
        self.link.rank()
    }

    fn size(&self) -> usize {
        self.link.size()
    }

    fn phase(&self, label: &str) {
        label.clone_into(&mut lock(&self.phase));
    }

    fn heartbeat(&self) {
        // An operation of another thread beats as it waits.
        let Ok(mut state) = self.state.try_lock() else { return };
        let State { told, sequence, .. } = &mut *state;
        self.beat(told, *sequence);
        let sequence = state.sequence;
        // An error is met again by the next operation.
        let _ = self.listen(&mut state, || self.note(Kind::Heartbeat, sequence).place());
    }

    fn all_to_all(&self, send: &[&[u8]], receive: &mut [Inbox<'_>]) -> Result<(), DistError> {
        self.exchange(Kind::AllToAll, send, receive)
    }

    fn all_gather(&self, mine: &[u8], receive: &mut [Inbox<'_>]) -> Result<(), DistError> {
        self.exchange(Kind::AllGather, &vec![mine; self.link.size()], receive)
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<(), DistError> {
        let (here, size) = (self.link.rank(), self.link.size());
        if root >= size {
            let expected = format!("below {size}");
            return Err(DistError::Argument { what: "root".to_owned(), found: root.to_string(), expected });
        }
        let (mut inboxes, mut nothing) = (Vec::new(), Vec::new());
        nothing.resize_with(size, Vec::new);
        if here == root {
            inboxes.extend(nothing.iter_mut().map(Inbox::Any));
            inboxes[here] = Inbox::Own;
            return self.exchange(Kind::Broadcast, &vec![bytes.as_slice(); size], &mut inboxes);
        }
        inboxes.extend(nothing.iter_mut().map(Inbox::Any));
        inboxes[here] = Inbox::Own;
        inboxes[root] = Inbox::Any(bytes);
        self.exchange(Kind::Broadcast, &vec![&[][..]; size], &mut inboxes)
    }

    fn barrier(&self) -> Result<(), DistError> {
        self.roll_call(&mut lock(&self.state), Kind::Barrier, |_| 0).map(|_| ())
    }

    fn abort(&self, code: i32) {
        self.link.abort(code);
    }

    fn finish(&self) -> Result<(), DistError> {
        self.barrier()?;
        lock(&self.state).finished = true;
        Ok(())
    }
}

impl<L: Link> Drop for Messenger<L> {
    fn drop(&mut self) {
        if lock(&self.state).finished {
            self.link.close(self.deadline);
        } else {
            self.link.fatal(&DistError::Unfinished { here: self.link.rank() });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Letter, NOTE};

    /// Nobody is at the other end.
    struct Silence(Mutex<Vec<Kind>>);

    impl Link for &Silence {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            2
        }

        fn tell(&self, _to: usize, note: &[u8; NOTE]) {
            lock(&self.0).push(Note::decode(note).kind);
        }

        fn hear(&self) -> Result<Option<Letter>, (usize, i32)> {
            Ok(None)
        }

        fn transfer(
            &self,
            _sends: &[(usize, &[u8])],
            _receives: Vec<(usize, &mut [u8])>,
            _watch: &mut Watch<'_>,
        ) -> Result<(), DistError> {
            Ok(())
        }

        fn rest(&self, nap: Duration) {
            std::thread::sleep(nap);
        }

        fn fatal(&self, _error: &DistError) {}

        fn abort(&self, _code: i32) {}

        fn close(&self, _deadline: Duration) {}
    }

    #[test]
    fn a_waiting_rank_is_not_silent_to_those_that_wait_for_it() {
        let silence = Silence(Mutex::default());
        let world = Messenger::new(&silence, Duration::from_millis(400));
        assert!(matches!(world.barrier(), Err(DistError::Late { ranks, .. }) if ranks == [1]));
        let told = lock(&silence.0).clone();
        assert_eq!(told[0], Kind::Barrier);
        let beats = &told[1..];
        assert!((1..=8).contains(&beats.len()) && beats.iter().all(|kind| *kind == Kind::Heartbeat), "{told:?}");
    }
}
