//! An event of tracing as Sentry's.

use std::{borrow::Cow, error::Error, fmt};

use opentelemetry::{Context as Trace, trace::TraceContextExt};
use sentry::protocol::{
    Context, Event, Exception, Frame, Map, Stacktrace, TraceContext, Value, Values,
};
use tracing::{
    Metadata,
    field::{Field, Visit},
};

use super::links::Links;
use crate::{
    Explained, RequestId,
    http::redact,
    semconv::{EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE, REQUEST_ID},
};

/// What an event's fields say.
#[derive(Default)]
pub(super) struct Told {
    message: String,
    /// The error and its causes, outermost first.
    chain: Vec<String>,
    kind: Option<String>,
    backtrace: Option<String>,
    extra: Map<String, Value>,
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            EXCEPTION_TYPE => self.kind = Some(value.to_owned()),
            EXCEPTION_MESSAGE => self.chain = vec![redact::text(value).into_owned()],
            // The chain says it already.
            EXCEPTION_STACKTRACE => {}
            name => {
                let value = redact::text(value).into_owned();
                self.extra.insert(name.to_owned(), value.into());
            }
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.extra.insert(field.name().to_owned(), value.into());
    }

    fn record_error(&mut self, _: &Field, error: &(dyn Error + 'static)) {
        let texts = match error.downcast_ref::<Explained>() {
            Some(explained) => explained.chain().to_vec(),
            None => vec![error.to_string()],
        };
        let texts = texts.iter().map(|text| redact::text(text).into_owned());
        self.chain = texts.collect();
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

impl Told {
    pub(super) fn report(
        mut self,
        metadata: &Metadata<'_>,
        level: sentry::Level,
        trace: &Trace,
        links: &Links,
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
        event.exception = exceptions(&self.chain, &kind, metadata);
        event.message = Some(self.message);
        event.extra = self.extra;
        // By what went wrong and where, not by the ids in its text.
        let place = Cow::Owned(metadata.target().to_owned());
        let name = Cow::Owned(metadata.name().to_owned());
        event.fingerprint = Cow::Owned(vec![Cow::Owned(kind), name, place]);
        if let Some(id) = RequestId::current() {
            event.tags.insert(REQUEST_ID.to_owned(), id.to_string());
        }
        correlate(&mut event, trace, links);
        event
    }
}

/// Innermost first, as Sentry wants them; the outermost has a place in our code.
fn exceptions(chain: &[String], kind: &str, metadata: &Metadata<'_>) -> Values<Exception> {
    let frame = Frame {
        module: metadata.module_path().map(str::to_owned),
        filename: metadata.file().map(str::to_owned),
        lineno: metadata.line().map(u64::from),
        in_app: Some(true),
        ..Frame::default()
    };
    let exception = |(depth, text): (usize, &String)| Exception {
        ty: if depth == 0 { kind } else { "caused by" }.to_owned(),
        value: Some(text.clone()),
        stacktrace: (depth == 0).then(|| Stacktrace {
            frames: vec![frame.clone()],
            ..Stacktrace::default()
        }),
        ..Exception::default()
    };
    let exceptions: Vec<_> = chain.iter().enumerate().map(exception).collect();
    exceptions.into_iter().rev().collect::<Vec<_>>().into()
}

/// The ids of the event's own span, in the places where Sentry and people look for them.
fn correlate(event: &mut Event<'static>, trace: &Trace, links: &Links) {
    let span = trace.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    let id = span.trace_id().to_string();
    let mut tag = |key: &str, value: String| event.tags.insert(key.to_owned(), value);
    tag("otel.trace_id", id.clone());
    tag("otel.span_id", span.span_id().to_string());
    tag("otel.sampled", span.is_sampled().to_string());
    // Sentry puts a random one there, before this.
    let context = TraceContext {
        trace_id: span.trace_id().to_bytes().into(),
        span_id: span.span_id().to_bytes().into(),
        ..TraceContext::default()
    };
    let context = Context::Trace(Box::new(context));
    event.contexts.insert("trace".to_owned(), context);
    if let Some(url) = links.trace(&id) {
        let grafana = Map::from_iter([("url".to_owned(), Value::from(url))]);
        let grafana = Context::Other(grafana);
        event.contexts.insert("grafana".to_owned(), grafana);
    }
}
