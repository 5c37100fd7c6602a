//! Query strings and other texts without the values that look like secrets.

use std::borrow::Cow;

/// What the convention says instead of a value.
const REDACTED: &str = "REDACTED";

/// A parameter is secret when its name contains one of these words, in any case.
///
/// The convention names `AWSAccessKeyId`, `Signature`, `sig` and `X-Goog-Signature`
/// (<https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/>); these words cover them
/// and what people call a secret.
#[cfg(any(feature = "axum", feature = "reqwest"))]
const SECRETS: [&str; 9] = [
    "auth",
    "code",
    "credential",
    "key",
    "pass",
    "pwd",
    "secret",
    "sig",
    "token",
];

/// `query` with the values of secret parameters replaced.
#[cfg(any(feature = "axum", feature = "reqwest"))]
pub(crate) fn query(query: &str) -> Cow<'_, str> {
    let is_secret = |pair: &str| {
        let name = pair
            .split('=')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        SECRETS.iter().any(|word| name.contains(word))
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(pair) => Cow::Owned(format!("{name}={REDACTED}")),
        _ => Cow::Borrowed(pair),
    });
    Cow::Owned(pairs.collect::<Vec<_>>().join("&"))
}

/// A text of any kind without the credentials of the URLs in it.
#[cfg(feature = "sentry")]
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    const SCHEME: &str = "://";
    let Some(first) = text.find(SCHEME) else {
        return Cow::Borrowed(text);
    };
    let (mut clean, rest) = (text[..first].to_owned(), &text[first + SCHEME.len()..]);
    for after in rest.split(SCHEME) {
        // What ends a URL in a text; a password may hold a slash.
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>()".contains(c));
        let url = &after[..end.unwrap_or(after.len())];
        let at = url.rfind('@').unwrap_or_default();
        clean.push_str(SCHEME);
        if at > 0 {
            clean.push_str(REDACTED);
        }
        clean.push_str(&after[at..]);
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(feature = "axum", feature = "reqwest"))]
    fn secret_values_are_replaced_and_the_rest_is_left() {
        assert_eq!(query("limit=3&after=7"), "limit=3&after=7");
        assert_eq!(query("a=1&Token=x=y&b"), "a=1&Token=REDACTED&b");
        assert_eq!(
            query("X-Goog-Signature=f00&sig=1"),
            "X-Goog-Signature=REDACTED&sig=REDACTED"
        );
        assert_eq!(
            query("api_key=1&PASSWORD="),
            "api_key=REDACTED&PASSWORD=REDACTED"
        );
        assert_eq!(query(""), "");
    }

    #[test]
    #[cfg(feature = "sentry")]
    fn credentials_of_every_url_are_replaced() {
        assert_eq!(text("no URL"), "no URL");
        assert_eq!(text("at http://a/b?c=d@e"), "at http://REDACTED@e");
        let both = "asked http://a/ of postgres://u:p/s@s@db:5432/books (x@y)";
        let clean = "asked http://a/ of postgres://REDACTED@db:5432/books (x@y)";
        assert_eq!(text(both), clean);
        assert_eq!(
            text("'amqp://u:p@h', http://u:p@h"),
            "'amqp://REDACTED@h', http://REDACTED@h"
        );
    }
}
