//! The settings of the environment, read as `huggingface_hub` reads them.

use crate::client::{Hub, Network};
use crate::error::HubError;
use dapo_files::read_text;
use std::ffi::OsString;
use std::path::PathBuf;

impl Hub {
    /// The hub that the environment names.
    ///
    /// - `HF_ENDPOINT`: its address, `https://huggingface.co` by default.
    /// - `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else the file `token` of `HF_HOME`: the access token.
    /// - `HF_HUB_CACHE`, else `hub` in `HF_HOME`: the cache; `HF_HOME` is `huggingface` in `XDG_CACHE_HOME` or `~/.cache` by
    ///   default.
    /// - `HF_HUB_OFFLINE`: `1`, `true`, `yes` or `on` for [`Network::Offline`].
    ///
    /// Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// When the address is malformed, or no variable and no home folder says where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        from_variables(&|name| std::env::var_os(name), std::env::home_dir())
    }
}

fn from_variables(get: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<Hub, HubError> {
    let path = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let text = |name| get(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty());
    let cache_home = path("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
    let hf_home = path("HF_HOME").or_else(|| Some(cache_home?.join("huggingface")));
    let cache = path("HF_HUB_CACHE").or_else(|| Some(hf_home.as_ref()?.join("hub")));
    let cache = cache.ok_or_else(|| HubError::setting("HF_HOME", "", "a folder, as there is no home folder"))?;
    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
    let mut hub = Hub::new(&endpoint, &cache)?;
    let token_file = path("HF_TOKEN_PATH").or_else(|| Some(hf_home?.join("token")));
    let token = text("HF_TOKEN").or_else(|| read_text(&token_file?).ok());
    hub.token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    if text("HF_HUB_OFFLINE").is_some_and(|value| ["1", "true", "yes", "on"].contains(&&*value.to_ascii_lowercase())) {
        hub.network = Network::Offline;
    }
    Ok(hub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn hub(variables: &[(&str, &str)], home: Option<&str>) -> Result<Hub, HubError> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        from_variables(&get, home.map(PathBuf::from))
    }

    #[test]
    fn the_environment_says_where_things_are() {
        let plain = hub(&[], Some("/home/a")).unwrap();
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache, Path::new("/home/a/.cache/huggingface/hub"));
        assert_eq!((plain.token, plain.network), (None, Network::Online));
        let cache = |variables: &[(&str, &str)]| hub(variables, Some("/home/a")).unwrap().cache;
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert!(hub(&[], None).unwrap_err().to_string().starts_with("HF_HOME is \"\", expected a folder"));
    }

    #[test]
    fn the_environment_says_who_asks_and_whether() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("token"), "from-home\n").unwrap();
        std::fs::write(dir.path().join("other"), "from-path\n").unwrap();
        let other = dir.path().join("other");
        let token = |variables: &[(&str, &str)]| hub(variables, None).unwrap().token;
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("from-home"));
        let path = ("HF_TOKEN_PATH", other.to_str().unwrap());
        assert_eq!(token(&[("HF_HOME", home), path]).as_deref(), Some("from-path"));
        assert_eq!(token(&[("HF_HOME", home), path, ("HF_TOKEN", "direct")]).as_deref(), Some("direct"));
        let mirror =
            hub(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "YES")], None).unwrap();
        assert_eq!((mirror.endpoint.as_str(), mirror.network), ("http://mirror", Network::Offline));
        assert!(!format!("{mirror:?}").contains("from-home"));
        let error = hub(&[("HF_HOME", home), ("HF_ENDPOINT", "mirror")], None).unwrap_err().to_string();
        assert_eq!(error, "endpoint is \"mirror\", expected an address that begins with https:// or http://");
    }
}
