//! How replies are told apart: [`ReplyId`].

/// Whether a reply must say which request it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyId {
    Required,
    Optional,
}
