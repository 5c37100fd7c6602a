//! The SDK's tracer, meter and logger providers. This module builds them from the settings, and
//! flushes and shuts them down within one time budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry::global;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{self, BatchLogProcessor, SdkLoggerProvider},
    metrics::{MeterProviderBuilder, SdkMeterProvider},
    trace::{self, BatchSpanProcessor, SdkTracerProvider, SimpleSpanProcessor},
};

use crate::{
    Exporter, InitError, Processor, Service, TelemetryConfig,
    bounded::BoundedProcessor,
    normalize::{
        CountingLogExporter, CountingMetricExporter, NormalizingLogProcessor,
        NormalizingSpanExporter,
    },
    otlp,
    pipeline_stats::{Components, LOGS, PipelineStats, SPANS},
    propagation, resource,
    sampler::CountingSampler,
    scope::Scopes,
    subscriber::ConsoleFilter,
};

/// The telemetry of this process, as [`init`](crate::init) started it.
///
/// Call [`shutdown`](Self::shutdown) at the end of the process: it exports what is still queued.
#[derive(Debug, Default)]
#[must_use = "without `shutdown` the last spans, logs and metrics are lost"]
pub struct Telemetry {
    pub(crate) traces: Option<SdkTracerProvider>,
    pub(crate) metrics: Option<SdkMeterProvider>,
    pub(crate) logs: Option<SdkLoggerProvider>,
    pipeline_stats: Vec<(&'static str, Arc<PipelineStats>)>,
    rejected_points: Arc<AtomicU64>,
    pub(crate) console: ConsoleFilter,
    #[cfg(feature = "sentry")]
    pub(crate) sentry: Option<crate::sentry::Reporter>,
    #[cfg(feature = "prometheus")]
    pub(crate) registry: prometheus::Registry,
}

/// Extra capacity of the SDK's queue, in items, beyond the bound of [`BoundedProcessor`]. The SDK's
/// queue also holds the SDK's control messages.
const SLACK: usize = 64;

/// The share of the shutdown budget for spans, log records and Sentry events. The rest is for
/// metrics.
const FLUSH_SHARE: f32 = 0.7;

impl Telemetry {
    /// Builds the providers and sets them as the global ones.
    pub(crate) fn build(config: &TelemetryConfig, service: Service) -> Result<Self, InitError> {
        global::set_text_map_propagator(propagation::propagator(&config.otel_propagators));
        let is_simple = config.traces_processor == Processor::Simple;
        if is_simple && config.otel_traces_exporter == Exporter::Otlp {
            return Err(InitError::Simple);
        }
        let mut telemetry = Self::default();
        let resource = resource::detect(service, config.otel_service_name.as_deref());
        #[cfg(feature = "sentry")]
        telemetry.build_sentry(config, &resource)?;
        if config.otel_sdk_disabled {
            return Ok(telemetry);
        }
        Scopes::set(service);
        // Metrics first: the statistics of the other signals need the meter.
        telemetry.build_metrics(config, resource.clone())?;
        telemetry.build_traces(config, resource.clone())?;
        telemetry.build_logs(config, resource)?;
        for (_, stats) in &telemetry.pipeline_stats {
            stats.observe();
        }
        Ok(telemetry)
    }

    #[cfg(feature = "sentry")]
    fn build_sentry(
        &mut self,
        config: &TelemetryConfig,
        resource: &Resource,
    ) -> Result<(), InitError> {
        let grafana = config.grafana_url.as_ref();
        self.sentry = crate::sentry::Reporter::build(&config.sentry, grafana, resource)?;
        let stats = self.sentry.as_ref().map(|sentry| Arc::clone(&sentry.stats));
        let stats = stats.map(|stats| ("Sentry events", stats));
        self.pipeline_stats.extend(stats);
        Ok(())
    }

