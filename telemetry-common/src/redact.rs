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

/// A text of any kind without the password of a URL in it.
#[cfg(feature = "sentry")]
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let credentials = text.find("://").and_then(|scheme| {
        let from = scheme + "://".len();
        let end = text[from..].find(|c: char| c == '/' || c.is_whitespace());
        let end = end.map_or(text.len(), |end| from + end);
        let at = text[from..end].rfind('@')?;
        Some((from, from + at))
    });
    match credentials {
        None => Cow::Borrowed(text),
        Some((from, at)) => Cow::Owned(format!("{}{REDACTED}{}", &text[..from], &text[at..])),
    }
}

#[cfg(all(test, any(feature = "axum", feature = "reqwest")))]
mod tests {
    use super::*;

    #[test]
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
}
