//! The spans at the edges of a service: requests and calls over HTTP and gRPC, statements, and
//! messages.
//!
//! They are created by the OpenTelemetry API. Spans of `tracing` cost several times as much, because
//! each layer looks a span up whenever work enters or leaves it. Spans of `tracing` inside become
//! their children, and log records have their ids, because both read the OpenTelemetry context.
//!
//! A span that is not sampled costs little: its attributes are not even collected, and inside a span
//! of this process that is not sampled, none is created.
//!
//! The layers that read spans, such as those for context and of the application, receive a span of
//! `tracing` instead, whose target is [`TARGET`]. If the filters of all layers reject it, it is disabled.

use std::{
    borrow::Cow,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue, Value,
    global::{self, BoxedTracer},
    trace::{
        Link, Span, SpanBuilder, SpanContext, SpanKind, SpanRef, Status, TraceContextExt, Tracer,
    },
};
use tracing::Level;
use tracing_subscriber::filter::Targets;

use crate::{TelemetryConfig, TracesSampler, builder::Builder, sampling, scope, semconv};

/// The target of the spans for other layers. `TRACES_FILTER` selects the exported
/// spans by it.
pub(crate) const TARGET: &str = "telemetry_common::edge";

/// The number of attributes for which a span has space from the start.
const ATTRIBUTES: usize = 20;

/// Whether spans are exported, and `TRACES_FILTER` accepts these.
static IS_EXPORTED: AtomicBool = AtomicBool::new(false);

/// Whether a sampler or a processor of the application may read a span when it starts.
static ARE_READ: AtomicBool = AtomicBool::new(false);

/// Whether the sampler usually samples the first span of a trace.
static ARE_SAMPLED: AtomicBool = AtomicBool::new(false);

/// Created at the first span, because the tracer provider must be set before.
static TRACER: LazyLock<BoxedTracer> = LazyLock::new(|| global::tracer_with_scope(scope::scope()));

/// Who reads the names and the attributes of spans when they start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readers {
    /// A sampler or a processor of the application may. The samplers of the SDK do not: a child has the
    /// decision of its parent in this process.
    pub(crate) application: bool,
    /// The exporters do, because the sampler usually samples the first span of a trace.
    pub(crate) exporters: bool,
}

impl Readers {
    pub(crate) fn of(builder: &Builder, config: &TelemetryConfig) -> Self {
        Self {
            application: builder.sampler.is_some() || builder.has_span_processor,
            exporters: matches!(
                config.traces_sampler,
                TracesSampler::AlwaysOn | TracesSampler::ParentBasedAlwaysOn
            ),
        }
    }
}

/// Starts the export of the spans, if `filter` accepts them. Call it after the tracer provider is
/// set.
pub(crate) fn export(filter: &Targets, readers: Readers) {
    ARE_READ.store(readers.application, Ordering::Relaxed);
    ARE_SAMPLED.store(readers.exporters, Ordering::Relaxed);
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
#[derive(Debug)]
pub(crate) struct Edge {
    /// The context that contains the span; empty if there is none: if spans are not exported, or if
    /// the parent is not sampled.
    pub(crate) span: Context,
    /// The context in which the work runs: that of the span, or of its parent if there is none.
    pub(crate) context: Context,
}

/// Starts a span with links; links to no span are left out. `describe` adds the attributes and returns
/// the name. It is not called if they are not exported.
pub(crate) fn start(
    parent: Context,
    kind: SpanKind,
    links: impl IntoIterator<Item = SpanContext>,
    describe: impl FnOnce(&mut Attributes) -> Cow<'static, str>,
) -> Edge {
    start_at(None, parent, kind, links, describe)
}

/// Starts a span that began at `time`, as [`start`].
pub(crate) fn start_at(
    time: impl Into<Option<SystemTime>>,
    parent: Context,
    kind: SpanKind,
    links: impl IntoIterator<Item = SpanContext>,
    describe: impl FnOnce(&mut Attributes) -> Cow<'static, str>,
) -> Edge {
    if !IS_EXPORTED.load(Ordering::Relaxed) || is_dropped(&parent) {
        return Edge {
            span: Context::new(),
            context: parent,
        };
    }
    let mut span = SpanBuilder::from_name("").with_kind(kind);
    span.start_time = time.into();
    let links = links.into_iter().filter(SpanContext::is_valid);
    let links: Vec<_> = links.map(Link::with_context).collect();
    span.links = Some(links).filter(|links| !links.is_empty());
    let span = context_of(span, &parent, describe);
    Edge {
        context: span.clone(),
        span,
    }
}

/// Whether a child of `parent` is dropped without asking the sampler. Counts such a child.
fn is_dropped(parent: &Context) -> bool {
    let span = parent.span();
    let span = span.span_context();
    let is_dropped = span.is_valid()
        && !span.is_sampled()
        && !span.is_remote()
        && !ARE_READ.load(Ordering::Relaxed);
    if is_dropped {
        sampling::count_dropped_child();
    }
    is_dropped
}

/// Starts a span, whose name and attributes `describe` adds. Returns its context.
fn context_of(
    mut span: SpanBuilder,
    parent: &Context,
    describe: impl FnOnce(&mut Attributes) -> Cow<'static, str>,
) -> Context {
    let empty = || Attributes(Vec::with_capacity(ATTRIBUTES));
    if ARE_READ.load(Ordering::Relaxed) || is_sampled(parent) {
        let mut attributes = empty();
        span.name = describe(&mut attributes);
        span.attributes = Some(attributes.0);
        return parent.with_span(TRACER.build_with_context(span, parent));
    }
    // The sampler decides first. If it samples the span, the SDK takes the memory for its attributes.
    span.attributes = Some(empty().0);
    let mut span = TRACER.build_with_context(span, parent);
    if span.is_recording() {
        let mut attributes = empty();
        span.update_name(describe(&mut attributes));
        span.set_attributes(attributes.0);
    }
    parent.with_span(span)
}

/// Whether a child of `parent` is usually sampled.
fn is_sampled(parent: &Context) -> bool {
    let span = parent.span();
    match span.span_context() {
        parent if parent.is_valid() => parent.is_sampled() && !parent.is_remote(),
        _ => ARE_SAMPLED.load(Ordering::Relaxed),
    }
}

/// Sets the status of a span to Error, and its attribute `error.type`, a low-cardinality value.
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
