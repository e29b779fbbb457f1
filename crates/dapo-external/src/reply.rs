//! Which request a reply belongs to: [`ReplyId`].

/// Whether a reply must say which request it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyId {
    Required,
    Optional,
}
