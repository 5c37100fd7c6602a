//! The status of a call.

use http::HeaderMap;

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
pub(super) const CANCELLED: &str = NAMES[1];
pub(super) const UNKNOWN: &str = NAMES[2];
pub(super) const UNIMPLEMENTED: &str = NAMES[12];

/// Returns the status in the trailers, or in the head of a response without messages.
pub(super) fn of(headers: &HeaderMap) -> Option<&'static str> {
    let code = headers.get("grpc-status")?.to_str().ok()?;
    let code: usize = code.parse().ok()?;
    Some(NAMES.get(code).copied().unwrap_or(UNKNOWN))
}

/// Whether a status is a failure of the server, by convention. The others are failures of its
/// client.
pub(super) fn is_server_failure(status: &str) -> bool {
    const FAILURES: [usize; 6] = [2, 4, 12, 13, 14, 15];
    FAILURES.iter().any(|&code| NAMES[code] == status)
}
