//! Declarative configuration: the file that `OTEL_CONFIG_FILE` names.
//!
//! It reads the parts of the schema that the SDK for Rust can apply. An unknown or unsupported part
//! is an error that names it. With a file, the variables of OpenTelemetry are ignored, as the
//! specification demands; those of this crate, such as `LOG_FORMAT`, still apply.
//!
//! Schema 1.0: <https://opentelemetry.io/docs/specs/otel/configuration/data-model/>.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use opentelemetry::{Array, KeyValue, StringValue, Value as AttributeValue};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, Stream, Temporality};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    InvalidSetting, Processor, Propagator, TelemetryConfig, TracesSampler,
    config::FILE,
    pipeline::{Exporter, OtlpSettings, Pipeline, Reader},
};

/// The parts of a file that [`TelemetryConfig`] has no field for.
#[derive(Clone, Debug)]
pub(crate) struct FileSettings {
    pub(crate) traces: Vec<Pipeline>,
    pub(crate) logs: Vec<Pipeline>,
    pub(crate) metrics: Vec<Reader>,
    pub(crate) limits: SpanLimits,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) views: Vec<View>,
}

/// Reads `path` into `config`. `variable` returns the value of an environment variable.
pub(crate) fn read(
    config: &mut TelemetryConfig,
    path: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), InvalidSetting> {
    let invalid = |reason: String| InvalidSetting {
        name: FILE,
        reason: format!("{path}: {reason}"),
    };
    let text = fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
    let value = serde_yaml_ng::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let value = substitute(value, &variable);
    let file: File = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
    file.apply(config).map_err(invalid)
}

/// Replaces `${NAME}`, `${env:NAME}` and `${NAME:-default}` in every scalar. `$$` is a dollar sign.
/// The type of a replaced scalar is that of its new text.
fn substitute(value: Value, variable: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) if text.contains('$') => {
            let text = substitute_text(&text, variable);
            match serde_yaml_ng::from_str(&text) {
                Ok(scalar @ (Value::Null | Value::Bool(_) | Value::Number(_))) => scalar,
                _ => Value::String(text),
            }
        }
        Value::Array(items) => {
            let items = items.into_iter().map(|item| substitute(item, variable));
            Value::Array(items.collect())
        }
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value)| (name, substitute(value, variable)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

fn substitute_text(text: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut output = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            output.push('$');
            rest = escaped;
        } else if let Some((reference, after)) =
            after.strip_prefix('{').and_then(|it| it.split_once('}'))
        {
            let reference = reference.strip_prefix("env:").unwrap_or(reference);
            let (name, default) = reference.split_once(":-").unwrap_or((reference, ""));
            let value = variable(name).filter(|value| !value.is_empty());
            output.push_str(value.as_deref().unwrap_or(default));
            rest = after;
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "file_format")]
    format: String,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    resource: Resource,
    propagator: Option<Propagators>,
    tracer_provider: Option<TracerProvider>,
    meter_provider: Option<MeterProvider>,
    logger_provider: Option<LoggerProvider>,
}

impl File {
    fn apply(self, config: &mut TelemetryConfig) -> Result<(), String> {
        if !self.format.starts_with("1.") {
            let found = self.format;
            return Err(format!("file_format {found:?} is not supported, only 1.0"));
        }
        config.sdk_disabled = self.disabled;
        config.propagators = match self.propagator {
            Some(propagators) => propagators.formats()?,
            None => Vec::new(),
        };
        let traces = self.tracer_provider.unwrap_or_default();
        traces.sampler.unwrap_or_default().apply(config)?;
        config.attribute_value_length_limit = traces.limits.value_length;
        let metrics = self.meter_provider.unwrap_or_default();
        let readers = metrics.readers.into_iter();
        let logs = self.logger_provider.unwrap_or_default().processors;
        config.file = Some(FileSettings {
            traces: traces.processors.into_iter().map(Pipeline::from).collect(),
            logs: logs.into_iter().map(Pipeline::from).collect(),
            metrics: readers.map(Reader::from).collect(),
            limits: traces.limits,
            resource: self.resource.attributes()?,
            views: metrics.views,
        });
        Ok(())
    }
}

/// A mapping without entries, or no value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Resource {
    attributes: Vec<Attribute>,
    attributes_list: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    name: String,
    value: Value,
    r#type: Option<String>,
}

