//! The status of a call.

use http::{HeaderMap, StatusCode};

use crate::http::exchange::Outcome;

/// The name of each status code, by number: <https://grpc.io/docs/guides/status-codes/>.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) const OK: &str = NAMES[0];
/// The server could not be reached.
const UNAVAILABLE: &str = NAMES[14];
pub(super) const CANCELLED: &str = NAMES[1];
pub(super) const UNKNOWN: &str = NAMES[2];
pub(super) const UNIMPLEMENTED: &str = NAMES[12];

/// Returns the status in the trailers, or in the head of a response without messages.
pub(super) fn of(headers: &HeaderMap) -> Option<&'static str> {
    let code = headers.get("grpc-status")?.to_str().ok()?;
    let code: usize = code.parse().ok()?;
    Some(NAMES.get(code).copied().unwrap_or(UNKNOWN))
}

/// Returns the status of a call that ended, which may have received none.
pub(super) fn at_end(
    received: Option<&'static str>,
    http: Option<StatusCode>,
    outcome: Outcome<'_>,
) -> &'static str {
    match (outcome, received) {
        // Its messages are incomplete, whatever the head said.
        (Outcome::Failed(_), _) if http.is_some() => UNKNOWN,
        (Outcome::Failed(_), _) => UNAVAILABLE,
        (_, Some(received)) => received,
        (Outcome::Cancelled, None) => CANCELLED,
        (Outcome::Panicked, None) => UNKNOWN,
        (Outcome::Completed, None) => of_http(http),
    }
}

/// Returns the status that stands for a status of HTTP:
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn of_http(status: Option<StatusCode>) -> &'static str {
    let code = match status.map(|status| status.as_u16()) {
        Some(400) => 13,
        Some(401) => 16,
        Some(403) => 7,
        Some(404) => 12,
        Some(429 | 502 | 503 | 504) => 14,
        _ => 2,
    };
    NAMES[code]
}

/// Whether a status is a failure of the server, by convention. The others are failures of its
/// client.
pub(super) fn is_server_failure(status: &str) -> bool {
    const FAILURES: [usize; 6] = [2, 4, 12, 13, 14, 15];
    FAILURES.iter().any(|&code| NAMES[code] == status)
}
