//! The start of telemetry: [`Builder`] collects what the application adds, and installs all of it.

use std::{
    fmt, mem,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    logs::{LogProcessor, LoggerProviderBuilder, SdkLoggerProvider},
    metrics::{Instrument, MeterProviderBuilder, SdkMeterProvider, Stream, reader::MetricReader},
    resource::ResourceDetector,
    trace::{IdGenerator, SdkTracerProvider, ShouldSample, SpanProcessor, TracerProviderBuilder},
};
use tracing::{Dispatch, dispatcher, subscriber::NoSubscriber, warn};
use tracing_subscriber::{Layer, Registry};

use crate::{
    InitError, Service, Telemetry, TelemetryConfig, panics, process,
    subscriber::{self, ConsoleLogs},
    variables,
};

/// Whether telemetry has started.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A layer of the subscriber.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts telemetry for the process. [`builder`](crate::builder) creates it.
///
/// Whatever the application adds comes in addition to the parts of this crate, unless a method says
/// that it replaces one.
///
/// ```
/// use opentelemetry_sdk::{metrics::Stream, trace::Sampler};
/// use telemetry_common::{opentelemetry::KeyValue, service};
///
/// let telemetry = telemetry_common::builder(service!())
///     .resource([KeyValue::new("team", "books")])
///     .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.1))))
///     .with_view(|instrument| {
///         let is_noisy = instrument.name() == "tokio.worker.park_count";
///         is_noisy.then(|| Stream::builder().with_name("parked").build().ok())?
///     })
///     .without_console()
///     .install()?;
/// # drop(telemetry);
/// # Ok::<(), telemetry_common::InitError>(())
/// ```
#[must_use = "telemetry starts with `install`"]
pub struct Builder {
    pub(crate) service: Service,
    config: Option<TelemetryConfig>,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) detectors: Vec<Box<dyn ResourceDetector>>,
    layers: Vec<BoxedLayer>,
    console: Console,
    pub(crate) traces: TracerProviderBuilder,
    pub(crate) logs: LoggerProviderBuilder,
    pub(crate) metrics: MeterProviderBuilder,
    pub(crate) sampler: Option<Box<dyn ShouldSample>>,
    /// Whether spans are created although no exporter is configured.
    pub(crate) has_span_processor: bool,
    /// Whether log records are created although no exporter is configured.
    pub(crate) has_log_processor: bool,
    /// Whether metrics are recorded although no exporter is configured.
    pub(crate) has_metric_reader: bool,
}

/// The console logs.
#[derive(Default)]
pub(crate) enum Console {
    /// The layer of this crate.
    #[default]
    Own,
    /// A layer of the application, or none.
    Other(Option<BoxedLayer>),
}

impl Builder {
    pub(crate) fn new(service: Service) -> Self {
        Self {
            service,
            config: None,
            resource: Vec::new(),
            detectors: Vec::new(),
            layers: Vec::new(),
            console: Console::Own,
            traces: SdkTracerProvider::builder(),
            logs: SdkLoggerProvider::builder(),
            metrics: SdkMeterProvider::builder(),
            sampler: None,
            has_span_processor: false,
            has_log_processor: false,
            has_metric_reader: false,
        }
    }

