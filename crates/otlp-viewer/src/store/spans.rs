//! The spans, by trace and by link.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use opentelemetry_proto::tonic::trace::v1::{
    Span,
    span::{Event, SpanKind},
    status::StatusCode,
};
use prost::Message;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    filter::{TraceFilter, is_wanted},
    forget_in,
    ids::{SpanId, SpanRef, TraceId},
    milliseconds,
    ring::{Limit, Ring},
    values::{Origin, attributes, text},
};

/// The maximum number of traces that are shown with one, because they are linked with it.
const MAX_LINKED: usize = 8;

const HTTP_ROUTE: &str = "http.route";

/// A span. What only the page of its trace shows stays encoded, because that takes a third of the memory.
#[derive(Debug)]
pub(super) struct StoredSpan {
    id: SpanRef,
    parent: Option<SpanId>,
    origin: Arc<Origin>,
    name: Box<str>,
    route: Option<Box<str>>,
    /// Start and end in nanoseconds since the Unix epoch.
    start: u64,
    end: u64,
    has_failed: bool,
    links: Box<[SpanRef]>,
    encoded: Box<[u8]>,
}

impl StoredSpan {
    /// Returns the span, or `None` if one of its ids is invalid.
    pub(super) fn new(origin: &Arc<Origin>, span: &Span) -> Option<Self> {
        let links = span.links.iter();
        let links = links.filter_map(|link| SpanRef::from_bytes(&link.trace_id, &link.span_id));
        Some(Self {
            id: SpanRef::from_bytes(&span.trace_id, &span.span_id)?,
            parent: SpanId::from_bytes(&span.parent_span_id),
            origin: Arc::clone(origin),
            name: span.name.as_str().into(),
            route: text(&span.attributes, HTTP_ROUTE).map(Box::from),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano.max(span.start_time_unix_nano),
            has_failed: has_failed(span),
            links: links.collect(),
            encoded: span.encode_to_vec().into(),
        })
    }
}

fn has_failed(span: &Span) -> bool {
    let status = span.status.as_ref();
    status.is_some_and(|status| status.code() == StatusCode::Error)
}

/// The newest spans.
#[derive(Debug)]
pub(super) struct Spans {
    ring: Ring<StoredSpan>,
    by_id: HashMap<SpanRef, u64>,
    by_trace: HashMap<TraceId, Vec<u64>>,
    /// The spans that link to a span.
    by_link: HashMap<SpanRef, Vec<u64>>,
}

/// A trace in the list.
#[derive(Debug, Serialize)]
pub(crate) struct TraceSummary {
    trace_id: TraceId,
    /// The name of the first span without a parent, or of the first span.
    name: String,
    services: BTreeSet<String>,
    /// The start in milliseconds since the Unix epoch.
    start_ms: f64,
    duration_ms: f64,
    spans: usize,
    failed_spans: usize,
    /// The number of links from and to spans of this trace.
    links: usize,
}

