//! Addresses of servers, and what of them may be shown.

use ureq::http::Uri;

/// Whether this is an address that a request can be sent to.
pub(crate) fn is_valid(url: &str) -> bool {
    let is_http = url.starts_with("http://") || url.starts_with("https://");
    is_http && url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

/// Whether the address holds a user or a password.
pub(crate) fn has_user(url: &str) -> bool {
    authority(url).is_some_and(|(_, authority, _)| authority.contains('@'))
}

/// Parameters of a query that hold no secret: Azure's version.
const PLAIN: [&str; 2] = ["api-version", "version"];

/// Whether the address holds a query or fragment in which there may be a secret.
pub(crate) fn has_query(url: &str) -> bool {
    let (_, fragment) = url.split_once('#').unzip();
    let (_, query) = url.split_once('?').unzip();
    let query = query.map_or("", |query| query.split('#').next().unwrap_or_default());
    let is_plain = |pair: &str| PLAIN.contains(&pair.split('=').next().unwrap_or_default());
    fragment.is_some() || !query.split('&').all(|pair| pair.is_empty() || is_plain(pair))
}

/// The address with a further part at the end of its path, unless it is there.
pub(crate) fn with_path(url: &str, path: &str) -> String {
    let (base, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    let base = base.trim_end_matches('/');
    if base.ends_with(path) { format!("{base}{query}") } else { format!("{base}{path}{query}") }
}

/// The address without what may be secret: user, password, query and fragment.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, authority, path)) = authority(url) else {
        // What is no address may still hold a password.
        return format!(
            "{:?}",
            url.rsplit('@').next().unwrap_or_default().split(['?', '#']).next().unwrap_or_default()
        );
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let user = if authority.contains('@') { "***@" } else { "" };
    format!("{scheme}://{user}{host}{}", path.split(['?', '#']).next().unwrap_or_default())
}

/// Scheme, authority, and the rest.
fn authority(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, expected) in [
            ("http://me:secret@host:8000/score?key=secret#secret", "http://***@host:8000/score"),
            ("https://secret@host", "https://***@host"),
            ("http://host/a@b", "http://host/a@b"),
            ("http://host?secret", "http://host"),
            ("http://a:se@cret@host/", "http://***@host/"),
            ("me:secret@host", "\"host\""),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn addresses_are_told_from_other_texts() {
        assert!(is_valid("http://localhost:8000/score") && is_valid("https://a.b/?c=d"));
        for url in ["", "localhost:8000", "ftp://host/", "http://", "http:///path", "http://a b/"] {
            assert!(!is_valid(url), "{url}");
        }
        assert!(has_user("http://a@b/") && !has_user("http://b/@"));
    }

    #[test]
    fn queries_may_name_a_version_alone() {
        for url in ["http://a/", "http://a/?", "http://a/b?api-version=1", "http://a?version=2&api-version=1"] {
            assert!(!has_query(url), "{url}");
        }
        for url in
            ["http://a/?key=1", "http://a?token", "http://a/?version=1&k=2", "http://a/#x", "http://a/?version=1#x"]
        {
            assert!(has_query(url), "{url}");
        }
    }

    #[test]
    fn a_path_is_added_before_the_query() {
        let added = |url| with_path(url, "/chat/completions");
        for url in ["http://a/v1", "http://a/v1/", "http://a/v1/chat/completions", "http://a/v1/chat/completions/"] {
            assert_eq!(added(url), "http://a/v1/chat/completions");
        }
        assert_eq!(added("http://a?version=1"), "http://a/chat/completions?version=1");
    }
}
