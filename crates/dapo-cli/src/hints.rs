//! Hints for arguments that are not what they should be.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A usage error; where a setting was given as a flag, with how settings are given.
pub(crate) fn with_hint(mut error: clap::Error) -> clap::Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => flag.clone(),
        _ => return error,
    };
    if let Some(key) = setting(&flag) {
        let hint = StyledStr::from(format!("settings are given as KEY=VALUE: {key}=VALUE"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint]));
    }
    error
}

/// The setting that a flag such as `--steps` or `--train.steps` names.
fn setting(flag: &str) -> Option<&'static str> {
    let name = flag.strip_prefix("--")?.replace('-', "_");
    let keys = || dapo_run::keys().iter().map(|key| key.path.as_str());
    let of_name = |key: &&str| key.rsplit('.').next() == Some(&*name);
    keys().find(|key| *key == name).or_else(|| keys().find(of_name))
}

#[cfg(test)]
mod tests {
    use super::setting;

    #[test]
    fn flags_that_are_settings_are_known() {
        assert_eq!(setting("--steps"), Some("train.steps"));
        assert_eq!(setting("--group-size"), Some("rollout.group_size"));
        assert_eq!(setting("--optimizer.lr"), Some("optimizer.lr"));
        assert_eq!((setting("--frobnicate"), setting("-x")), (None, None));
    }
}