    /// Uses these settings instead of those from the environment.
    pub fn config(mut self, config: TelemetryConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Adds resource attributes. They override detected ones and `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn resource(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.resource.extend(attributes);
        self
    }

    /// Adds a resource detector, for example `K8sResourceDetector` of the crate
    /// `opentelemetry-resource-detectors`. Its attributes override those that this crate detects.
    pub fn with_detector(mut self, detector: impl ResourceDetector + 'static) -> Self {
        self.detectors.push(Box::new(detector));
        self
    }

    /// Adds a layer to the subscriber. A layer without a filter of its own receives everything.
    ///
    /// It runs after the layer that creates OpenTelemetry's spans. So
    /// [`trace_id`](crate::trace_id) works in it.
    pub fn with_layer(mut self, layer: impl Layer<Registry> + Send + Sync) -> Self {
        self.layers.push(layer.boxed());
        self
    }

    /// Replaces the console logs by a layer of the application.
    pub fn with_console_layer(mut self, layer: impl Layer<Registry> + Send + Sync) -> Self {
        self.console = Console::Other(Some(layer.boxed()));
        self
    }

    /// Leaves out the console logs.
    pub fn without_console(mut self) -> Self {
        self.console = Console::Other(None);
        self
    }

    /// Adds a span processor. It runs before the exporters'.
    pub fn with_span_processor(mut self, processor: impl SpanProcessor + 'static) -> Self {
        self.traces = self.traces.with_span_processor(processor);
        self.has_span_processor = true;
        self
    }

    /// Adds a processor of log records. It runs before the exporters' and can change records.
    pub fn with_log_processor(mut self, processor: impl LogProcessor + 'static) -> Self {
        self.logs = self.logs.with_log_processor(processor);
        self.has_log_processor = true;
        self
    }

    /// Adds a metric reader.
    pub fn with_metric_reader(mut self, reader: impl MetricReader) -> Self {
        self.metrics = self.metrics.with_reader(reader);
        self.has_metric_reader = true;
        self
    }

    /// Adds a view, which changes the name, the attributes or the aggregation of instruments.
    pub fn with_view<V>(mut self, view: V) -> Self
    where
        V: Fn(&Instrument) -> Option<Stream> + Send + Sync + 'static,
    {
        self.metrics = self.metrics.with_view(view);
        self
    }

    /// Uses this sampler instead of the one that `OTEL_TRACES_SAMPLER` names.
    pub fn with_sampler(mut self, sampler: impl ShouldSample + 'static) -> Self {
        self.sampler = Some(Box::new(sampler));
        self
    }

    /// Uses this generator of trace and span ids instead of random ids.
    pub fn with_id_generator(mut self, generator: impl IdGenerator + 'static) -> Self {
        self.traces = self.traces.with_id_generator(generator);
        self
    }

    /// Starts telemetry. Call it once in a process, before the first instrument is created: an
    /// instrument that is created earlier never exports.
    ///
    /// It works inside and outside a tokio runtime. Outside, there are no metrics of the runtime.
    ///
    /// # Errors
    ///
    /// An invalid setting, or a subscriber that is already installed. Then nothing is installed.
    pub fn install(mut self) -> Result<Telemetry, InitError> {
        let config = match self.config.take() {
            Some(config) => config,
            None => TelemetryConfig::from_env()?,
        };
        let is_free = dispatcher::get_default(Dispatch::is::<NoSubscriber>);
        if !is_free || INSTALLED.swap(true, Ordering::Relaxed) {
            return Err(InitError::AlreadyInstalled);
        }
        let installed = self.install_with(&config);
        if installed.is_err() {
            INSTALLED.store(false, Ordering::Relaxed);
        }
        installed
    }

    fn install_with(mut self, config: &TelemetryConfig) -> Result<Telemetry, InitError> {
        let (layers, console) = (mem::take(&mut self.layers), mem::take(&mut self.console));
        let console = ConsoleLogs::build(config, console)?;
        let mut telemetry = subscriber::while_starting(|| Telemetry::build(self, config))?;
        #[cfg(feature = "http")]
        if let Some(methods) = &config.http_known_methods {
            crate::http::method::set_known(methods);
        }
        subscriber::install(config, &mut telemetry, console, layers)?;
        log_warnings(config);
        panics::observe();
        process::observe();
        Ok(telemetry)
    }
}

/// Logs which settings were ignored.
fn log_warnings(config: &TelemetryConfig) {
    for warning in config.warnings.iter().chain(&variables::warnings()) {
        warn!(name: "telemetry_common.settings.ignored", "{warning}");
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
