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
    /// A message is dropped. It links to the trace of its batch, which is kept with another message.
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
                    (false, true) if is_batch(spans) => &mut pairs.of_batches,
                    (true, false) if is_important(own) => &mut pairs.excused,
                    (false, true) if is_important(spans) => &mut pairs.excused,
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

    const OWN: &str = "1";
    const OTHER: &str = "2";

    fn span(trace_id: &str, name: &str, status: &'static str) -> Span {
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
            links: Vec::new(),
            status,
        }
    }

    /// Returns the numbers of pairs, in the order of the fields, if one trace links to another one.
    fn pairs(own: Span, other: Span, kept: &[&str]) -> [usize; 5] {
        let links = vec![(OTHER.to_owned(), OTHER.to_owned())];
        let spans = [Span { links, ..own }, other];
        let kept = kept.iter().map(|id| (*id).to_owned()).collect();
        let pairs = Pairs::of(&spans, &kept);
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
        let process = |status| span(OWN, "process book.events.v1", status);
        let send = |status| span(OTHER, "send book.events.v1", status);
        let batch = span(OTHER, "receive book.events.v1", "UNSET");
        let ordinary = || (process("UNSET"), send("UNSET"));
        let failed = || (process("ERROR"), send("UNSET"));
        for ((own, other), kept, expected) in [
            (ordinary(), &[OWN, OTHER][..], [1, 0, 0, 0, 0]),
            (ordinary(), &[], [0, 1, 0, 0, 0]),
            (failed(), &[OWN], [0, 0, 1, 0, 0]),
            (failed(), &[OTHER], [0, 0, 0, 0, 1]),
            ((process("UNSET"), batch), &[OTHER], [0, 0, 0, 1, 0]),
            (ordinary(), &[OWN], [0, 0, 0, 0, 1]),
        ] {
            assert_eq!(pairs(own, other, kept), expected);
        }
    }
}
