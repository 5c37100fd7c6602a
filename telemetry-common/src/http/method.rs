//! HTTP methods as low-cardinality values.
//!
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#common-attributes>

use std::sync::OnceLock;

/// The value of `http.request.method` for a method that is not a known one.
pub(crate) const OTHER: &str = "_OTHER";

/// The methods of RFC 9110, PATCH of RFC 5789 and QUERY.
const KNOWN: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
];

/// The methods of `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`, which replace the known methods.
static OVERRIDE: OnceLock<Vec<String>> = OnceLock::new();

/// Replaces the known methods, once for the process. Methods are case-sensitive.
pub(crate) fn set_known(methods: &[String]) {
    let methods = methods.iter().map(|method| method.trim().to_owned());
    let _ = OVERRIDE.set(methods.filter(|method| !method.is_empty()).collect());
}

/// Returns `method` if it is a known one, else `_OTHER`, so that clients cannot add values.
pub(crate) fn known(method: &str) -> &'static str {
    if let Some(methods) = OVERRIDE.get() {
        let mut methods = methods.iter().map(String::as_str);
        methods.find(|known| *known == method).unwrap_or(OTHER)
    } else {
        let mut methods = KNOWN.into_iter();
        methods.find(|known| *known == method).unwrap_or(OTHER)
    }
}