impl Resource {
    /// Returns the attributes; those of `attributes` override those of `attributes_list`.
    fn attributes(self) -> Result<Vec<KeyValue>, String> {
        let list = self.attributes_list.unwrap_or_default();
        let mut attributes = Vec::new();
        for pair in list.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("attributes_list: {pair:?} is not a key=value pair"))?;
            attributes.push(KeyValue::new(
                name.trim().to_owned(),
                value.trim().to_owned(),
            ));
        }
        for Attribute {
            name,
            value,
            r#type,
        } in self.attributes
        {
            let value = attribute_value(value, r#type.as_deref())
                .ok_or_else(|| format!("the attribute {name} has no valid value of its type"))?;
            attributes.push(KeyValue::new(name, value));
        }
        Ok(attributes)
    }
}

fn attribute_value(value: Value, kind: Option<&str>) -> Option<AttributeValue> {
    Some(match kind.unwrap_or("string") {
        "string" => match value {
            Value::String(text) => text.into(),
            Value::Bool(_) | Value::Number(_) => value.to_string().into(),
            _ => return None,
        },
        "bool" => value.as_bool()?.into(),
        "int" => value.as_i64()?.into(),
        "double" => value.as_f64()?.into(),
        "string_array" => {
            let texts: Vec<String> = serde_json::from_value(value).ok()?;
            let texts = texts.into_iter().map(StringValue::from);
            AttributeValue::Array(Array::String(texts.collect()))
        }
        "bool_array" => AttributeValue::Array(Array::Bool(serde_json::from_value(value).ok()?)),
        "int_array" => AttributeValue::Array(Array::I64(serde_json::from_value(value).ok()?)),
        "double_array" => AttributeValue::Array(Array::F64(serde_json::from_value(value).ok()?)),
        _ => return None,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Propagators {
    composite: Vec<BTreeMap<String, Option<Empty>>>,
    composite_list: Option<String>,
}

impl Propagators {
    fn formats(&self) -> Result<Vec<Propagator>, String> {
        let listed = self
            .composite_list
            .as_deref()
            .unwrap_or_default()
            .split(',');
        let names = self
            .composite
            .iter()
            .flat_map(BTreeMap::keys)
            .map(String::as_str);
        let mut formats = Vec::new();
        for name in names.chain(listed).map(str::trim) {
            if matches!(name, "" | "none") {
                continue;
            }
            let format = name.parse()?;
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        Ok(formats)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TracerProvider {
    processors: Vec<ProcessorModel>,
    limits: SpanLimits,
    sampler: Option<Sampler>,
}

/// The limits of a span.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpanLimits {
    #[serde(rename = "attribute_value_length_limit")]
    value_length: Option<usize>,
    #[serde(rename = "attribute_count_limit")]
    pub(crate) attributes: Option<u32>,
    #[serde(rename = "event_count_limit")]
    pub(crate) events: Option<u32>,
    #[serde(rename = "link_count_limit")]
    pub(crate) links: Option<u32>,
    #[serde(rename = "event_attribute_count_limit")]
    pub(crate) attributes_of_event: Option<u32>,
    #[serde(rename = "link_attribute_count_limit")]
    pub(crate) attributes_of_link: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LoggerProvider {
    processors: Vec<ProcessorModel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProcessorModel {
    Batch(BatchModel),
    Simple(Simple),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchModel {
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
struct Simple {
    exporter: ExporterModel,
}

impl From<ProcessorModel> for Pipeline {
    fn from(processor: ProcessorModel) -> Self {
        match processor {
            ProcessorModel::Batch(model) => Self {
                processor: Processor::Batch,
                queue_size: model.max_queue_size,
                batch: Some(Batch {
                    schedule_delay: model.schedule_delay.map(Duration::from_millis),
                    max_export_batch_size: model.max_export_batch_size,
                }),
                exporter: model.exporter.into(),
            },
            ProcessorModel::Simple(Simple { exporter }) => Self {
                processor: Processor::Simple,
                queue_size: batch_max_queue_size(),
                batch: None,
                exporter: exporter.into(),
            },
        }
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

impl From<ExporterModel> for Exporter {
    fn from(model: ExporterModel) -> Self {
        let (is_grpc, settings) = match model {
            ExporterModel::Console(_) => return Self::Console,
            ExporterModel::OtlpHttp(settings) => (false, settings),
            ExporterModel::OtlpGrpc(settings) => (true, settings),
        };
        let settings = settings.unwrap_or_default();
        Self::Otlp(OtlpSettings::File { is_grpc, settings })
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
    temporality_preference: TemporalityPreference,
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

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TemporalityPreference {
    #[default]
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

    /// Returns the headers; those of `headers` override those of `headers_list`.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let list = self.headers_list.as_deref().unwrap_or_default().split(',');
        let listed = list.filter_map(|pair| pair.split_once('='));
        let listed = listed.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        let own = self.headers.iter();
        listed.chain(own.map(|header| (header.name.clone(), header.value.clone())))
    }

    pub(crate) fn temporality(&self) -> Temporality {
        match self.temporality_preference {
            TemporalityPreference::Cumulative => Temporality::Cumulative,
            TemporalityPreference::Delta => Temporality::Delta,
            TemporalityPreference::LowMemory => Temporality::LowMemory,
        }
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "some variants have no settings")]
#[serde(rename_all = "snake_case")]
enum Sampler {
    AlwaysOn(Option<Empty>),
    AlwaysOff(Option<Empty>),
    TraceIdRatioBased(Ratio),
    ParentBased(ParentBased),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    #[serde(default = "all")]
    ratio: f64,
}

fn all() -> f64 {
    1.0
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ParentBased {
    root: Option<Box<Sampler>>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentBased(ParentBased::default())
    }
}

impl Sampler {
    fn apply(self, config: &mut TelemetryConfig) -> Result<(), String> {
        let (sampler, is_parent_based) = match self {
            Self::ParentBased(ParentBased { root }) => {
                (root.map_or(Self::AlwaysOn(None), |root| *root), true)
            }
            other => (other, false),
        };
        config.traces_sampler = match (sampler, is_parent_based) {
            (Self::AlwaysOn(_), false) => TracesSampler::AlwaysOn,
            (Self::AlwaysOn(_), true) => TracesSampler::ParentBasedAlwaysOn,
            (Self::AlwaysOff(_), false) => TracesSampler::AlwaysOff,
            (Self::AlwaysOff(_), true) => TracesSampler::ParentBasedAlwaysOff,
            (Self::TraceIdRatioBased(Ratio { ratio }), is_parent_based) => {
                config.traces_sampler_ratio = ratio;
                if is_parent_based {
                    TracesSampler::ParentBasedTraceIdRatio
                } else {
                    TracesSampler::TraceIdRatio
                }
            }
            (Self::ParentBased(_), _) => {
                return Err("the root of parent_based cannot be parent_based".to_owned());
            }
        };
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MeterProvider {
    readers: Vec<ReaderModel>,
    views: Vec<View>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "some variants have no settings")]
#[serde(rename_all = "snake_case")]
enum ReaderModel {
    Periodic(Periodic),
    Pull(Pull),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Periodic {
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
struct Pull {
    #[serde(rename = "exporter")]
    _exporter: PullExporter,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "it has no settings")]
enum PullExporter {
    #[serde(rename = "prometheus/development")]
    Prometheus(Option<Empty>),
}

impl From<ReaderModel> for Reader {
    fn from(reader: ReaderModel) -> Self {
        match reader {
            ReaderModel::Periodic(Periodic { interval, exporter }) => {
                Self::Periodic(exporter.into(), Some(Duration::from_millis(interval)))
            }
            ReaderModel::Pull(_) => Self::Prometheus,
        }
    }
}

/// A view: which instruments it changes, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    selector: Selector,
    stream: StreamModel,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Selector {
    /// `*` at the end matches any suffix.
    instrument_name: Option<String>,
    instrument_type: Option<InstrumentType>,
    unit: Option<String>,
    meter_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InstrumentType {
    Counter,
    Gauge,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StreamModel {
    name: Option<String>,
    description: Option<String>,
    aggregation: Option<AggregationModel>,
    aggregation_cardinality_limit: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "some variants have no settings")]
#[serde(rename_all = "snake_case")]
enum AggregationModel {
    Default(Option<Empty>),
    Drop(Option<Empty>),
    Sum(Option<Empty>),
    LastValue(Option<Empty>),
    ExplicitBucketHistogram(Buckets),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Buckets {
    boundaries: Vec<f64>,
    #[serde(default = "yes")]
    record_min_max: bool,
}

fn yes() -> bool {
    true
}

impl View {
    /// Returns the stream of an instrument that the view selects.
    pub(crate) fn stream(&self, instrument: &Instrument) -> Option<Stream> {
        if !self.selector.matches(instrument) {
            return None;
        }
        let model = &self.stream;
        let mut stream = Stream::builder();
        if let Some(name) = &model.name {
            stream = stream.with_name(name.clone());
        }
        if let Some(description) = &model.description {
            stream = stream.with_description(description.clone());
        }
        if let Some(limit) = model.aggregation_cardinality_limit {
            stream = stream.with_cardinality_limit(limit);
        }
        if let Some(aggregation) = &model.aggregation {
            stream = stream.with_aggregation(match aggregation {
                AggregationModel::Default(_) => Aggregation::Default,
                AggregationModel::Drop(_) => Aggregation::Drop,
                AggregationModel::Sum(_) => Aggregation::Sum,
                AggregationModel::LastValue(_) => Aggregation::LastValue,
                AggregationModel::ExplicitBucketHistogram(buckets) => {
                    Aggregation::ExplicitBucketHistogram {
                        boundaries: buckets.boundaries.clone(),
                        record_min_max: buckets.record_min_max,
                    }
                }
            });
        }
        stream.build().ok()
    }
}

impl Selector {
    fn matches(&self, instrument: &Instrument) -> bool {
        let name =
            self.instrument_name
                .as_deref()
                .is_none_or(|name| match name.strip_suffix('*') {
                    Some(prefix) => instrument.name().starts_with(prefix),
                    None => instrument.name() == name,
                });
        let kind = self.instrument_type.is_none_or(|kind| {
            instrument.kind()
                == match kind {
                    InstrumentType::Counter => InstrumentKind::Counter,
                    InstrumentType::Gauge => InstrumentKind::Gauge,
                    InstrumentType::Histogram => InstrumentKind::Histogram,
                    InstrumentType::ObservableCounter => InstrumentKind::ObservableCounter,
                    InstrumentType::ObservableGauge => InstrumentKind::ObservableGauge,
                    InstrumentType::ObservableUpDownCounter => {
                        InstrumentKind::ObservableUpDownCounter
                    }
                    InstrumentType::UpDownCounter => InstrumentKind::UpDownCounter,
                }
        });
        let unit = self
            .unit
            .as_deref()
            .is_none_or(|unit| unit == instrument.unit());
        let meter = self.meter_name.as_deref();
        name && kind && unit && meter.is_none_or(|meter| meter == instrument.scope().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<TelemetryConfig, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let mut config = TelemetryConfig::default();
        let variable = |name: &str| (name == "RATIO").then(|| "0.25".to_owned());
        let path = file.path().to_str().unwrap();
        read(&mut config, path, variable).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn variables_are_substituted_before_types_are_read() {
        let config = parsed(
            "file_format: '1.0'
resource:
  attributes:
    - {name: a, value: '$${x} ${UNSET:-b: c}'}
    - {name: n, value: '${UNSET:-7}', type: int}
tracer_provider:
  sampler: {parent_based: {root: {trace_id_ratio_based: {ratio: '${env:RATIO}'}}}}",
        )
        .unwrap();
        assert!((config.traces_sampler_ratio - 0.25).abs() < f64::EPSILON);
        assert_eq!(
            config.traces_sampler,
            TracesSampler::ParentBasedTraceIdRatio
        );
        let resource = config.file.unwrap().resource;
        let expected = [KeyValue::new("a", "${x} b: c"), KeyValue::new("n", 7)];
        assert_eq!(resource, expected);
    }

    #[test]
    fn what_is_not_supported_is_rejected_by_name() {
        for (text, name) in [
            ("file_format: '2.0'", "2.0"),
            ("file_format: '1.0'\ntracer: {}", "tracer"),
            (
                "file_format: '1.0'\ntracer_provider: {sampler: {jaeger_remote: {}}}",
                "jaeger_remote",
            ),
            (
                "file_format: '1.0'\ntracer_provider: {processors: [{batch: {exporter: {zipkin: }}}]}",
                "zipkin",
            ),
            (
                "file_format: '1.0'\npropagator: {composite: [{ottrace: }]}",
                "ottrace",
            ),
            (
                "file_format: '1.0'\nmeter_provider: {exemplar_filter: trace_based}",
                "exemplar_filter",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
