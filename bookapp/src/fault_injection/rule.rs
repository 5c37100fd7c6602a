//! Fault rules: their fields, what is valid, and the routes they name.

use book_events::BOOK_ADDED;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use service_common::fault_injection::{FaultKind, PROCESS};
use utoipa::ToSchema;

/// The methods a rule may name.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// The longest pattern or message, in characters.
const MAX_TEXT: usize = 500;

/// Which requests or messages fail, how often, how, until when.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Fault {
    /// A route as axum writes it, `/books/{id}`; or, with the method `PROCESS`, a topic.
    #[schema(max_length = 500)]
    pub(super) endpoint_pattern: String,
    /// GET, POST, PUT, PATCH, DELETE; or PROCESS.
    #[schema(max_length = 500)]
    pub(super) http_method: String,
    /// How often, from 0 (never) to 1 (always).
    #[schema(minimum = 0, maximum = 1)]
    pub(super) error_rate: f64,
    /// The status of an error, from 400 to 599.
    #[serde(default)]
    #[schema(minimum = 400, maximum = 599)]
    pub(super) error_code: Option<i32>,
    /// What an error or a panic says.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub(super) error_message: Option<String>,
    #[serde(default)]
    #[schema(default = "error")]
    pub(super) kind: FaultKind,
    /// How long a latency is, from 1 to 60000 milliseconds.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 60000)]
    pub(super) latency_ms: Option<i32>,
    /// When it is over.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) ends_at: Option<Timestamp>,
    /// bookapp or backend.
    #[serde(default = "bookapp")]
    #[schema(default = "bookapp", max_length = 500)]
    pub(super) service: String,
}

fn bookapp() -> String {
    "bookapp".to_owned()
}

/// A rule, and its number.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FaultRule {
    pub(super) id: i32,
    #[serde(flatten)]
    pub(super) fault: Fault,
}

/// Why something is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub(crate) struct InvalidFault {
    field: &'static str,
    why: &'static str,
}

impl Fault {
    /// The rule as it is stored: the predecessor's `/books/:id` in axum's words.
    pub(super) fn validated(mut self) -> Result<Self, InvalidFault> {
        let no = |field, why| Err(InvalidFault { field, why });
        if !["bookapp", "backend"].contains(&&*self.service) {
            return no("service", "must be bookapp or backend");
        }
        self.http_method.make_ascii_uppercase();
        let is_message = self.http_method == PROCESS;
        if !is_message && !METHODS.contains(&&*self.http_method) {
            return no(
                "http_method",
                "must be GET, POST, PUT, PATCH, DELETE or PROCESS",
            );
        }
        if is_message && self.service != "backend" {
            return no("service", "messages are processed by backend");
        }
        self.endpoint_pattern = if is_message {
            self.endpoint_pattern
        } else {
            in_axum_s_words(&self.endpoint_pattern)
        };
        if is_message && self.endpoint_pattern != BOOK_ADDED {
            return no("endpoint_pattern", "must be the topic book.added.v1");
        }
        if !is_message && !self.endpoint_pattern.starts_with('/') {
            return no("endpoint_pattern", "must begin with /");
        }
        let texts = [Some(&self.endpoint_pattern), self.error_message.as_ref()];
        let is_bad = |text: &&String| text.chars().count() > MAX_TEXT || text.contains('\0');
        if texts.into_iter().flatten().any(|text| is_bad(&text)) {
            return no(
                "endpoint_pattern, error_message",
                "at most 500 characters, without NUL",
            );
        }
        if !(0.0..=1.0).contains(&self.error_rate) {
            return no("error_rate", "must be from 0 to 1");
        }
        match (self.kind, self.error_code, self.latency_ms) {
            (FaultKind::Error, None, _) => no("error_code", "an error needs one"),
            (_, Some(code), _) if !(400..=599).contains(&code) => {
                no("error_code", "must be from 400 to 599")
            }
            (FaultKind::Latency, _, None) => no("latency_ms", "a latency needs it"),
            (_, _, Some(latency)) if !(1..=60_000).contains(&latency) => {
                no("latency_ms", "must be from 1 to 60000")
            }
            _ => Ok(self),
        }
    }
}

/// `/books/:id` as `/books/{id}`.
fn in_axum_s_words(pattern: &str) -> String {
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
        assert_eq!(in_axum_s_words("/books/:id/details"), "/books/{id}/details");
        assert_eq!(in_axum_s_words("/books/{id}"), "/books/{id}");
    }
}