    fn build_metrics(
        &mut self,
        config: &TelemetryConfig,
        resource: Resource,
    ) -> Result<(), InitError> {
        let builder = SdkMeterProvider::builder().with_resource(resource);
        #[cfg(feature = "prometheus")]
        let builder = builder.with_reader(
            opentelemetry_prometheus::exporter()
                .with_registry(self.registry.clone())
                .build()
                .map_err(InitError::Prometheus)?,
        );
        let rejected = Arc::clone(&self.rejected_points);
        let provider = match config.otel_metrics_exporter {
            Exporter::Otlp => {
                let types = ("otlp_http_metric_exporter", "otlp_grpc_metric_exporter");
                let component = otlp::component("METRICS", types);
                let exporter = CountingMetricExporter::new(otlp::metrics()?, component, rejected);
                builder.with_periodic_exporter(exporter)
            }
            Exporter::Console => {
                let exporter = opentelemetry_stdout::MetricExporter::default();
                let exporter =
                    CountingMetricExporter::new(exporter, "console_metric_exporter", rejected);
                builder.with_periodic_exporter(exporter)
            }
            Exporter::None => builder,
        };
        let provider = MeterProviderBuilder::build(provider);
        global::set_meter_provider(provider.clone());
        self.metrics = Some(provider);
        Ok(())
    }

    fn build_traces(
        &mut self,
        config: &TelemetryConfig,
        resource: Resource,
    ) -> Result<(), InitError> {
        let (provider, stats) = match config.otel_traces_exporter {
            Exporter::Otlp => {
                let types = ("otlp_http_span_exporter", "otlp_grpc_span_exporter");
                let component = otlp::component("TRACES", types);
                tracer_provider(config, resource, otlp::spans()?, component)
            }
            Exporter::Console => {
                let exporter = opentelemetry_stdout::SpanExporter::default();
                tracer_provider(config, resource, exporter, "console_span_exporter")
            }
            Exporter::None => return Ok(()),
        };
        global::set_tracer_provider(provider.clone());
        self.traces = Some(provider);
        self.pipeline_stats.push(("spans", stats));
        Ok(())
    }

    fn build_logs(
        &mut self,
        config: &TelemetryConfig,
        resource: Resource,
    ) -> Result<(), InitError> {
        let (provider, stats) = match config.otel_logs_exporter {
            Exporter::Otlp => {
                let types = ("otlp_http_log_exporter", "otlp_grpc_log_exporter");
                let component = otlp::component("LOGS", types);
                logger_provider(config, resource, otlp::logs()?, component)
            }
            Exporter::Console => {
                let exporter = opentelemetry_stdout::LogExporter::default();
                logger_provider(config, resource, exporter, "console_log_exporter")
            }
            Exporter::None => return Ok(()),
        };
        self.logs = Some(provider);
        self.pipeline_stats.push(("log records", stats));
        Ok(())
    }

    /// Returns the filter of the console logs, which can be changed at run time.
    pub fn console_filter(&self) -> ConsoleFilter {
        self.console.clone()
    }

    /// Returns the metrics of the process for a Prometheus endpoint.
    #[cfg(feature = "prometheus")]
    pub fn scrape(&self) -> crate::Scrape {
        crate::Scrape(self.registry.clone())
    }

