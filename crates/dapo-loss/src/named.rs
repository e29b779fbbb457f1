//! Names of the variants of an enumeration, as files and messages spell them.

/// Implements `FromStr` and `Display` for a type by the names of its values.
macro_rules! named {
    ($type:ty, $kind:literal, $($name:literal => $value:expr),+) => {
        impl std::str::FromStr for $type {
            type Err = $crate::error::LossError;

            fn from_str(name: &str) -> Result<Self, $crate::error::LossError> {
                $crate::error::lookup($kind, name, &[$(($name, $value)),+])
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $(if *self == $value { return f.write_str($name); })+
                Ok(())
            }
        }
    };
}

pub(crate) use named;
