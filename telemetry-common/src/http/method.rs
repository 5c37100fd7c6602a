//! HTTP methods as low-cardinality values.
//!
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#common-attributes>

use std::{borrow::Cow, sync::OnceLock};

/// The value of `http.request.method` for a method that is not a known one.
pub(crate) const OTHER: &str = "_OTHER";

/// The known methods by default: those of RFC 9110, PATCH of RFC 5789, and QUERY.
const DEFAULT: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
];

static KNOWN: OnceLock<Vec<String>> = OnceLock::new();

/// Replaces the known methods by those of `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`. Call it once,
/// before the first request. Methods are case-sensitive.
pub(crate) fn set_known(methods: &[String]) {
    let methods = methods.iter().map(|method| method.trim().to_owned());
    let _ = KNOWN.set(methods.filter(|method| !method.is_empty()).collect());
}

/// Returns the known methods.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    let known = KNOWN.get_or_init(|| DEFAULT.map(str::to_owned).to_vec());
    known.iter().map(String::as_str)
}

/// Returns `method` if it is a known one, else `_OTHER`, so that clients cannot add values.
pub(crate) fn known(method: &str) -> &'static str {
    all().find(|known| *known == method).unwrap_or(OTHER)
}

/// Returns the name of a span: the known method, and the route or the URL template if there is one.
/// By convention, `HTTP` stands for an unknown method.
pub(crate) fn span_name(method: &'static str, path: Option<&str>) -> Cow<'static, str> {
    let method = if method == OTHER { "HTTP" } else { method };
    match path {
        Some(path) => Cow::Owned([method, " ", path].concat()),
        None => Cow::Borrowed(method),
    }
}
