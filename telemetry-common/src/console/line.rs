//! A line of the console logs before it is formatted.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use tracing::{Event, Level, Metadata};
use tracing_log::NormalizeEvent;

use super::ids::Ids;
use crate::{
    layers::{SpanFields, Value, for_each, is_inherited},
    semconv,
};

/// A line about an event or a span.
pub(super) struct Line<'l> {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) time: Timestamp,
    pub(super) subject: Subject<'l>,
    pub(super) ids: &'l Ids,
    context: Option<&'l SpanFields>,
}

/// What a line is about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'l> {
    Event {
        event: &'l Event<'l>,
        /// The id of its span in this process.
        span: Option<u64>,
    },
    Span {
        /// The id of the span in this process.
        id: u64,
        /// The id of the span around it.
        parent: Option<u64>,
        transition: Transition,
    },
}

/// What has happened to a span.
#[derive(Clone, Copy)]
pub(super) enum Transition {
    Started,
    /// With the time since its first enter.
    Ended(Duration),
}

impl<'l> Line<'l> {
    pub(super) fn new(
        metadata: &'static Metadata<'static>,
        subject: Subject<'l>,
        ids: &'l Ids,
        context: Option<&'l SpanFields>,
    ) -> Self {
        Self {
            metadata,
            time: Timestamp::now(),
            subject,
            ids,
            context,
        }
    }

    /// Returns the module. For an event from the bridge of the `log` crate, it is the target of the
    /// log record.
    pub(super) fn target(&self) -> Cow<'static, str> {
        let normalized = match self.subject {
            Subject::Event { event, .. } => event.normalized_metadata(),
            Subject::Span { .. } => None,
        };
        match normalized {
            Some(metadata) => Cow::Owned(metadata.target().to_owned()),
            None => Cow::Borrowed(self.metadata.target()),
        }
    }

    /// Returns the name of an event. `None` if it was generated: by tracing as `event FILE:LINE`, by
    /// the bridge from the `log` crate as `log event`.
    pub(super) fn event_name(&self) -> Option<&'static str> {
        let name = self.metadata.name();
        let is_generated = name.starts_with("event ") || name == "log event";
        (self.metadata.is_event() && !is_generated).then_some(name)
    }

    /// Calls `f` with the name and the value of each field: those of the event, then those of the
    /// spans around it, except those that the event replaces.
    pub(super) fn for_each(&self, mut f: impl FnMut(&'static str, Value<'_>)) {
        if let Subject::Event { event, .. } = self.subject {
            event.record(&mut for_each(&mut f));
        }
        let context = self.context.into_iter().flat_map(SpanFields::iter);
        for (name, value) in context.filter(|(name, _)| self.inherits(name)) {
            f(name, value.borrowed());
        }
    }

    fn inherits(&self, name: &str) -> bool {
        match self.subject {
            Subject::Event { .. } => {
                is_inherited(name) && self.metadata.fields().field(name).is_none()
            }
            Subject::Span { .. } => *self.metadata.level() > Level::INFO || is_of_span(name),
        }
    }
}

/// Whether the lines of a span have this field from level INFO on. Below, they have all.
fn is_of_span(name: &str) -> bool {
    matches!(
        name,
        "category"
            | "follows_from"
            | "follows_from.trace_id"
            | "http.client_ip"
            | "http.host"
            | "http.method"
            | "http.route"
            | "subject"
            // The names in the conventions of today.
            | semconv::CLIENT_ADDRESS
            | semconv::DB_QUERY_SUMMARY
            | semconv::HTTP_REQUEST_METHOD
            | semconv::URL_PATH
    )
}

/// Returns the name of a field in formats in which all names of a line share one namespace: a name
/// that the line needs for itself gets a prefix.
pub(super) fn free_name(name: &'static str) -> Cow<'static, str> {
    let is_reserved = matches!(
        name,
        "event"
            | "latency_ms"
            | "level"
            | "location"
            | "message"
            | "msg"
            | "parent_span"
            | "request_id"
            | "span"
            | "span_event"
            | "span_id"
            | "span_name"
            | "target"
            | "timestamp"
            | "trace_id"
    );
    if is_reserved {
        Cow::Owned(format!("fields.{name}"))
    } else {
        Cow::Borrowed(name)
    }
}
