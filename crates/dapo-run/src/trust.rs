//! What is believed without a hash.

/// Whether what a checkpoint or a settings file says of itself must be there. What is there is checked in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// A checkpoint without a manifest is refused, and so is a settings file without its hash.
    #[default]
    Verified,
    /// They are accepted: those of older versions have none.
    Unverified,
}
