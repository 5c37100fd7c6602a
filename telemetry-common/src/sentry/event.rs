//! Conversion of tracing events to Sentry events.

use std::{borrow::Cow, error::Error, fmt};

use opentelemetry::{Context as Trace, trace::TraceContextExt};
use sentry::protocol::{
    Context, Event, Exception, Frame, Map, Stacktrace, TraceContext, Value, Values,
};
use tracing::{
    Metadata,
    field::{Field, Visit},
};

use crate::{
    ErrorChain, RequestId,
    grafana::GrafanaLinks,
    redact,
    semconv::{
        CODE_FILE_PATH, CODE_LINE_NUMBER, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE,
        REQUEST_ID,
    },
};

/// The tag with the trace id of the event.
pub(super) const TRACE_ID: &str = "otel.trace_id";

/// Collects the fields of a tracing event.
#[derive(Default)]
pub(super) struct EventVisitor {
    message: String,
    /// The error and its causes, outermost first.
    chain: Vec<String>,
    kind: Option<String>,
    /// The source location of the failure, if it differs from the callsite of the event.
    file: Option<String>,
    line: Option<u64>,
    backtrace: Option<String>,
    extra: Map<String, Value>,
}

impl Visit for EventVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            EXCEPTION_TYPE => self.kind = Some(value.to_owned()),
            CODE_FILE_PATH => self.file = Some(value.to_owned()),
            EXCEPTION_MESSAGE => self.chain = vec![redact::text(value).into_owned()],
            name => {
                let value = redact::text(value).into_owned();
                self.extra.insert(name.to_owned(), value.into());
            }
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.extra.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            CODE_LINE_NUMBER => self.line = Some(value),
            name => drop(self.extra.insert(name.to_owned(), value.into())),
        }
    }

    fn record_error(&mut self, _: &Field, error: &(dyn Error + 'static)) {
        let messages = match error.downcast_ref::<ErrorChain>() {
            Some(error_chain) => error_chain.messages().to_vec(),
            None => vec![error.to_string()],
        };
        let messages = messages.iter();
        self.chain = messages
            .map(|message| redact::text(message).into_owned())
            .collect();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = redact::text(&text).into_owned(),
            EXCEPTION_STACKTRACE => self.backtrace = Some(text),
            name => {
                let value = redact::text(&text).into_owned();
                self.extra.insert(name.to_owned(), value.into());
            }
        }
    }
}

impl EventVisitor {
    /// Converts the collected fields to a Sentry event.
    pub(super) fn into_event(
        mut self,
        metadata: &Metadata<'_>,
        level: sentry::Level,
        trace: &Trace,
        service: &str,
    ) -> Event<'static> {
        let mut event = Event::new();
        event.level = level;
        event.logger = Some(metadata.target().to_owned());
        if let Some(backtrace) = self.backtrace.take() {
            self.extra.insert("backtrace".to_owned(), backtrace.into());
        }
        let kind = self
            .kind
            .take()
            .unwrap_or_else(|| metadata.name().to_owned());
        let frame = self.frame(metadata);
        // Events are grouped by error type and location, not by messages, which contain ids. The
        // hook `before_send` adds the transaction name.
        let location = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => metadata.target().to_owned(),
        };
        let group = [service, metadata.name(), &kind, &location];
        let group = group.map(|part| Cow::Owned(part.to_owned()));
        event.fingerprint = Cow::Owned(group.to_vec());
        event.exception = exceptions(&self.chain, &kind, &frame);
        event.message = Some(self.message);
        event.extra = self.extra;
        if let Some(id) = RequestId::current() {
            event.tags.insert(REQUEST_ID.to_owned(), id.to_string());
        }
        correlate(&mut event, trace);
        event
    }

    /// Returns the source location of the failure, else the callsite of the event.
    fn frame(&self, metadata: &Metadata<'_>) -> Frame {
        let (module, file, line) = match &self.file {
            Some(file) => (None, Some(&**file), self.line),
            None => (
                metadata.module_path(),
                metadata.file(),
                metadata.line().map(u64::from),
            ),
        };
        Frame {
            module: module.map(str::to_owned),
            filename: file.map(str::to_owned),
            lineno: line,
            in_app: Some(true),
            ..Frame::default()
        }
    }
}

/// Returns the exceptions of a chain of causes, innermost first, as Sentry requires. Only the
/// outermost has a stack frame.
fn exceptions(chain: &[String], kind: &str, frame: &Frame) -> Values<Exception> {
    let exception = |(depth, message): (usize, &String)| Exception {
        ty: if depth == 0 { kind } else { "caused by" }.to_owned(),
        value: Some(message.clone()),
        stacktrace: (depth == 0).then(|| Stacktrace {
            frames: vec![frame.clone()],
            ..Stacktrace::default()
        }),
        ..Exception::default()
    };
    let exceptions: Vec<_> = chain.iter().enumerate().map(exception).collect();
    exceptions.into_iter().rev().collect::<Vec<_>>().into()
}

/// Adds the ids of the event's span, as tags for searches and as Sentry's trace context.
fn correlate(event: &mut Event<'static>, trace: &Trace) {
    let span = trace.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    let mut tag = |key: &str, value: String| event.tags.insert(key.to_owned(), value);
    tag(TRACE_ID, span.trace_id().to_string());
    tag("otel.span_id", span.span_id().to_string());
    tag("otel.sampled", span.is_sampled().to_string());
    // If the event has no trace context, the Sentry client adds one with random ids.
    let context = TraceContext {
        trace_id: span.trace_id().to_bytes().into(),
        span_id: span.span_id().to_bytes().into(),
        ..TraceContext::default()
    };
    let context = Context::Trace(Box::new(context));
    event.contexts.insert("trace".to_owned(), context);
}

/// Adds the link that opens the event's trace and logs in Grafana.
pub(super) fn link(event: &mut Event<'static>, trace: &Trace, links: &GrafanaLinks) {
    let span = trace.span();
    let span = span.span_context();
    if span.is_valid() {
        let url = Value::from(links.trace(&span.trace_id().to_string()));
        let grafana = Context::Other(Map::from_iter([("url".to_owned(), url)]));
        event.contexts.insert("grafana".to_owned(), grafana);
    }
}
