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
    /// A message is dropped. It links to the trace of its batch, which is kept with another message that links to it.
    pub(crate) of_batches: usize,
    /// One is kept by the baseline, the other one is dropped.
    pub(crate) torn: usize,
}

impl Pairs {
    /// Counts the pairs in `spans`, which are those before sampling. `kept` are the ids of the stored traces.
    pub(crate) fn of(spans: &[Span], kept: &HashSet<String>) -> Self {
        let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
        for span in spans {
            traces.entry(&span.trace_id).or_default().push(span);
        }
        let of_kept = spans.iter().filter(|span| kept.contains(&span.trace_id));
        let linked_by_kept: HashSet<_> = of_kept
            .flat_map(|span| span.links.iter().map(|(trace, _)| trace))
            .collect();
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
                    (true, false) if is_important(own) => &mut pairs.excused,
                    (false, true) if is_important(spans) => &mut pairs.excused,
                    (false, true) if is_batch(spans) && linked_by_kept.contains(linked) => {
                        &mut pairs.of_batches
                    }
                    _ => &mut pairs.torn,
                };
                *counter += 1;
            }
        }
        pairs
    }

    pub(crate) fn all(&self) -> usize {
        self.kept + self.dropped + self.excused + self.of_batches + self.torn
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

#[cfg(test)]
mod tests {
    use testbed::sink::{Attributes, Scope};

    use super::*;

    /// Returns a span that has a trace for itself, and links to the trace of another one.
    fn span(trace_id: &str, name: &str, status: &'static str, linked: &str) -> Span {
        Span {
            resource: Attributes::new(),
            trace_id: trace_id.to_owned(),
            span_id: trace_id.to_owned(),
            parent_id: None,
            name: name.to_owned(),
            kind: "CONSUMER",
            start: 0,
            end: 1,
            attributes: Attributes::new(),
            scope: Scope::default(),
            trace_state: String::new(),
            links: vec![(linked.to_owned(), linked.to_owned())],
            status,
        }
    }

    /// Returns the numbers of pairs, in the order of the fields.
    fn pairs(spans: &[Span], kept: &[&str]) -> [usize; 5] {
        let kept = kept.iter().map(|id| (*id).to_owned()).collect();
        let pairs = Pairs::of(spans, &kept);
        [
            pairs.kept,
            pairs.dropped,
            pairs.excused,
            pairs.of_batches,
            pairs.torn,
        ]
    }

    #[test]
    fn only_what_happened_in_the_kept_trace_excuses_that_the_other_one_is_dropped() {
        let process = |status| span("process", "process book.events.v1", status, "send");
        let send = span("send", "send book.events.v1", "UNSET", "");
        let ordinary = [process("UNSET"), send.clone()];
        let failed = [process("ERROR"), send];
        assert_eq!(pairs(&ordinary, &["process", "send"]), [1, 0, 0, 0, 0]);
        assert_eq!(pairs(&ordinary, &[]), [0, 1, 0, 0, 0]);
        assert_eq!(pairs(&ordinary, &["process"]), [0, 0, 0, 0, 1]);
        assert_eq!(pairs(&failed, &["process"]), [0, 0, 1, 0, 0]);
        assert_eq!(pairs(&failed, &["send"]), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_batch_is_kept_with_one_of_its_messages() {
        let process = |trace| span(trace, "process book.events.v1", "UNSET", "batch");
        let batch = span("batch", "receive book.events.v1", "UNSET", "");
        let spans = [process("one"), process("other"), batch];
        assert_eq!(pairs(&spans, &["batch", "one"]), [1, 0, 0, 1, 0]);
        assert_eq!(pairs(&spans, &["batch"]), [0, 0, 0, 0, 2]);
        assert_eq!(pairs(&spans, &["one"]), [0, 1, 0, 0, 1]);
    }
}
