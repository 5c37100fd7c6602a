//! What to show.

use regex::bytes::{Regex, RegexBuilder};

use super::ids::TraceId;

/// Selects traces. What is `None` accepts all.
#[derive(Debug)]
pub(crate) struct TraceFilter {
    /// Traces with a span of this service.
    pub(crate) service: Option<String>,
    /// Traces with a span of this route.
    pub(crate) route: Option<String>,
    /// Traces with a failed span, or those without one.
    pub(crate) failed: Option<bool>,
    /// The minimum and maximum duration in milliseconds.
    pub(crate) min_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    pub(crate) text: Option<Text>,
    /// The maximum number of traces.
    pub(crate) limit: usize,
}

impl TraceFilter {
    pub(super) fn accepts_duration(&self, duration_ms: f64) -> bool {
        self.min_ms.is_none_or(|min| duration_ms >= min)
            && self.max_ms.is_none_or(|max| duration_ms <= max)
    }
}

/// Whether one of the values is the wanted one, or all are.
pub(super) fn is_wanted<'v>(
    wanted: Option<&String>,
    mut values: impl Iterator<Item = &'v str>,
) -> bool {
    wanted.is_none_or(|wanted| values.any(|value| value == wanted))
}

/// Selects log records. What is `None` accepts all.
#[derive(Debug)]
pub(crate) struct LogFilter {
    pub(crate) service: Option<String>,
    /// The minimum severity number, such as 13 for WARN.
    pub(crate) min_severity: i32,
    pub(crate) trace: Option<TraceId>,
    pub(crate) text: Option<Text>,
    /// The maximum number of log records.
    pub(crate) limit: usize,
}

/// A text to look for, in upper or lower case.
#[derive(Debug)]
pub(crate) struct Text {
    pattern: Regex,
    id: Option<TraceId>,
}

impl Text {
    /// Returns the text, or `None` if it is empty. Fails if it is too long.
    pub(crate) fn new(text: &str) -> Result<Option<Self>, regex::Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut pattern = RegexBuilder::new(&regex::escape(text));
        Ok(Some(Self {
            pattern: pattern.case_insensitive(true).build()?,
            id: TraceId::parse(text),
        }))
    }

    /// Whether the text is the id of this trace.
    pub(super) fn is_id(&self, trace: TraceId) -> bool {
        self.id == Some(trace)
    }

    /// Whether an encoded message contains the text, in a name, a key or a text value.
    pub(super) fn is_in(&self, encoded: &[u8]) -> bool {
        self.pattern.is_match(encoded)
    }
}