    /// Exports the queued telemetry and shuts the providers down, within `budget`.
    ///
    /// It blocks the thread: call it outside the runtime or with `spawn_blocking`. It prints to
    /// stderr what was not delivered, because log records are no longer exported by then.
    pub fn shutdown(self, budget: Duration) {
        let (deadline, share) = (Instant::now() + budget, budget.mul_f32(FLUSH_SHARE));
        thread::scope(|threads| {
            threads.spawn(|| {
                self.traces
                    .map(|traces| traces.shutdown_with_timeout(share))
            });
            threads.spawn(|| self.logs.map(|logs| logs.shutdown_with_timeout(share)));
            #[cfg(feature = "sentry")]
            threads.spawn(|| self.sentry.map(|sentry| sentry.close(share)));
        });
        // The SDK's results do not show losses: a shutdown succeeds if its last batch was exported.
        for (items, stats) in self.pipeline_stats {
            report(items, stats.created_and_lost());
        }
        // Last, so that the losses of the other signals are still counted and exported.
        let remaining = deadline.saturating_duration_since(Instant::now());
        let metrics = self
            .metrics
            .map(|metrics| shutdown_within(remaining, metrics));
        report_metrics(metrics, self.rejected_points.load(Ordering::Relaxed));
    }
}

/// Shuts the meter provider down within `budget`. The SDK ignores its timeout argument: it waits
/// for the last export without a limit.
fn shutdown_within(budget: Duration, metrics: SdkMeterProvider) -> OTelSdkResult {
    let (done, finished) = channel();
    thread::spawn(move || done.send(metrics.shutdown_with_timeout(budget)));
    let in_time = finished.recv_timeout(budget);
    in_time.unwrap_or(Err(OTelSdkError::Timeout(budget)))
}

#[expect(clippy::print_stderr, reason = "logging has ended")]
fn report(items: &str, (created, lost): (u64, u64)) {
    if lost > 0 {
        eprintln!("telemetry: {lost} of {created} {items} were not delivered");
    }
}

#[expect(clippy::print_stderr, reason = "logging has ended")]
fn report_metrics(result: Option<OTelSdkResult>, rejected: u64) {
    if rejected > 0 {
        eprintln!("telemetry: {rejected} metric data points were rejected");
    }
    if let Some(Err(error)) = result {
        eprintln!("telemetry: the last metrics may be lost: {error}");
    }
}

/// `component` is the `otel.component.type` of `exporter`.
fn tracer_provider<E: trace::SpanExporter + 'static>(
    config: &TelemetryConfig,
    resource: Resource,
    exporter: E,
    component: &'static str,
) -> (SdkTracerProvider, Arc<PipelineStats>) {
    let components = Components {
        processor: match config.traces_processor {
            Processor::Batch => "batching_span_processor",
            Processor::Simple => "simple_span_processor",
        },
        exporter: component,
    };
    let stats = PipelineStats::new(&SPANS, config.otel_bsp_max_queue_size, components);
    let exporter = NormalizingSpanExporter {
        exporter,
        stats: Arc::clone(&stats),
        length_limit: config.otel_attribute_value_length_limit,
    };
    let provider = SdkTracerProvider::builder()
        .with_sampler(CountingSampler::from_environment())
        .with_resource(resource);
    let provider = match config.traces_processor {
        Processor::Batch => {
            let queue = config.otel_bsp_max_queue_size + SLACK;
            let batches = trace::BatchConfigBuilder::default().with_max_queue_size(queue);
            let processor =
                BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
            provider.with_span_processor(BoundedProcessor {
                processor: processor.build(),
                stats: Arc::clone(&stats),
            })
        }
        Processor::Simple => provider.with_span_processor(BoundedProcessor {
            processor: SimpleSpanProcessor::new(exporter),
            stats: Arc::clone(&stats),
        }),
    };
    (provider.build(), stats)
}

/// `component` is the `otel.component.type` of `exporter`.
fn logger_provider<E: logs::LogExporter + 'static>(
    config: &TelemetryConfig,
    resource: Resource,
    exporter: E,
    component: &'static str,
) -> (SdkLoggerProvider, Arc<PipelineStats>) {
    let components = Components {
        processor: "batching_log_processor",
        exporter: component,
    };
    let stats = PipelineStats::new(&LOGS, config.otel_blrp_max_queue_size, components);
    let exporter = CountingLogExporter {
        exporter,
        stats: Arc::clone(&stats),
    };
    let queue = config.otel_blrp_max_queue_size + SLACK;
    let batches = logs::BatchConfigBuilder::default().with_max_queue_size(queue);
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches.build());
    let provider = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(NormalizingLogProcessor)
        .with_log_processor(BoundedProcessor {
            processor: processor.build(),
            stats: Arc::clone(&stats),
        });
    (provider.build(), stats)
}
