//! The layer that writes console logs, as text or JSON, with trace id, span id and request id.
//!
//! They are written to stderr. stdout is for the output of the program itself.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    error::Error,
    fmt::{self, Write as _},
    io::IsTerminal,
    sync::OnceLock,
};

use jiff::Timestamp;
use opentelemetry::{Context, trace::TraceContextExt};
use serde_json::{Value, json};
use tracing::{
    Event, Level, Subscriber,
    dispatcher::{self, WeakDispatch},
    field::{Field, Visit},
};
use tracing_log::NormalizeEvent;
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    Layer,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{
    LogFormat, RequestId, error_chain,
    semconv::{EXCEPTION_STACKTRACE, EXCEPTION_TYPE},
};

/// Returns the layer that writes console logs in `format`.
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

/// The global subscriber, which has the OpenTelemetry context of each span.
static DISPATCH: OnceLock<WeakDispatch> = OnceLock::new();

/// Stores the global subscriber. Call it after the subscriber is installed.
pub(crate) fn store_dispatch() {
    dispatcher::get_default(|dispatch| {
        let _ = DISPATCH.set(dispatch.downgrade());
    });
}

/// Returns `trace_id`, `span_id` and `request_id` of an event, without those that it does not have.
fn ids(event: &Event<'_>) -> Vec<(&'static str, String)> {
    let mut ids = Vec::with_capacity(3);
    let span = match event.parent() {
        // `error!(parent: &span, …)`: the span of the event is not the current one.
        Some(parent) => {
            // Not `dispatcher::get_default`: within an event it returns no subscriber.
            let dispatch = DISPATCH.get().and_then(WeakDispatch::upgrade);
            let context = dispatch.and_then(|dispatch| get_otel_context(parent, &dispatch));
            context.map(|context| context.span().span_context().clone())
        }
        None if event.is_root() => None,
        None => Some(Context::map_current(|context| {
            context.span().span_context().clone()
        })),
    };
    if let Some(span) = span.filter(opentelemetry::trace::SpanContext::is_valid) {
        ids.push(("trace_id", span.trace_id().to_string()));
        ids.push(("span_id", span.span_id().to_string()));
    }
    ids.extend(RequestId::current().map(|id| ("request_id", id.to_string())));
    ids
}

/// Whether the bridge from the `log` crate added this field. Its fields contain the target and the
/// location of the log record.
fn is_from_log_crate(name: &str) -> bool {
    name.starts_with("log.")
}

/// Returns the target of an event. For an event from the bridge of the `log` crate, it is the
/// target of the log record.
fn target(event: &Event<'_>) -> Cow<'static, str> {
    match event.normalized_metadata() {
        Some(metadata) => Cow::Owned(metadata.target().to_owned()),
        None => Cow::Borrowed(event.metadata().target()),
    }
}

/// Formats an event as one line of text.
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
        write!(out, "{dim}{}:{plain} ", target(event))?;
        event.record(&mut TextFields(&mut out));
        for (name, id) in ids(event) {
            write!(out, " {dim}{name}={id}{plain}")?;
        }
        writeln!(out)
    }
}

/// Writes the message of an event, and its fields as `name=value`. `exception.type` and stack
/// traces are omitted, because the messages of the error already describe the failure in one line.
struct TextFields<'out, 'writer>(&'out mut Writer<'writer>);

impl TextFields<'_, '_> {
    fn write(&mut self, field: &Field, value: impl fmt::Display) {
        // A failed write cannot be reported, because errors are reported on the console.
        let _ = match field.name() {
            "message" => write!(Escape(self.0), "{value}"),
            EXCEPTION_TYPE | EXCEPTION_STACKTRACE => Ok(()),
            name if is_from_log_crate(name) => Ok(()),
            name => write!(Escape(self.0), " {name}={value}"),
        };
    }
}

/// Escapes control characters, which could move a terminal's cursor or forge a log record.
struct Escape<'out, 'writer>(&'out mut Writer<'writer>);

impl fmt::Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(|c: char| c.is_control() && c != '\t') {
            return self.0.write_str(text);
        }
        for c in text.chars() {
            if c.is_control() && c != '\t' {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl Visit for TextFields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.write(field, error_chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, format_args!("{value:?}"));
    }
}

/// Formats an event as one JSON object.
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
        let mut fields = JsonFields(BTreeMap::new());
        event.record(&mut fields);
        let JsonFields(mut fields) = fields;
        let name = event.metadata().name();
        // tracing generates "event file:line", and the bridge from the log crate "log event".
        if !name.starts_with("event ") && name != "log event" {
            fields.insert("event", json!(name));
        }
        fields.insert("timestamp", json!(format!("{:.3}", Timestamp::now())));
        fields.insert("level", json!(event.metadata().level().as_str()));
        fields.insert("target", json!(target(event)));
        fields.extend(ids(event).into_iter().map(|(name, id)| (name, json!(id))));
        let line = serde_json::to_string(&fields).map_err(|_| fmt::Error)?;
        writeln!(out, "{line}")
    }
}

/// The fields of an event as JSON values. Numbers stay numbers.
struct JsonFields(BTreeMap<&'static str, Value>);

impl JsonFields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        if !is_from_log_crate(field.name()) {
            self.0.insert(field.name(), value.into());
        }
    }
}

impl Visit for JsonFields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.insert(field, error_chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{error, info, info_span, subscriber::with_default};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::{fmt::layer, layer::SubscriberExt, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what `format` prints while `work` runs.
    fn printed<E>(format: E, work: impl FnOnce()) -> String
    where
        E: FormatEvent<Spans, tracing_subscriber::fmt::format::DefaultFields>
            + Send
            + Sync
            + 'static,
    {
        let output = Output::default();
        let written = output.clone();
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let spans: Spans = registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
        let console = layer()
            .with_writer(move || output.clone())
            .with_ansi(false)
            .event_format(format);
        with_default(spans.with(console), work);
        let written = written.0.lock().unwrap();
        String::from_utf8(written.clone()).unwrap()
    }

    type Spans = tracing_subscriber::layer::Layered<
        tracing_opentelemetry::OpenTelemetryLayer<
            tracing_subscriber::Registry,
            opentelemetry_sdk::trace::SdkTracer,
        >,
        tracing_subscriber::Registry,
    >;

    #[test]
    fn control_characters_are_escaped() {
        let line = printed(Text, || {
            info!(title = %"\u{1b}[2J", "forged\nERROR: not a record");
        });
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert!(line.contains(r"forged\nERROR"), "{line:?}");
    }

    #[test]
    fn an_event_with_an_explicit_parent_has_the_ids_of_that_span() {
        let mut id = String::new();
        let line = printed(Json, || {
            store_dispatch();
            let parent = info_span!(parent: None, "parent");
            let context = parent.context();
            id = context.span().span_context().span_id().to_string();
            let _current = info_span!("current").entered();
            error!(parent: &parent, "it failed");
        });
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["span_id"], id);
    }

    #[test]
    fn a_record_of_the_log_crate_has_its_own_target_and_no_event_name() {
        for is_json in [false, true] {
            let log = || {
                let record = log::Record::builder()
                    .target("other_crate")
                    .level(log::Level::Warn)
                    .args(format_args!("from the log crate"))
                    .build();
                tracing_log::format_trace(&record).unwrap();
            };
            let line = if is_json {
                printed(Json, log)
            } else {
                printed(Text, log)
            };
            assert!(line.contains("other_crate"), "{line}");
            assert!(
                !line.contains("log event") && !line.contains("log.target"),
                "{line}"
            );
        }
    }
}