impl Spans {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            ring: Ring::new(limit),
            by_id: HashMap::new(),
            by_trace: HashMap::new(),
            by_link: HashMap::new(),
        }
    }

    /// Adds a span, unless it is there already: exporters send again what was not acknowledged.
    pub(super) fn add(&mut self, span: StoredSpan) {
        if self.by_id.contains_key(&span.id) {
            return;
        }
        let (id, links) = (span.id, span.links.clone());
        let bytes = span.encoded.len() + span.origin.bytes_each;
        let number = self.ring.push(span, bytes);
        self.by_id.insert(id, number);
        self.by_trace.entry(id.trace).or_default().push(number);
        for link in links {
            self.by_link.entry(link).or_default().push(number);
        }
        while let Some((number, removed)) = self.ring.pop_excess() {
            self.forget(number, &removed);
        }
    }

    fn forget(&mut self, number: u64, span: &StoredSpan) {
        self.by_id.remove(&span.id);
        forget_in(&mut self.by_trace, &span.id.trace, number);
        for link in &span.links {
            forget_in(&mut self.by_link, link, number);
        }
    }

    /// Returns the newest traces that `filter` accepts.
    pub(super) fn list(&self, filter: &TraceFilter) -> Vec<TraceSummary> {
        let mut seen = HashSet::new();
        self.ring
            .newest()
            .map(|span| span.id.trace)
            .filter(|trace| seen.insert(*trace))
            .filter_map(|trace| self.summary_if(trace, filter))
            .take(filter.limit)
            .collect()
    }

    fn summary_if(&self, trace: TraceId, filter: &TraceFilter) -> Option<TraceSummary> {
        let spans = || self.of_trace(trace);
        let start = spans().map(|span| span.start).min()?;
        let end = spans().map(|span| span.end).max()?;
        let duration_ms = milliseconds(end - start);
        let failed_spans = spans().filter(|span| span.has_failed).count();
        let is_accepted = filter.accepts_duration(duration_ms)
            && filter
                .failed
                .is_none_or(|failed| failed == (failed_spans > 0))
            && is_wanted(
                filter.service.as_ref(),
                spans().map(|span| &*span.origin.service),
            )
            && is_wanted(
                filter.route.as_ref(),
                spans().filter_map(|span| span.route.as_deref()),
            )
            && filter.text.as_ref().is_none_or(|text| {
                text.is_id(trace) || spans().any(|span| text.is_in(&span.encoded))
            });
        if !is_accepted {
            return None;
        }
        let links_to = |span: &StoredSpan| self.by_link.get(&span.id).map_or(0, Vec::len);
        let first = self.root(trace)?;
        Some(TraceSummary {
            trace_id: trace,
            name: first.name.to_string(),
            services: spans().map(|span| span.origin.service.clone()).collect(),
            start_ms: milliseconds(start),
            duration_ms,
            spans: spans().count(),
            failed_spans,
            links: spans().map(|span| span.links.len() + links_to(span)).sum(),
        })
    }

    /// Returns the first span whose parent is not there, or else the first span.
    fn root(&self, trace: TraceId) -> Option<&StoredSpan> {
        let is_root = |span: &&StoredSpan| {
            let parent = span.parent.map(|span| SpanRef { trace, span });
            parent.is_none_or(|parent| !self.by_id.contains_key(&parent))
        };
        let spans = || self.of_trace(trace);
        let roots = spans().filter(is_root).min_by_key(|span| span.start);
        roots.or_else(|| spans().min_by_key(|span| span.start))
    }

    fn of_trace(&self, trace: TraceId) -> impl Iterator<Item = &StoredSpan> {
        let numbers = self.by_trace.get(&trace).into_iter().flatten();
        numbers.filter_map(|number| self.ring.get(*number))
    }

    /// Returns the ids of this trace and of the traces that are linked with it: by a link of one of its spans,
    /// or by further links of the span at the other end. The others are ordered by start.
    pub(super) fn linked(&self, trace: TraceId) -> Vec<TraceId> {
        let mut others = self.linked_traces(trace);
        others.sort_by_key(|other| self.of_trace(*other).map(|span| span.start).min());
        [&[trace], &others[..]].concat()
    }

    fn linked_traces(&self, trace: TraceId) -> Vec<TraceId> {
        let mut found = Vec::new();
        let mut spans: Vec<_> = self.of_trace(trace).map(|span| span.id).collect();
        let mut seen: HashSet<_> = spans.iter().copied().collect();
        while let Some(span) = spans.pop() {
            for other in self.linked_spans(span) {
                if !seen.insert(other) {
                    continue;
                }
                if other.trace != trace && !found.contains(&other.trace) {
                    found.push(other.trace);
                    if found.len() == MAX_LINKED {
                        return found;
                    }
                }
                spans.push(other);
            }
        }
        found
    }

    /// Returns the spans to which a span links, and those that link to it, as far as they are there. To a span
    /// of a batch, many unrelated ones link; then none of these is returned.
    fn linked_spans(&self, id: SpanRef) -> impl Iterator<Item = SpanRef> {
        let span = self
            .by_id
            .get(&id)
            .and_then(|number| self.ring.get(*number));
        let links = span.into_iter().flat_map(|span| span.links.iter().copied());
        let is_batch = self
            .by_link
            .get(&id)
            .is_some_and(|spans| spans.len() > MAX_LINKED);
        let back = if is_batch { None } else { Some(id) };
        let back = back.into_iter().flat_map(|id| self.linking_to(id));
        let back = back.map(|span| span.id);
        links.chain(back).filter(|id| self.by_id.contains_key(id))
    }

    fn linking_to(&self, span: SpanRef) -> impl Iterator<Item = &StoredSpan> {
        let numbers = self.by_link.get(&span).into_iter().flatten();
        numbers.filter_map(|number| self.ring.get(*number))
    }

    /// Returns a trace with all its spans, ordered by start, as JSON. `None` if it has no span.
    pub(super) fn trace(&self, trace: TraceId) -> Option<Value> {
        let name = &self.root(trace)?.name;
        let mut spans: Vec<_> = self.of_trace(trace).collect();
        spans.sort_by_key(|span| (span.start, u64::MAX - span.end));
        let spans: Vec<_> = spans.into_iter().map(|span| self.span(span)).collect();
        Some(json!({"trace_id": trace, "name": name, "spans": spans}))
    }

    fn span(&self, stored: &StoredSpan) -> Value {
        // These bytes were encoded when the span arrived.
        let span = Span::decode(&*stored.encoded).unwrap_or_default();
        let status = span.status.clone().unwrap_or_default();
        let linked_from = self.linking_to(stored.id);
        let linked_from = linked_from.map(|span| described(span.id, Some(span)));
        json!({
            "span_id": stored.id.span,
            "parent_id": stored.parent,
            "name": stored.name,
            "kind": kind(span.kind()),
            "service": stored.origin.service,
            "scope": stored.origin.scope,
            "resource": stored.origin.resource,
            "start_ms": milliseconds(stored.start),
            "duration_ms": milliseconds(stored.end - stored.start),
            "has_failed": stored.has_failed,
            "status_message": status.message,
            "attributes": attributes(&span.attributes),
            "events": span.events.iter().map(event).collect::<Vec<_>>(),
            "links": stored.links.iter().map(|link| self.link(*link)).collect::<Vec<_>>(),
            "linked_from": linked_from.collect::<Vec<_>>(),
        })
    }

    fn link(&self, id: SpanRef) -> Value {
        let number = self.by_id.get(&id);
        described(id, number.and_then(|number| self.ring.get(*number)))
    }

    /// Returns the names of the services, and the routes.
    pub(super) fn services_and_routes(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let spans = || self.ring.newest();
        let services = spans().map(|span| &*span.origin.service);
        let routes = spans().filter_map(|span| span.route.as_deref());
        (services.collect(), routes.collect())
    }

    /// Returns the number of spans, and how many were removed.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.ring.len(), self.ring.removed())
    }
}

