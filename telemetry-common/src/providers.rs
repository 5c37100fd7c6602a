//! The SDK's tracer, meter and logger providers, built from the settings.

use std::{sync::Arc, time::Duration};

use opentelemetry::global;
use opentelemetry_sdk::{
    Resource,
    logs::{self, BatchLogProcessor, LogExporter, LoggerProviderBuilder},
    metrics::{
        Aggregation, Instrument, MeterProviderBuilder, PeriodicReader, Stream,
        exporter::PushMetricExporter,
    },
    trace::{self, BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, TracerProviderBuilder},
};

use crate::{
    InitError, LogOutput, Processor, Telemetry, TelemetryConfig,
    bounded::BoundedProcessor,
    builder::Builder,
    log_fields::AddSpanFields,
    normalize::{
        CountingLogExporter, CountingMetricExporter, NormalizingLogProcessor,
        NormalizingSpanExporter,
    },
    otlp,
    pipeline::{self, Exporter, Pipeline, Reader},
    pipeline_stats::{Components, LOGS, PipelineStats, SPANS},
    propagation, resource,
    sampling::{self, CountingSampler},
    scope::Scopes,
};

/// Extra capacity of the SDK's queue, in items, beyond the bound of [`BoundedProcessor`]. The SDK's
/// queue also holds the SDK's control messages.
const SLACK: usize = 64;

/// The scope of the metrics that the SDK records about itself.
const SDK_SCOPE: &str = "otel.sdk";

impl Telemetry {
    /// Builds the providers and sets them as the global ones. After an error, no global is set.
    pub(crate) fn build(builder: Builder, config: &TelemetryConfig) -> Result<Self, InitError> {
        let service = builder.service;
        let resource = resource::detect(&builder, config);
        let mut telemetry = Self::default();
        if config.sdk_disabled {
            telemetry.build_sentry(config, &resource)?;
            propagation::install(&config.propagators);
            return Ok(telemetry);
        }
        #[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
        let span_readers = crate::edge::Readers::of(&builder, config);
        let (spans, logs) = (pipeline::of_spans(config)?, pipeline::of_logs(config)?);
        let readers = pipeline::of_metrics(config);
        let has_spans = builder.has_span_processor || !spans.is_empty();
        let has_metrics = builder.has_metric_reader || !readers.is_empty();
        let has_logs = builder.has_log_processor || !logs.is_empty();
        let metrics = telemetry.add_readers(add_views(builder.metrics, config), readers)?;
        let traces = add_limits(builder.traces, config);
        let limit = config.attribute_value_length_limit;
        let traces = telemetry.add_span_pipelines(traces, spans, limit)?;
        let provider = builder.logs.with_log_processor(NormalizingLogProcessor);
        let provider = if config.log_span_fields.contains(&LogOutput::Otlp) {
            provider.with_log_processor(AddSpanFields)
        } else {
            provider
        };
        let logs = telemetry.add_log_pipelines(provider, logs)?;
        telemetry.build_sentry(config, &resource)?;

        propagation::install(&config.propagators);
        Scopes::set(service);
        // Metrics first: the statistics of the other signals need the meter. A provider without a
        // reader would log an error for each instrument.
        if has_metrics {
            let metrics = MeterProviderBuilder::build(metrics.with_resource(resource.clone()));
            global::set_meter_provider(metrics.clone());
            telemetry.metrics = Some(metrics);
        }
        if has_spans {
            let sampler = builder
                .sampler
                .unwrap_or_else(|| sampling::configured(config));
            let sampler = CountingSampler(sampler);
            sampling::observe();
            let traces = traces
                .with_sampler(sampler)
                .with_resource(resource.clone())
                .build();
            global::set_tracer_provider(traces.clone());
            #[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
            crate::edge::export(&config.traces_filter, span_readers);
            telemetry.traces = Some(traces);
        }
        if has_logs {
            telemetry.logs = Some(logs.with_resource(resource).build());
        }
        for (_, stats) in &telemetry.pipeline_stats {
            stats.observe();
        }
        Ok(telemetry)
    }

