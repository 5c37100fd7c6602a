//! Fault rules: their fields and their validation.

use book_events::BOOK_EVENTS;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use service_common::fault_injection::{FaultKind, PROCESS};
use utoipa::ToSchema;

/// The HTTP methods that a rule may match.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// The maximum length of a pattern or message, in characters.
const MAX_TEXT: usize = 500;

/// The content of a fault rule: which requests or messages fail, how, how often and until when.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Fault {
    /// A route in axum's syntax, such as `/books/{id}`. For the method `PROCESS`, a topic.
    #[schema(max_length = 500)]
    pub(super) endpoint_pattern: String,
    /// GET, POST, PUT, PATCH or DELETE. For messages, PROCESS.
    #[schema(max_length = 500)]
    pub(super) http_method: String,
    /// Probability of the fault, from 0 (never) to 1 (always).
    #[schema(minimum = 0, maximum = 1)]
    pub(super) error_rate: f64,
    /// HTTP status code of an error, from 400 to 599.
    #[serde(default)]
    #[schema(minimum = 400, maximum = 599)]
    pub(super) error_code: Option<i32>,
    /// Message of an error or a panic.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub(super) error_message: Option<String>,
    #[serde(default)]
    #[schema(default = "error")]
    pub(super) kind: FaultKind,
    /// Added latency, from 1 to 60000 milliseconds.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 60000)]
    pub(super) latency_ms: Option<i32>,
    /// Time at which the rule ends.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) ends_at: Option<Timestamp>,
    /// Service to which the rule applies: bookapp or backend.
    #[serde(default = "bookapp")]
    #[schema(default = "bookapp", max_length = 500)]
    pub(super) service: String,
}

fn bookapp() -> String {
    "bookapp".to_owned()
}

/// A fault rule with its id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FaultRule {
    pub(super) id: i32,
    #[serde(flatten)]
    pub(super) fault: Fault,
}

/// The reason why a fault rule is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct InvalidFault {
    field: &'static str,
    reason: &'static str,
}

impl Fault {
    /// Validates the rule. Converts `/books/:id`, the syntax of axum before 0.8, to axum's
    /// `/books/{id}`.
    pub(super) fn validated(mut self) -> Result<Self, InvalidFault> {
        let invalid = |field, reason| Err(InvalidFault { field, reason });
        if !["bookapp", "backend"].contains(&&*self.service) {
            return invalid("service", "must be bookapp or backend");
        }
        self.http_method.make_ascii_uppercase();
        let is_message = self.http_method == PROCESS;
        if !is_message && !METHODS.contains(&&*self.http_method) {
            return invalid(
                "http_method",
                "must be GET, POST, PUT, PATCH, DELETE or PROCESS",
            );
        }
        if is_message && self.service != "backend" {
            return invalid("service", "must be backend for the method PROCESS");
        }
        self.endpoint_pattern = if is_message {
            self.endpoint_pattern
        } else {
            to_axum_syntax(&self.endpoint_pattern)
        };
        if is_message && self.endpoint_pattern != BOOK_EVENTS {
            return invalid("endpoint_pattern", "must be the topic book.events.v1");
        }
        if !is_message && !self.endpoint_pattern.starts_with('/') {
            return invalid("endpoint_pattern", "must begin with /");
        }
        let texts = [Some(&self.endpoint_pattern), self.error_message.as_ref()];
        let is_bad = |text: &&String| text.chars().count() > MAX_TEXT || text.contains('\0');
        if texts.into_iter().flatten().any(|text| is_bad(&text)) {
            return invalid(
                "endpoint_pattern, error_message",
                "must have at most 500 characters and no character NUL",
            );
        }
        if !(0.0..=1.0).contains(&self.error_rate) {
            return invalid("error_rate", "must be from 0 to 1");
        }
        match (self.kind, self.error_code, self.latency_ms) {
            (FaultKind::Error, None, _) => invalid("error_code", "is required for the kind error"),
            (_, Some(code), _) if !(400..=599).contains(&code) => {
                invalid("error_code", "must be from 400 to 599")
            }
            (FaultKind::Latency, _, None) => {
                invalid("latency_ms", "is required for the kind latency")
            }
            (_, _, Some(latency)) if !(1..=60_000).contains(&latency) => {
                invalid("latency_ms", "must be from 1 to 60000")
            }
            _ => Ok(self),
        }
    }
}

/// Converts `/books/:id` to `/books/{id}`.
fn to_axum_syntax(pattern: &str) -> String {
    let segment = |segment: &str| match segment.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    };
    let segments: Vec<_> = pattern.split('/').map(segment).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_predecessor_s_patterns_are_understood() {
        assert_eq!(to_axum_syntax("/books/:id/details"), "/books/{id}/details");
        assert_eq!(to_axum_syntax("/books/{id}"), "/books/{id}");
    }
}
