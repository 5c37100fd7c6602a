//! The layer that writes console logs: one line for each event and, by setting, for the start and the
//! end of each span, as text, JSON or logfmt.
//!
//! They are written to stderr. stdout is for the output of the program itself.

mod ids;
mod json;
mod line;
mod logfmt;
#[cfg(test)]
mod tests;
mod text;
mod writer;

use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write, stderr},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{Event, Subscriber, span::Id};
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

use crate::{LogFormat, TelemetryConfig, layers::SpanFields};
use ids::Ids;
pub(crate) use ids::store_dispatch;
use line::{Line, Subject, Transition};
pub(crate) use writer::ConsoleWriter;

/// The time limit for the last lines, if nobody reads the output.
pub(crate) const FLUSH_BUDGET: Duration = Duration::from_secs(1);

/// Returns the layer that writes a line for each event to `output`, and the guard that waits for the
/// last lines when it is dropped, for one second at most.
///
/// A line has the fields of the event, and the ids of trace, span and request. With the layer of
/// [`context`](crate::layers::context) before it, it also has the fields of the spans around the event,
/// except those of the same name; without it, it has none of them.
///
/// A thread of its own writes the lines, so that a slow output never blocks the application. If
/// 4 MiB wait, further lines are dropped. The layer has no filter: add one.
///
/// ```
/// use std::io::stderr;
/// use telemetry_common::{LogFormat, layers};
/// use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, registry};
///
/// let (lines, guard) = layers::lines(LogFormat::Logfmt, stderr())?;
/// let lines = lines.with_filter(EnvFilter::new("info"));
/// let subscriber = registry().with(layers::context()).with(lines);
/// # drop((subscriber, guard));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The thread could not be started.
pub fn lines<S>(
    format: LogFormat,
    output: impl Write + Send + 'static,
) -> io::Result<(impl Layer<S>, LinesGuard)>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = ConsoleLayer {
        format,
        is_coloured: false,
        has_span_fields: true,
        has_spans: format == LogFormat::Logfmt,
        writer: ConsoleWriter::start(output)?,
    };
    let guard = LinesGuard(layer.writer.clone());
    Ok((layer, guard))
}

/// Waits for the last lines when it is dropped. [`lines`] returns it.
#[derive(Debug)]
#[must_use = "lines may be lost if the guard is dropped before the end"]
pub struct LinesGuard(ConsoleWriter);

impl LinesGuard {
    /// Returns how many lines were dropped because the output was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_BUDGET);
    }
}

/// The layer that formats lines and passes them to the writer.
pub(crate) struct ConsoleLayer {
    format: LogFormat,
    /// Whether text has colours.
    is_coloured: bool,
    /// Whether lines have the fields of spans.
    has_span_fields: bool,
    /// Whether the start and the end of a span have lines.
    has_spans: bool,
    writer: ConsoleWriter,
}

impl ConsoleLayer {
    /// Returns the layer, which writes to stderr.
    pub(crate) fn new(config: &TelemetryConfig, has_span_fields: bool) -> io::Result<Self> {
        let format = config.console_format();
        Ok(Self {
            format,
            is_coloured: stderr().is_terminal(),
            has_span_fields,
            has_spans: config.log_spans.unwrap_or(format == LogFormat::Logfmt),
            writer: ConsoleWriter::start(stderr())?,
        })
    }

    /// Whether the start and the end of a span have lines.
    pub(crate) fn has_spans(&self) -> bool {
        self.has_spans
    }

    pub(crate) fn writer(&self) -> ConsoleWriter {
        self.writer.clone()
    }

    fn write(&self, line: &Line<'_>) {
        thread_local! {
            static OUTPUT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let write = |output: &mut String| {
            output.clear();
            let formatted = match self.format {
                LogFormat::Text => text::write(output, line, self.is_coloured),
                LogFormat::Json => json::write(output, line),
                LogFormat::Logfmt => logfmt::write(output, line),
            };
            // Writing to a string fails only if the `Display` of a field does.
            if formatted.is_ok() {
                self.writer.write(output);
            }
        };
        OUTPUT.with(|output| match output.try_borrow_mut() {
            Ok(mut output) => write(&mut output),
            // The `Display` of a field logs an event.
            Err(_) => write(&mut String::new()),
        });
    }

    fn fields_of<'s, S: LookupSpan<'s>>(
        &self,
        span: Option<&SpanRef<'s, S>>,
    ) -> Option<Arc<SpanFields>> {
        span.filter(|_| self.has_span_fields)
            .and_then(SpanFields::of)
    }

    fn write_span<'s, S: LookupSpan<'s>>(
        &self,
        span: &SpanRef<'s, S>,
        ids: &Ids,
        transition: Transition,
    ) {
        let subject = Subject::Span {
            id: span.id().into_u64(),
            parent: span.parent().map(|parent| parent.id().into_u64()),
            transition,
        };
        let context = self.fields_of(Some(span));
        self.write(&Line::new(
            span.metadata(),
            subject,
            ids,
            context.as_deref(),
        ));
    }
}

/// A span that was entered.
struct Entered {
    first: Instant,
    ids: Ids,
}

impl<S> Layer<S> for ConsoleLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = context.event_span(event);
        let fields = self.fields_of(span.as_ref());
        let span = span.map(|span| span.id().into_u64());
        let (subject, ids) = (Subject::Event { event, span }, Ids::of(event));
        self.write(&Line::new(
            event.metadata(),
            subject,
            &ids,
            fields.as_deref(),
        ));
    }

    /// Writes the start of the span. Before its first enter, it has no ids yet: its parent may still
    /// be set.
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if !self.has_spans {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if extensions.get_mut::<Entered>().is_some() {
            return;
        }
        let (first, ids) = (Instant::now(), Ids::current());
        // Under one lock: several threads may enter the span for the first time.
        extensions.insert(Entered {
            first,
            ids: ids.clone(),
        });
        drop(extensions);
        self.write_span(&span, &ids, Transition::Started);
    }

    /// Writes the end of the span, with the time since its first enter.
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if !self.has_spans {
            return;
        }
        let Some(span) = context.span(&id) else {
            return;
        };
        // Not in the condition below: the lock would be held while the line is formatted.
        let entered = span.extensions_mut().remove();
        if let Some(Entered { first, ids }) = entered {
            self.write_span(&span, &ids, Transition::Ended(first.elapsed()));
        }
    }
}