    #[cfg(not(feature = "sentry"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with the feature sentry"
    )]
    fn build_sentry(&self, _: &TelemetryConfig, _: &Resource) -> Result<(), InitError> {
        Ok(())
    }

    #[cfg(feature = "sentry")]
    fn build_sentry(
        &mut self,
        config: &TelemetryConfig,
        resource: &Resource,
    ) -> Result<(), InitError> {
        self.sentry = crate::sentry::Reporter::build(config, resource)?;
        let stats = self.sentry.as_ref().map(|sentry| Arc::clone(&sentry.stats));
        let stats = stats.map(|stats| ("Sentry events", stats));
        self.pipeline_stats.extend(stats);
        Ok(())
    }

    fn add_readers(
        &mut self,
        mut metrics: MeterProviderBuilder,
        readers: Vec<Reader>,
    ) -> Result<MeterProviderBuilder, InitError> {
        for reader in readers {
            metrics = match reader {
                Reader::Periodic(Exporter::Otlp(settings), interval) => {
                    let types = ("otlp_http_metric_exporter", "otlp_grpc_metric_exporter");
                    let component = otlp::component("METRICS", &settings, types);
                    self.add_reader(metrics, otlp::metrics(&settings)?, component, interval)
                }
                Reader::Periodic(Exporter::Console, interval) => {
                    let exporter = opentelemetry_stdout::MetricExporter::default();
                    self.add_reader(metrics, exporter, "console_metric_exporter", interval)
                }
                #[cfg(feature = "prometheus")]
                Reader::Prometheus => {
                    let registry = self.registry.insert(prometheus::Registry::new()).clone();
                    let reader = opentelemetry_prometheus::exporter().with_registry(registry);
                    metrics.with_reader(reader.build().map_err(InitError::Prometheus)?)
                }
                #[cfg(not(feature = "prometheus"))]
                Reader::Prometheus => return Err(InitError::NoPrometheus),
            };
        }
        Ok(metrics)
    }

    /// `component` is the `otel.component.type` of `exporter`.
    fn add_reader<E: PushMetricExporter>(
        &self,
        metrics: MeterProviderBuilder,
        exporter: E,
        component: &'static str,
        interval: Option<Duration>,
    ) -> MeterProviderBuilder {
        let rejected = Arc::clone(&self.rejected_points);
        let exporter = CountingMetricExporter::new(exporter, component, rejected);
        let reader = PeriodicReader::builder(exporter);
        let reader = match interval {
            Some(interval) => reader.with_interval(interval),
            None => reader,
        };
        metrics.with_reader(reader.build())
    }

    fn add_span_pipelines(
        &mut self,
        mut traces: TracerProviderBuilder,
        pipelines: Vec<Pipeline>,
        length_limit: Option<usize>,
    ) -> Result<TracerProviderBuilder, InitError> {
        for pipeline in pipelines {
            traces = match &pipeline.exporter {
                Exporter::Otlp(settings) => {
                    let types = ("otlp_http_span_exporter", "otlp_grpc_span_exporter");
                    let component = otlp::component("TRACES", settings, types);
                    let exporter = otlp::spans(settings)?;
                    self.add_span_pipeline(traces, &pipeline, length_limit, exporter, component)
                }
                Exporter::Console => {
                    let exporter = opentelemetry_stdout::SpanExporter::default();
                    let component = "console_span_exporter";
                    self.add_span_pipeline(traces, &pipeline, length_limit, exporter, component)
                }
            };
        }
        Ok(traces)
    }

    /// `component` is the `otel.component.type` of `exporter`.
    fn add_span_pipeline<E: SpanExporter + 'static>(
        &mut self,
        traces: TracerProviderBuilder,
        pipeline: &Pipeline,
        length_limit: Option<usize>,
        exporter: E,
        component: &'static str,
    ) -> TracerProviderBuilder {
        let components = Components {
            processor: match pipeline.processor {
                Processor::Batch => "batching_span_processor",
                Processor::Simple => "simple_span_processor",
            },
            exporter: component,
        };
        let stats = PipelineStats::new(&SPANS, pipeline.queue_size, components);
        self.pipeline_stats.push(("spans", Arc::clone(&stats)));
        let exporter = NormalizingSpanExporter {
            exporter,
            stats: Arc::clone(&stats),
            length_limit,
        };
        if pipeline.processor == Processor::Simple {
            let processor = SimpleSpanProcessor::new(exporter);
            return traces.with_span_processor(BoundedProcessor { processor, stats });
        }
        let mut batches =
            trace::BatchConfigBuilder::default().with_max_queue_size(pipeline.queue_size + SLACK);
        if let Some(batch) = &pipeline.batch {
            let delay = batch.schedule_delay.unwrap_or(Duration::from_secs(5));
            batches = batches
                .with_scheduled_delay(delay)
                .with_max_export_batch_size(batch.max_export_batch_size);
        }
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
        let processor = processor.build();
        traces.with_span_processor(BoundedProcessor { processor, stats })
    }

    fn add_log_pipelines(
        &mut self,
        mut logs: LoggerProviderBuilder,
        pipelines: Vec<Pipeline>,
    ) -> Result<LoggerProviderBuilder, InitError> {
        for pipeline in pipelines {
            logs = match &pipeline.exporter {
                Exporter::Otlp(settings) => {
                    let types = ("otlp_http_log_exporter", "otlp_grpc_log_exporter");
                    let component = otlp::component("LOGS", settings, types);
                    self.add_log_pipeline(logs, &pipeline, otlp::logs(settings)?, component)
                }
                Exporter::Console => {
                    let exporter = opentelemetry_stdout::LogExporter::default();
                    self.add_log_pipeline(logs, &pipeline, exporter, "console_log_exporter")
                }
            };
        }
        Ok(logs)
    }

    /// `component` is the `otel.component.type` of `exporter`.
    fn add_log_pipeline<E: LogExporter + 'static>(
        &mut self,
        logs: LoggerProviderBuilder,
        pipeline: &Pipeline,
        exporter: E,
        component: &'static str,
    ) -> LoggerProviderBuilder {
        let components = Components {
            processor: "batching_log_processor",
            exporter: component,
        };
        let stats = PipelineStats::new(&LOGS, pipeline.queue_size, components);
        self.pipeline_stats
            .push(("log records", Arc::clone(&stats)));
        let exporter = CountingLogExporter {
            exporter,
            stats: Arc::clone(&stats),
        };
        let mut batches =
            logs::BatchConfigBuilder::default().with_max_queue_size(pipeline.queue_size + SLACK);
        if let Some(batch) = &pipeline.batch {
            let delay = batch.schedule_delay.unwrap_or(Duration::from_secs(1));
            batches = batches
                .with_scheduled_delay(delay)
                .with_max_export_batch_size(batch.max_export_batch_size);
        }
        let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches.build());
        let processor = processor.build();
        logs.with_log_processor(BoundedProcessor { processor, stats })
    }
}