/// A span at the other end of a link. Its name and service are null if it is not there.
fn described(id: SpanRef, span: Option<&StoredSpan>) -> Value {
    json!({
        "trace_id": id.trace,
        "span_id": id.span,
        "name": span.map(|span| &span.name),
        "service": span.map(|span| &span.origin.service),
    })
}

fn event(event: &Event) -> Value {
    json!({
        "name": event.name,
        "time_ms": milliseconds(event.time_unix_nano),
        "attributes": attributes(&event.attributes) as Map<_, _>,
    })
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::span::Link;

    use super::*;

    #[test]
    fn nothing_is_left_of_removed_spans() {
        let origin = Arc::new(Origin::of(None, None, 1));
        let mut spans = Spans::new(Limit {
            items: 3,
            bytes: 1000,
        });
        for number in 1..=100 {
            let link = Link {
                trace_id: vec![number; 16],
                span_id: vec![number + 100; 8],
                ..Link::default()
            };
            let span = Span {
                trace_id: vec![number; 16],
                span_id: vec![number; 8],
                links: vec![link],
                ..Span::default()
            };
            spans.add(StoredSpan::new(&origin, &span).unwrap());
        }
        assert_eq!(spans.counts(), (3, 97));
        let kept = (spans.by_id.len(), spans.by_trace.len(), spans.by_link.len());
        assert_eq!(kept, (3, 3, 3));
    }
}
