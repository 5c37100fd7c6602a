//! The pipelines of the three signals, as the environment or a configuration file describes them.

use std::time::Duration;

use ureq::http::HeaderMap;

use crate::{
    InitError, Processor, TelemetryConfig, config,
    config_file::{Batch, Otlp},
};

/// A processor of spans or log records with its exporter.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) processor: Processor,
    /// Maximum number of items in the queue.
    pub(crate) queue_size: usize,
    /// `None`: the SDK reads the environment.
    pub(crate) batch: Option<Batch>,
    pub(crate) exporter: Exporter,
}

/// An exporter with its settings.
#[derive(Clone, Debug)]
pub(crate) enum Exporter {
    Otlp(OtlpSettings),
    Console,
}

/// Where the settings of an OTLP exporter are.
#[derive(Clone, Debug)]
pub(crate) enum OtlpSettings {
    /// In the environment.
    Environment,
    /// In a configuration file.
    File(Box<OtlpFile>),
}

/// The settings of an OTLP exporter in a configuration file.
#[derive(Clone, Debug)]
pub(crate) struct OtlpFile {
    pub(crate) is_grpc: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) settings: Otlp,
}

/// A metric reader.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// Exports at an interval. `None`: the SDK reads the interval from the environment.
    Periodic(Exporter, Option<Duration>),
    /// Is read by Prometheus.
    Prometheus,
}

/// Returns the pipelines of spans.
pub(crate) fn of_spans(config: &TelemetryConfig) -> Result<Vec<Pipeline>, InitError> {
    let pipelines = match &config.file {
        Some(file) => file.traces.clone(),
        None => from_environment(
            &config.traces_exporters,
            config.traces_processor,
            config.span_queue_size,
        )?,
    };
    let waits = |pipeline: &Pipeline| {
        pipeline.processor == Processor::Simple && matches!(pipeline.exporter, Exporter::Otlp(_))
    };
    if pipelines.iter().any(waits) {
        return Err(InitError::Simple);
    }
    Ok(pipelines)
}

/// Returns the pipelines of log records.
pub(crate) fn of_logs(config: &TelemetryConfig) -> Result<Vec<Pipeline>, InitError> {
    match &config.file {
        Some(file) => Ok(file.logs.clone()),
        None => from_environment(
            &config.logs_exporters,
            Processor::Batch,
            config.log_queue_size,
        ),
    }
}

/// Returns the readers of metrics.
pub(crate) fn of_metrics(config: &TelemetryConfig) -> Vec<Reader> {
    let reader = |exporter: &config::Exporter| match exporter {
        config::Exporter::Otlp => Reader::Periodic(Exporter::Otlp(OtlpSettings::Environment), None),
        config::Exporter::Console => Reader::Periodic(Exporter::Console, None),
        config::Exporter::Prometheus => Reader::Prometheus,
    };
    match &config.file {
        Some(file) => file.metrics.clone(),
        None => config.metrics_exporters.iter().map(reader).collect(),
    }
}

fn from_environment(
    exporters: &[config::Exporter],
    processor: Processor,
    queue_size: usize,
) -> Result<Vec<Pipeline>, InitError> {
    let pipeline = |exporter: &config::Exporter| {
        Ok(Pipeline {
            processor,
            queue_size,
            batch: None,
            exporter: match exporter {
                config::Exporter::Otlp => Exporter::Otlp(OtlpSettings::Environment),
                config::Exporter::Console => Exporter::Console,
                config::Exporter::Prometheus => return Err(InitError::NoPrometheus),
            },
        })
    };
    exporters.iter().map(pipeline).collect()
}
