//! Which traces that link to each other are kept together.

use std::collections::{HashMap, HashSet};

use testbed::sink::Span;

/// The duration of a slow trace, as in the policies of the collector.
const SLOW_NANOSECONDS: u64 = 500_000_000;

/// The number of pairs of linked traces.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) kept: usize,
    pub(crate) dropped: usize,
    /// One is kept because of what happened in it, the other one is dropped.
    pub(crate) excused: usize,
    /// One is kept by the baseline, the other one is dropped.
    pub(crate) dangling: usize,
}

impl Pairs {
    /// Counts the pairs in `spans`, which are those before sampling. `kept` are the ids of the stored traces.
    pub(crate) fn of(spans: &[Span], kept: &HashSet<String>) -> Self {
        let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
        for span in spans {
            traces.entry(&span.trace_id).or_default().push(span);
        }
        let mut pairs = Self::default();
        for span in spans {
            for (linked, _) in &span.links {
                let Some((other, spans)) = traces.get_key_value(&**linked) else {
                    continue;
                };
                let own = &traces[&*span.trace_id];
                let counter = match (kept.contains(&span.trace_id), kept.contains(*other)) {
                    (true, true) => &mut pairs.kept,
                    (false, false) => &mut pairs.dropped,
                    // The trace of a batch is kept with one of its messages, without the others.
                    (false, true) if is_batch(spans) => &mut pairs.dropped,
                    _ if is_important(own) || is_important(spans) => &mut pairs.excused,
                    _ => &mut pairs.dangling,
                };
                *counter += 1;
            }
        }
        pairs
    }

    pub(crate) fn all(&self) -> usize {
        self.kept + self.dropped + self.excused + self.dangling
    }
}

fn is_batch(trace: &[&Span]) -> bool {
    trace.iter().any(|span| span.name.starts_with("receive "))
}

/// Whether a policy other than the baseline keeps this trace.
fn is_important(trace: &[&Span]) -> bool {
    let start = trace.iter().map(|span| span.start).min();
    let end = trace.iter().map(|span| span.end).max();
    let duration = end.unwrap_or_default() - start.unwrap_or_default();
    let reasons = [
        "bookapp.fault.type",
        "http.request.resend_count",
        "bookapp.debug",
    ];
    let has_reason = |span: &&Span| {
        span.status == "ERROR" || reasons.iter().any(|key| span.attributes.contains_key(*key))
    };
    duration >= SLOW_NANOSECONDS || trace.iter().any(has_reason)
}
