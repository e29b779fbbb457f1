//! How hubs are connected to: the HTTP agent, and credentials within addresses.

use percent_encoding::percent_decode_str;
use std::time::Duration;
use ureq::Agent;

pub(super) fn agent() -> Agent {
    let wait = Some(Duration::from_mins(1));
    Agent::config_builder()
        .user_agent(concat!("dapo-hub/", env!("CARGO_PKG_VERSION")))
        // Sizes and hashes are those of the file itself.
        .accept_encoding("identity")
        // Followed here: the first answer has the hash, and no other host gets the token.
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(wait)
        .timeout_recv_response(wait)
        .timeout_per_read(wait)
        .build()
        .new_agent()
}

/// An address without the user name and password before its host, and those.
pub(super) fn split_credentials(url: &str) -> (String, Option<String>) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let Some(at) = url[start..end].rfind('@') else { return (url.to_owned(), None) };
    let credentials = percent_decode_str(&url[start..start + at]).decode_utf8_lossy().into_owned();
    (format!("{}{}", &url[..start], &url[start + at + 1..]), Some(credentials))
}

#[cfg(test)]
mod tests {
    use super::split_credentials;

    #[test]
    fn credentials_are_taken_out_of_addresses() {
        for (url, plain, credentials) in [
            ("http://host", "http://host", None),
            ("http://host/a@b", "http://host/a@b", None),
            ("https://user:secret@host:8080/x?y=@", "https://host:8080/x?y=@", Some("user:secret")),
            ("https://us%40er:p%3A@ss@host", "https://host", Some("us@er:p:@ss")),
            ("user:secret@host", "host", Some("user:secret")),
        ] {
            assert_eq!(split_credentials(url), (plain.to_owned(), credentials.map(str::to_owned)));
        }
    }
}
