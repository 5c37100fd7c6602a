//! The spans at the edges of a service: requests and calls over HTTP and gRPC, and the messages of a batch.
//!
//! They are created by the OpenTelemetry API, with all attributes at creation. Compared with spans of
//! `tracing`, that saves a tenth of the instructions of a request, because no layer has to look the
//! span up whenever work enters or leaves it. Spans of `tracing` inside become their children, and
//! log records have their ids, because both read the OpenTelemetry context.
//!
//! The layers that read spans, such as those for context and of the application, receive a span of
//! `tracing` instead, whose target is [`TARGET`]. If the filters of all layers reject it, it is disabled.

#[cfg(feature = "http")]
use std::borrow::Cow;
use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

#[cfg(feature = "http")]
use opentelemetry::trace::{Link, SpanContext, SpanKind, SpanRef, Status};
use opentelemetry::{
    Context, KeyValue, Value,
    global::{self, BoxedTracer},
    trace::{SpanBuilder, TraceContextExt, Tracer},
};
use tracing::Level;
use tracing_subscriber::filter::Targets;

use crate::scope;
#[cfg(feature = "http")]
use crate::semconv;

/// The target of the spans for other layers. `TRACES_FILTER` selects the exported
/// spans by it.
pub(crate) const TARGET: &str = "telemetry_common::edge";

/// Whether spans are exported, and `TRACES_FILTER` accepts these.
static IS_EXPORTED: AtomicBool = AtomicBool::new(false);

/// Created at the first span, because the tracer provider must be set before.
static TRACER: LazyLock<BoxedTracer> = LazyLock::new(|| global::tracer_with_scope(scope::scope()));

/// Starts the export of the spans, if `filter` accepts them. Call it after the tracer provider is
/// set.
pub(crate) fn export(filter: &Targets) {
    let accepts = filter.would_enable(TARGET, &Level::INFO);
    IS_EXPORTED.store(accepts, Ordering::Relaxed);
}

/// The attributes of a span or of a measurement.
#[derive(Clone, Debug)]
pub(crate) struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    /// Adds an attribute.
    pub(crate) fn add(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    /// Adds an attribute if it has a value.
    pub(crate) fn add_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }
}

/// A started span.
#[cfg(feature = "http")]
pub(crate) struct Edge {
    /// The context that contains the span; empty if the span is not exported.
    pub(crate) span: Context,
    /// The context in which the work runs: that of the span, or of its parent if the span is not
    /// exported.
    pub(crate) context: Context,
}

/// Starts a span. `describe` adds the attributes and returns the name. It is not called if the span
/// is not exported.
#[cfg(feature = "http")]
pub(crate) fn start(
    parent: Context,
    kind: SpanKind,
    link: Option<SpanContext>,
    describe: impl FnOnce(&mut Attributes) -> Cow<'static, str>,
) -> Edge {
    if !IS_EXPORTED.load(Ordering::Relaxed) {
        return Edge {
            span: Context::new(),
            context: parent,
        };
    }
    let mut attributes = Attributes(Vec::with_capacity(16));
    let name = describe(&mut attributes);
    let mut builder = SpanBuilder::from_name(name)
        .with_kind(kind)
        .with_attributes(attributes.0);
    if let Some(linked) = link {
        builder = builder.with_links(vec![Link::with_context(linked)]);
    }
    let span = context_of(builder, &parent);
    Edge {
        context: span.clone(),
        span,
    }
}

/// Returns whether the spans are exported.
#[cfg(feature = "kafka")]
pub(crate) fn is_exported() -> bool {
    IS_EXPORTED.load(Ordering::Relaxed)
}

/// Starts a span. Returns its context. Call it only if spans are exported.
pub(crate) fn context_of(span: SpanBuilder, parent: &Context) -> Context {
    parent.with_span(TRACER.build_with_context(span, parent))
}

/// Sets the status of a span to Error, and its attribute `error.type`, a low-cardinality value.
#[cfg(feature = "http")]
pub(crate) fn fail(
    span: &SpanRef<'_>,
    error_type: impl Into<Cow<'static, str>>,
    description: impl Into<Cow<'static, str>>,
) {
    if span.is_recording() {
        span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type.into()));
        span.set_status(Status::error(description));
    }
}