/// Adds the views of a configuration file. Drops the metrics of the SDK about itself, which it has since the
/// feature for bound instruments: those of this crate also count what the queues drop.
fn add_views(metrics: MeterProviderBuilder, config: &TelemetryConfig) -> MeterProviderBuilder {
    let metrics = metrics.with_view(|instrument: &Instrument| {
        let dropped = Stream::builder().with_aggregation(Aggregation::Drop);
        let is_own = instrument.scope().name() == SDK_SCOPE;
        is_own.then(|| dropped.build().ok()).flatten()
    });
    let views = config.file.iter().flat_map(|file| file.views.clone());
    views.fold(metrics, |metrics, view| {
        metrics.with_view(move |instrument: &Instrument| view.stream(instrument))
    })
}

/// Adds the limits of a configuration file.
fn add_limits(
    mut traces: TracerProviderBuilder,
    config: &TelemetryConfig,
) -> TracerProviderBuilder {
    let Some(limits) = config.file.as_ref().map(|file| &file.limits) else {
        return traces;
    };
    if let Some(limit) = limits.attributes {
        traces = traces.with_max_attributes_per_span(limit);
    }
    if let Some(limit) = limits.events {
        traces = traces.with_max_events_per_span(limit);
    }
    if let Some(limit) = limits.links {
        traces = traces.with_max_links_per_span(limit);
    }
    if let Some(limit) = limits.attributes_of_event {
        traces = traces.with_max_attributes_per_event(limit);
    }
    if let Some(limit) = limits.attributes_of_link {
        traces = traces.with_max_attributes_per_link(limit);
    }
    traces
}
