//! A world of one.

use crate::{
    error::{DistError, Place},
    world::{Inbox, World},
};

/// One rank. Operations copy where they must, and nothing waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl World for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn phase(&self, _label: &str) {}

    fn heartbeat(&self) {}

    fn all_to_all(&self, send: &[&[u8]], receive: &mut [Inbox<'_>]) -> Result<(), DistError> {
        let ([message], [inbox]) = (send, receive) else {
            let (what, expected) = ("the number of messages or inboxes".to_owned(), "1, one per rank".to_owned());
            return Err(DistError::Argument { what, found: send.len().to_string(), expected });
        };
        match inbox {
            Inbox::Own => {}
            Inbox::Any(room) => {
                room.clear();
                room.extend_from_slice(message);
            }
            Inbox::Exact(room) if room.len() == message.len() => room.copy_from_slice(message),
            Inbox::Exact(room) => {
                let place = Place { phase: String::new(), operation: "all-to-all", sequence: 0 };
                return Err(DistError::Length { rank: 0, found: message.len(), expected: room.len(), place });
            }
        }
        Ok(())
    }

    fn all_gather(&self, mine: &[u8], receive: &mut [Inbox<'_>]) -> Result<(), DistError> {
        self.all_to_all(&[mine], receive)
    }

    fn broadcast(&self, root: usize, _bytes: &mut Vec<u8>) -> Result<(), DistError> {
        if root == 0 {
            return Ok(());
        }
        let (what, expected) = ("root".to_owned(), "below 1".to_owned());
        Err(DistError::Argument { what, found: root.to_string(), expected })
    }

    fn barrier(&self) -> Result<(), DistError> {
        Ok(())
    }

    /// Ends the process.
    fn abort(&self, code: i32) {
        std::process::exit(code);
    }

    fn finish(&self) -> Result<(), DistError> {
        Ok(())
    }
}
