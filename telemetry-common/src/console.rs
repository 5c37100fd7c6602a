//! The layer that writes console logs, as text or JSON, with trace id, span id and request id.
//!
//! They are written to stderr. stdout is for the output of the program itself.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    fmt::{self, Write},
    io::{self, IsTerminal, stderr},
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
use tracing_subscriber::{Layer, layer};

use crate::{
    LogFormat, RequestId,
    console_writer::ConsoleWriter,
    error_chain,
    semconv::{EXCEPTION_STACKTRACE, EXCEPTION_TYPE},
};

/// The layer that formats events and passes them to the writer. It does not record spans.
pub(crate) struct ConsoleLayer {
    format: LogFormat,
    /// Whether text has colours.
    is_coloured: bool,
    writer: ConsoleWriter,
}

impl ConsoleLayer {
    /// Returns the layer, which writes to stderr.
    pub(crate) fn new(format: LogFormat) -> io::Result<Self> {
        Ok(Self {
            format,
            is_coloured: stderr().is_terminal(),
            writer: ConsoleWriter::start(stderr())?,
        })
    }

    pub(crate) fn writer(&self) -> ConsoleWriter {
        self.writer.clone()
    }
}

impl<S: Subscriber> Layer<S> for ConsoleLayer {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let write = |line: &mut String| {
            line.clear();
            let formatted = match self.format {
                LogFormat::Text => write_text(line, event, self.is_coloured),
                LogFormat::Json => write_json(line, event),
            };
            // Writing to a string fails only if the `Display` of a field does.
            if formatted.is_ok() {
                self.writer.write(line);
            }
        };
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => write(&mut line),
            // The `Display` of a field logs an event.
            Err(_) => write(&mut String::new()),
        });
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

/// Writes an event as one line of text.
fn write_text(out: &mut String, event: &Event<'_>, is_coloured: bool) -> fmt::Result {
    let paint = move |code: &'static str| if is_coloured { code } else { "" };
    let (dim, plain) = (paint("\x1b[2m"), paint("\x1b[0m"));
    let level = *event.metadata().level();
    let tint = paint(match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    });
    let now = Timestamp::now();
    write!(out, "{dim}{now:.3}{plain} {tint}{level:>5}{plain} ")?;
    write!(out, "{dim}{}:{plain} ", target(event))?;
    event.record(&mut TextFields(out));
    for (name, id) in ids(event) {
        write!(out, " {dim}{name}={id}{plain}")?;
    }
    writeln!(out)
}

/// Writes the message of an event, and its fields as `name=value`. `exception.type` and stack
/// traces are omitted, because the messages of the error already describe the failure in one line.
struct TextFields<'out>(&'out mut String);

impl TextFields<'_> {
    fn write(&mut self, field: &Field, value: impl fmt::Display) {
        // Writing to a string fails only if the `Display` of the value does.
        let _ = match field.name() {
            "message" => write!(Escape(self.0), "{value}"),
            EXCEPTION_TYPE | EXCEPTION_STACKTRACE => Ok(()),
            name if is_from_log_crate(name) => Ok(()),
            name => write!(Escape(self.0), " {name}={value}"),
        };
    }
}

/// Escapes control characters, which could move a terminal's cursor or forge a log record.
struct Escape<'out>(&'out mut String);

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() && c != '\t' {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

impl Visit for TextFields<'_> {
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

/// Writes an event as one JSON object and a line feed.
fn write_json(out: &mut String, event: &Event<'_>) -> fmt::Result {
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
        sync::{Arc, Mutex},
        time::Duration,
    };

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{error, info, info_span, subscriber::with_default};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::{layer::SubscriberExt, registry};

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

    /// Returns what the layer prints while `work` runs.
    fn printed(format: LogFormat, work: impl FnOnce()) -> String {
        let output = Output::default();
        let writer = ConsoleWriter::start(output.clone()).unwrap();
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let spans = registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
        let console = ConsoleLayer {
            format,
            is_coloured: false,
            writer: writer.clone(),
        };
        with_default(spans.with(console), work);
        writer.flush(Duration::from_mins(1));
        let written = output.0.lock().unwrap();
        String::from_utf8(written.clone()).unwrap()
    }

    #[test]
    fn control_characters_are_escaped() {
        let line = printed(LogFormat::Text, || {
            info!(title = %"\u{1b}[2J", "forged\nERROR: not a record");
        });
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert!(line.contains(r"forged\nERROR"), "{line:?}");
    }

    #[test]
    fn fields_of_spans_are_not_formatted_because_they_are_not_printed() {
        struct Unprintable;

        impl fmt::Debug for Unprintable {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("formatted");
            }
        }

        let writer = ConsoleWriter::start(Output::default()).unwrap();
        let console = ConsoleLayer {
            format: LogFormat::Text,
            is_coloured: false,
            writer,
        };
        with_default(registry().with(console), || {
            let span = info_span!("work", field = ?Unprintable, late = tracing::field::Empty);
            span.record("late", tracing::field::debug(Unprintable));
            span.in_scope(|| info!("working"));
        });
    }

    #[test]
    fn an_event_with_an_explicit_parent_has_the_ids_of_that_span() {
        let mut id = String::new();
        let line = printed(LogFormat::Json, || {
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
                printed(LogFormat::Json, log)
            } else {
                printed(LogFormat::Text, log)
            };
            assert!(line.contains("other_crate"), "{line}");
            assert!(
                !line.contains("log event") && !line.contains("log.target"),
                "{line}"
            );
        }
    }
}
