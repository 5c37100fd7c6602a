//! The three SDK providers: built from the settings, flushed and shut down within one budget.

use std::{
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{global, propagation::TextMapCompositePropagator};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};

use crate::{
    Exporter, InitError, Propagator, Service, TelemetryConfig, resource,
    tidy::{TidyLogs, TidyMetrics, TidySpans},
};

/// What was set up, to be shut down at the end; `None` where a signal is off.
#[derive(Debug, Default)]
#[must_use = "without `shutdown` the last spans, logs and metrics are lost"]
pub struct Telemetry {
    pub(crate) traces: Option<SdkTracerProvider>,
    pub(crate) metrics: Option<SdkMeterProvider>,
    pub(crate) logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Builds the providers and makes them the process's own.
    pub(crate) fn build(config: &TelemetryConfig, service: Service) -> Result<Self, InitError> {
        global::set_text_map_propagator(propagator(&config.otel_propagators));
        let resource = resource::detect(service, config.otel_service_name.as_deref());
        let on = |exporter| !config.otel_sdk_disabled && exporter == Exporter::Otlp;
        let mut telemetry = Self::default();
        // Metrics first: the span and log processors count themselves with the global meter they
        // find when they are built.
        if on(config.otel_metrics_exporter) {
            let exporter =
                MetricExporter::builder()
                    .build()
                    .map_err(|source| InitError::Exporter {
                        signal: "metrics",
                        source,
                    })?;
            telemetry.metrics = Some(meter_provider(resource.clone(), exporter));
        }
        if on(config.otel_traces_exporter) {
            let exporter =
                SpanExporter::builder()
                    .build()
                    .map_err(|source| InitError::Exporter {
                        signal: "traces",
                        source,
                    })?;
            telemetry.traces = Some(tracer_provider(
                resource.clone(),
                exporter,
                config.otel_bsp_max_queue_size,
            ));
        }
        if on(config.otel_logs_exporter) {
            let exporter =
                LogExporter::builder()
                    .build()
                    .map_err(|source| InitError::Exporter {
                        signal: "logs",
                        source,
                    })?;
            telemetry.logs = Some(logger_provider(resource, exporter));
        }
        Ok(telemetry)
    }

    /// Exports what is queued and stops, all of it within `budget`.
    ///
    /// It blocks: call it from outside the runtime or with `spawn_blocking`. What could not be
    /// delivered is said on stderr, for logging is gone by then.
    pub fn shutdown(self, budget: Duration) {
        let deadline = Instant::now() + budget;
        thread::scope(|side_by_side| {
            side_by_side.spawn(|| {
                report(
                    "traces",
                    self.traces
                        .map(|traces| traces.shutdown_with_timeout(budget)),
                );
            });
            side_by_side.spawn(|| {
                report(
                    "logs",
                    self.logs.map(|logs| logs.shutdown_with_timeout(budget)),
                );
            });
        });
        // Last, so that what the other two lost is still counted and sent.
        let left = deadline.saturating_duration_since(Instant::now());
        report(
            "metrics",
            self.metrics
                .map(|metrics| metrics.shutdown_with_timeout(left)),
        );
    }
}

#[expect(clippy::print_stderr, reason = "logging is gone by now")]
fn report(signal: &str, result: Option<OTelSdkResult>) {
    if let Some(Err(error)) = result {
        eprintln!("telemetry: the last {signal} may be lost: {error}");
    }
}

fn propagator(chosen: &[Propagator]) -> TextMapCompositePropagator {
    let mut propagators: Vec<Box<dyn opentelemetry::propagation::TextMapPropagator + Send + Sync>> =
        Vec::new();
    for propagator in chosen {
        match propagator {
            Propagator::TraceContext => propagators.push(Box::new(TraceContextPropagator::new())),
            Propagator::Baggage => propagators.push(Box::new(BaggagePropagator::new())),
            Propagator::None => {}
        }
    }
    TextMapCompositePropagator::new(propagators)
}

fn meter_provider(resource: Resource, exporter: MetricExporter) -> SdkMeterProvider {
    let provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(TidyMetrics::new(exporter))
        .build();
    global::set_meter_provider(provider.clone());
    provider
}

fn tracer_provider(resource: Resource, exporter: SpanExporter, queue: usize) -> SdkTracerProvider {
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(queue)
        .build();
    let processor = BatchSpanProcessor::builder(TidySpans(exporter))
        .with_batch_config(batches)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(processor)
        .build();
    global::set_tracer_provider(provider.clone());
    provider
}

fn logger_provider(resource: Resource, exporter: LogExporter) -> SdkLoggerProvider {
    SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(TidyLogs)
        .with_batch_exporter(exporter)
        .build()
}
