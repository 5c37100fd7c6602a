//! Redaction of secrets in query strings, in fields and in other text.

#[cfg(any(feature = "http", feature = "sentry"))]
use std::borrow::Cow;

/// The replacement for a secret, as the convention for `url.full` requires.
pub(crate) const REDACTED: &str = "REDACTED";

/// A parameter is secret if its name contains one of these words, ignoring case.
///
/// The convention requires `AWSAccessKeyId`, `Signature`, `sig` and `X-Goog-Signature`:
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/>. These words include them
/// and the usual names of secrets.
#[cfg(feature = "http")]
const SECRETS: [&str; 22] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "auth",
    "authorization",
    "clientsecret",
    "code",
    "credential",
    "credentials",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "refreshtoken",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "tokens",
];

/// Whether the name of a parameter, such as `X-Goog-Signature` or `apiKey`, contains a secret word.
///
/// A word ends at punctuation, and before an uppercase letter that follows a lowercase letter. So
/// `author`, `monkey` and `postcode` contain none.
#[cfg(feature = "http")]
fn is_secret(name: &str) -> bool {
    let is_secret_word = |word: &str| SECRETS.iter().any(|it| it.eq_ignore_ascii_case(word));
    let (mut start, mut after_lowercase) = (0, false);
    for (index, c) in name.char_indices() {
        let is_punctuation = !c.is_alphanumeric();
        if is_punctuation || (after_lowercase && c.is_uppercase()) {
            if is_secret_word(&name[start..index]) {
                return true;
            }
            start = if is_punctuation {
                index + c.len_utf8()
            } else {
                index
            };
        }
        after_lowercase = c.is_lowercase();
    }
    is_secret_word(&name[start..])
}

/// Whether the value of a field with this name, such as `user.password`, is a secret: whether a word
/// of the name is one of these, in lower case, or its last words are `api_key` and the like.
///
/// The words of parameters would redact too much: `http.response.status_code` and
/// `messaging.kafka.message.key` are no secrets. It runs for every field, so it works on bytes.
pub(crate) fn is_secret_field(name: &str) -> bool {
    let mut words = name
        .as_bytes()
        .split(|byte| matches!(byte, b'.' | b'_' | b'-'));
    let has_secret_word = words.any(|word| {
        matches!(
            word,
            b"apikey"
                | b"authorization"
                | b"cookie"
                | b"credential"
                | b"credentials"
                | b"passphrase"
                | b"passwd"
                | b"password"
                | b"secret"
                | b"token"
        )
    });
    let key = name.strip_suffix("_key");
    let is_secret_key = |key: &str| {
        ["access", "api", "private"]
            .iter()
            .any(|it| key.ends_with(it))
    };
    has_secret_word || key.is_some_and(is_secret_key)
}

/// Returns `query` with the values of secret parameters replaced by `REDACTED`.
#[cfg(feature = "http")]
pub(crate) fn query(query: &str) -> Cow<'_, str> {
    let is_secret = |pair: &str| is_secret(pair.split('=').next().unwrap_or_default());
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(pair) => Cow::Owned(format!("{name}={REDACTED}")),
        _ => Cow::Borrowed(pair),
    });
    Cow::Owned(pairs.collect::<Vec<_>>().join("&"))
}

/// Returns `text` with the credentials of all URLs in it replaced by `REDACTED`.
#[cfg(feature = "sentry")]
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    const SCHEME: &str = "://";
    let Some(first) = text.find(SCHEME) else {
        return Cow::Borrowed(text);
    };
    let (mut clean, rest) = (text[..first].to_owned(), &text[first + SCHEME.len()..]);
    for after in rest.split(SCHEME) {
        // These characters end a URL. A slash does not, because a password may contain it.
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
    #[cfg(feature = "http")]
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
        let harmless = "author=Austen&monkey=1&postcode=2&keyword=3&design=4";
        assert_eq!(query(harmless), harmless);
        assert_eq!(
            query("AWSAccessKeyId=a&access_token=b&apiKey=c&Authorization=d"),
            "AWSAccessKeyId=REDACTED&access_token=REDACTED&apiKey=REDACTED&Authorization=REDACTED"
        );
    }

    #[test]
    fn a_field_is_secret_by_a_word_of_its_name() {
        for secret in [
            "authorization",
            "http.request.header.authorization",
            "user.password",
            "session_token",
            "aws.access_key",
            "set-cookie",
        ] {
            assert!(is_secret_field(secret), "{secret}");
        }
        for harmless in [
            "http.response.status_code",
            "messaging.kafka.message.key",
            "gen_ai.usage.input_tokens",
            "author",
            "",
        ] {
            assert!(!is_secret_field(harmless), "{harmless}");
        }
    }

    #[test]
    #[cfg(feature = "sentry")]
    fn credentials_of_every_url_are_replaced() {
        assert_eq!(text("no URL"), "no URL");
        assert_eq!(text("at http://a/b?c=d@e"), "at http://REDACTED@e");
        let both = "read http://a/ from postgres://u:p/s@s@db:5432/books (x@y)";
        let clean = "read http://a/ from postgres://REDACTED@db:5432/books (x@y)";
        assert_eq!(text(both), clean);
        assert_eq!(
            text("'amqp://u:p@h', http://u:p@h"),
            "'amqp://REDACTED@h', http://REDACTED@h"
        );
    }
}
