//! The console's lines: text for people, JSON for machines, both with the ids that find the rest.
//!
//! They go to stderr; stdout belongs to what the program answers.

use std::{collections::BTreeMap, error::Error, fmt, io::IsTerminal};

use jiff::Timestamp;
use opentelemetry::{Context, trace::TraceContextExt};
use serde_json::{Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{
    LogFormat, RequestId, error_chain,
    semconv::{EXCEPTION_STACKTRACE, EXCEPTION_TYPE},
};

pub(crate) fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => layer.event_format(Text).boxed(),
        LogFormat::Json => layer.event_format(Json).boxed(),
    }
}

/// The ids of the work in hand: `trace_id`, `span_id`, `request_id`.
fn ids() -> Vec<(&'static str, String)> {
    let mut ids = Vec::with_capacity(3);
    let span = Context::map_current(|context| context.span().span_context().clone());
    if span.is_valid() {
        ids.push(("trace_id", span.trace_id().to_string()));
        ids.push(("span_id", span.span_id().to_string()));
    }
    ids.extend(RequestId::current().map(|id| ("request_id", id.to_string())));
    ids
}

struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let colour = out.has_ansi_escapes();
        let paint = move |code: &'static str| if colour { code } else { "" };
        let (dim, plain) = (paint("\x1b[2m"), paint("\x1b[0m"));
        let level = *event.metadata().level();
        let tint = paint(match level {
            Level::ERROR => "\x1b[31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            _ => "\x1b[34m",
        });
        write!(
            out,
            "{dim}{:.3}{plain} {tint}{level:>5}{plain} ",
            Timestamp::now()
        )?;
        write!(out, "{dim}{}:{plain} ", event.metadata().target())?;
        event.record(&mut Words(&mut out));
        for (name, id) in ids() {
            write!(out, " {dim}{name}={id}{plain}")?;
        }
        writeln!(out)
    }
}

/// An event's text and fields as words. What kind of error it was and the trace of its stack are
/// for machines; a person reads why, in one line.
struct Words<'out, 'writer>(&'out mut Writer<'writer>);

impl Words<'_, '_> {
    fn put(&mut self, field: &Field, value: impl fmt::Display) {
        // A console that cannot be written to can be told nothing.
        let _ = match field.name() {
            "message" => write!(self.0, "{value}"),
            EXCEPTION_TYPE | EXCEPTION_STACKTRACE => Ok(()),
            name => write!(self.0, " {name}={value}"),
        };
    }
}

impl Visit for Words<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, error_chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line(BTreeMap::new());
        event.record(&mut line);
        let name = event.metadata().name();
        if !name.starts_with("event ") {
            line.0.insert("event", json!(name));
        }
        line.0
            .insert("timestamp", json!(format!("{:.3}", Timestamp::now())));
        line.0
            .insert("level", json!(event.metadata().level().as_str()));
        line.0.insert("target", json!(event.metadata().target()));
        line.0
            .extend(ids().into_iter().map(|(name, id)| (name, json!(id))));
        writeln!(out, "{}", json!(line.0))
    }
}

/// An event's fields as JSON, numbers as numbers.
struct Line(BTreeMap<&'static str, Value>);

impl Visit for Line {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), json!(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.0
            .insert(field.name(), json!(error_chain(value).to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), json!(format!("{value:?}")));
    }
}
