//! The processors, exporters and readers of a file.

use std::{path::PathBuf, time::Duration};

use opentelemetry_sdk::metrics::Temporality;
use serde::Deserialize;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Empty, pairs};
use crate::{
    Processor,
    pipeline::{Exporter, OtlpFile, OtlpSettings, Pipeline, Reader},
};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProcessorModel {
    Batch(BatchModel),
    Simple(Simple),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchModel {
    schedule_delay: Option<u64>,
    #[serde(default = "batch_max_queue_size")]
    max_queue_size: usize,
    #[serde(default = "batch_max_export_batch_size")]
    max_export_batch_size: usize,
    exporter: ExporterModel,
}

/// The settings of a batch processor.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// `None`: the default of the signal.
    pub(crate) schedule_delay: Option<Duration>,
    pub(crate) max_export_batch_size: usize,
}

fn batch_max_queue_size() -> usize {
    2048
}

fn batch_max_export_batch_size() -> usize {
    512
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Simple {
    exporter: ExporterModel,
}

impl ProcessorModel {
    /// Returns the pipeline of spans.
    pub(super) fn of_spans(self) -> Result<Pipeline, String> {
        match self {
            Self::Batch(model) => model.pipeline(),
            Self::Simple(Simple { exporter }) => Ok(Pipeline {
                processor: Processor::Simple,
                queue_size: batch_max_queue_size(),
                batch: None,
                exporter: exporter.without_temporality()?,
            }),
        }
    }

    /// Returns the pipeline of log records.
    pub(super) fn of_logs(self) -> Result<Pipeline, String> {
        match self {
            Self::Batch(model) => model.pipeline(),
            Self::Simple(_) => Err("simple is not supported for log records".to_owned()),
        }
    }
}

impl BatchModel {
    fn pipeline(self) -> Result<Pipeline, String> {
        Ok(Pipeline {
            processor: Processor::Batch,
            queue_size: self.max_queue_size,
            batch: Some(Batch {
                schedule_delay: self.schedule_delay.map(Duration::from_millis),
                max_export_batch_size: self.max_export_batch_size,
            }),
            exporter: self.exporter.without_temporality()?,
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "some variants have no settings")]
#[serde(rename_all = "snake_case")]
enum ExporterModel {
    OtlpHttp(Option<Otlp>),
    OtlpGrpc(Option<Otlp>),
    Console(Option<Empty>),
}

impl ExporterModel {
    fn exporter(self) -> Result<Exporter, String> {
        let (is_grpc, settings) = match self {
            Self::Console(_) => return Ok(Exporter::Console),
            Self::OtlpHttp(settings) => (false, settings.unwrap_or_default()),
            Self::OtlpGrpc(_) if cfg!(not(feature = "grpc")) => {
                return Err("otlp_grpc needs the feature grpc of telemetry-common".to_owned());
            }
            Self::OtlpGrpc(settings) => (true, settings.unwrap_or_default()),
        };
        let file = OtlpFile {
            is_grpc,
            headers: settings.headers()?,
            settings,
        };
        Ok(Exporter::Otlp(OtlpSettings::File(Box::new(file))))
    }

    /// Returns the exporter of spans or log records, which have no temporality.
    fn without_temporality(self) -> Result<Exporter, String> {
        match self.exporter()? {
            Exporter::Otlp(OtlpSettings::File(file))
                if file.settings.temporality_preference.is_some() =>
            {
                Err("temporality_preference is for metrics only".to_owned())
            }
            exporter => Ok(exporter),
        }
    }
}

/// The settings of an OTLP exporter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Otlp {
    pub(crate) endpoint: Option<String>,
    tls: Tls,
    headers: Vec<Header>,
    headers_list: Option<String>,
    compression: Compression,
    /// In milliseconds.
    timeout: Option<u64>,
    encoding: Encoding,
    temporality_preference: Option<TemporalityPreference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

impl std::fmt::Debug for Header {
    /// The value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compression {
    #[default]
    None,
    Gzip,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Protobuf,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TemporalityPreference {
    Cumulative,
    Delta,
    LowMemory,
}

impl Otlp {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.unwrap_or(10_000))
    }

    pub(crate) fn is_gzip(&self) -> bool {
        matches!(self.compression, Compression::Gzip)
    }

    pub(crate) fn ca_file(&self) -> Option<&PathBuf> {
        self.tls.ca_file.as_ref()
    }

    /// Returns the headers; those of `headers` override those of `headers_list`. The values may be
    /// secrets, so the error names none.
    fn headers(&self) -> Result<HeaderMap, String> {
        let listed = pairs("headers_list", self.headers_list.as_deref())?;
        let own = self.headers.iter();
        let own = own.map(|header| (header.name.clone(), header.value.clone()));
        let mut headers = HeaderMap::new();
        for (name, value) in listed.into_iter().chain(own) {
            let invalid = || format!("the header {name:?} is not valid");
            let mut value: HeaderValue = value.parse().map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(&name).map_err(|_| invalid())?, value);
        }
        Ok(headers)
    }

    pub(crate) fn temporality(&self) -> Temporality {
        match self.temporality_preference {
            None | Some(TemporalityPreference::Cumulative) => Temporality::Cumulative,
            Some(TemporalityPreference::Delta) => Temporality::Delta,
            Some(TemporalityPreference::LowMemory) => Temporality::LowMemory,
        }
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "some variants have no settings")]
#[serde(rename_all = "snake_case")]
pub(super) enum ReaderModel {
    Periodic(Periodic),
    Pull(Pull),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Periodic {
    /// In milliseconds.
    #[serde(default = "metric_interval")]
    interval: u64,
    exporter: ExporterModel,
}

fn metric_interval() -> u64 {
    60_000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pull {
    #[serde(rename = "exporter")]
    _exporter: PullExporter,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "it has no settings")]
enum PullExporter {
    #[serde(rename = "prometheus/development")]
    Prometheus(Option<Empty>),
}

impl ReaderModel {
    pub(super) fn reader(self) -> Result<Reader, String> {
        Ok(match self {
            Self::Periodic(Periodic { interval, exporter }) => {
                let interval = Duration::from_millis(interval);
                Reader::Periodic(exporter.exporter()?, Some(interval))
            }
            Self::Pull(_) => Reader::Prometheus,
        })
    }
}
