//! The three SDK providers: built from the settings, flushed and shut down within one budget.

use std::{
    sync::{Arc, mpsc::channel},
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
    normalize::{
        CountingLogExporter, CountingMetricExporter, NormalizingLogProcessor,
        NormalizingSpanExporter,
    },
    otlp,
    pipeline_stats::{BoundedProcessor, LOGS, PipelineStats, SPANS},
    propagation, resource,
    subscriber::ConsoleFilter,
};

/// What was set up, to be shut down at the end; `None` where a signal is off.
#[derive(Debug, Default)]
#[must_use = "without `shutdown` the last spans, logs and metrics are lost"]
pub struct Telemetry {
    pub(crate) traces: Option<SdkTracerProvider>,
    pub(crate) metrics: Option<SdkMeterProvider>,
    pub(crate) logs: Option<SdkLoggerProvider>,
    pipeline_stats: Vec<(&'static str, Arc<PipelineStats>)>,
    pub(crate) console: ConsoleFilter,
    #[cfg(feature = "sentry")]
    pub(crate) sentry: Option<crate::sentry::Reporter>,
    #[cfg(feature = "prometheus")]
    pub(crate) registry: prometheus::Registry,
}

/// Room beside the queue for what the SDK itself puts there; our gate is the one that closes.
const SLACK: usize = 64;

/// The part of the time to stop that spans, log records and Sentry events have; metrics have the rest.
const FLUSH_SHARE: f32 = 0.7;

impl Telemetry {
    /// Builds the providers and makes them the process's own.
    pub(crate) fn build(config: &TelemetryConfig, service: Service) -> Result<Self, InitError> {
        global::set_text_map_propagator(propagation::propagator(&config.otel_propagators));
        let is_simple = config.traces_processor == Processor::Simple;
        if is_simple && config.otel_traces_exporter == Exporter::Otlp {
            return Err(InitError::Simple);
        }
        let mut telemetry = Self::default();
        let resource = resource::detect(service, config.otel_service_name.as_deref());
        #[cfg(feature = "sentry")]
        {
            telemetry.sentry = {
                let grafana = config.grafana_url.as_ref();
                crate::sentry::Reporter::build(&config.sentry, grafana, &resource)?
            };
            let stats = telemetry.sentry.as_ref().map(|sentry| &sentry.stats);
            let stats = stats.map(|stats| ("Sentry events", Arc::clone(stats)));
            telemetry.pipeline_stats.extend(stats);
        }
        if config.otel_sdk_disabled {
            return Ok(telemetry);
        }
        // Metrics first: what counts the others finds the meter when it is built.
        telemetry.build_metrics(config, resource.clone())?;
        telemetry.build_traces(config, resource.clone())?;
        telemetry.build_logs(config, resource)?;
        for (_, stats) in &telemetry.pipeline_stats {
            stats.observe();
        }
        Ok(telemetry)
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
        let provider = match config.otel_metrics_exporter {
            Exporter::Otlp => {
                builder.with_periodic_exporter(CountingMetricExporter::new(otlp::metrics()?))
            }
            Exporter::Console => {
                let exporter = opentelemetry_stdout::MetricExporter::default();
                builder.with_periodic_exporter(CountingMetricExporter::new(exporter))
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
        let stats = PipelineStats::new(&SPANS, config.otel_bsp_max_queue_size);
        let provider = match config.otel_traces_exporter {
            Exporter::Otlp => tracer_provider(config, resource, otlp::spans()?, &stats),
            Exporter::Console => {
                let exporter = opentelemetry_stdout::SpanExporter::default();
                tracer_provider(config, resource, exporter, &stats)
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
        let stats = PipelineStats::new(&LOGS, config.otel_blrp_max_queue_size);
        let provider = match config.otel_logs_exporter {
            Exporter::Otlp => logger_provider(config, resource, otlp::logs()?, &stats),
            Exporter::Console => {
                let exporter = opentelemetry_stdout::LogExporter::default();
                logger_provider(config, resource, exporter, &stats)
            }
            Exporter::None => return Ok(()),
        };
        self.logs = Some(provider);
        self.pipeline_stats.push(("log records", stats));
        Ok(())
    }

    /// The console's filter, which can be changed while the process runs.
    pub fn console_filter(&self) -> ConsoleFilter {
        self.console.clone()
    }

    /// The process's metrics, to be asked for as Prometheus text.
    #[cfg(feature = "prometheus")]
    pub fn scrape(&self) -> crate::Scrape {
        crate::Scrape(self.registry.clone())
    }

    /// Exports what is queued and stops, all of it within `budget`.
    ///
    /// It blocks: call it from outside the runtime or with `spawn_blocking`. What was not delivered
    /// is said on stderr, for logging is gone by then.
    pub fn shutdown(self, budget: Duration) {
        let (deadline, most) = (Instant::now() + budget, budget.mul_f32(FLUSH_SHARE));
        thread::scope(|side_by_side| {
            side_by_side.spawn(|| self.traces.map(|traces| traces.shutdown_with_timeout(most)));
            side_by_side.spawn(|| self.logs.map(|logs| logs.shutdown_with_timeout(most)));
            #[cfg(feature = "sentry")]
            side_by_side.spawn(|| self.sentry.map(|sentry| sentry.close(most)));
        });
        // The SDK's answers say little: a shutdown is fine when only its last batch was.
        for (what, stats) in self.pipeline_stats {
            report(what, stats.created_and_lost());
        }
        // Last, so that what the other two lost is still counted and sent.
        let left = deadline.saturating_duration_since(Instant::now());
        let metrics = self.metrics.map(|metrics| within(left, metrics));
        report_metrics(metrics);
    }
}

/// The SDK waits for its last export as long as that takes, whatever it is told.
fn within(budget: Duration, metrics: SdkMeterProvider) -> OTelSdkResult {
    let (done, told) = channel();
    thread::spawn(move || done.send(metrics.shutdown_with_timeout(budget)));
    let in_time = told.recv_timeout(budget);
    in_time.unwrap_or(Err(OTelSdkError::Timeout(budget)))
}

#[expect(clippy::print_stderr, reason = "logging is gone by now")]
fn report(what: &str, (created, lost): (u64, u64)) {
    if lost > 0 {
        eprintln!("telemetry: {lost} of {created} {what} were not delivered");
    }
}

#[expect(clippy::print_stderr, reason = "logging is gone by now")]
fn report_metrics(result: Option<OTelSdkResult>) {
    if let Some(Err(error)) = result {
        eprintln!("telemetry: the last metrics may be lost: {error}");
    }
}

fn tracer_provider<E: trace::SpanExporter + 'static>(
    config: &TelemetryConfig,
    resource: Resource,
    exporter: E,
    stats: &Arc<PipelineStats>,
) -> SdkTracerProvider {
    let exporter = NormalizingSpanExporter {
        exporter,
        stats: Arc::clone(stats),
        length_limit: config.otel_attribute_value_length_limit,
    };
    let stats = Arc::clone(stats);
    let provider = SdkTracerProvider::builder().with_resource(resource);
    match config.traces_processor {
        Processor::Batch => {
            let queue = config.otel_bsp_max_queue_size + SLACK;
            let batches = trace::BatchConfigBuilder::default().with_max_queue_size(queue);
            let processor =
                BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
            let processor = processor.build();
            provider.with_span_processor(BoundedProcessor { processor, stats })
        }
        Processor::Simple => {
            let processor = SimpleSpanProcessor::new(exporter);
            provider.with_span_processor(BoundedProcessor { processor, stats })
        }
    }
    .build()
}

fn logger_provider<E: logs::LogExporter + 'static>(
    config: &TelemetryConfig,
    resource: Resource,
    exporter: E,
    stats: &Arc<PipelineStats>,
) -> SdkLoggerProvider {
    let exporter = CountingLogExporter {
        exporter,
        stats: Arc::clone(stats),
    };
    let queue = config.otel_blrp_max_queue_size + SLACK;
    let batches = logs::BatchConfigBuilder::default().with_max_queue_size(queue);
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches.build());
    SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(NormalizingLogProcessor)
        .with_log_processor(BoundedProcessor {
            processor: processor.build(),
            stats: Arc::clone(stats),
        })
        .build()
}
