//! Declarative configuration: the file that `OTEL_CONFIG_FILE` names.
//!
//! It reads the parts of the schema that the SDK for Rust can apply. An unknown or unsupported part
//! is an error that names it. With a file, the variables of OpenTelemetry are ignored, as the
//! specification demands; those of this crate, such as `LOG_FORMAT`, still apply.
//!
//! Schema 1.0: <https://opentelemetry.io/docs/specs/otel/configuration/data-model/>.

mod pipelines;
mod substitution;
mod view;

use std::{collections::BTreeMap, fs};

use opentelemetry::{Array, KeyValue, StringValue, Value as AttributeValue};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use pipelines::{Batch, Otlp};
use pipelines::{ProcessorModel, ReaderModel};
use substitution::substitute;
pub(crate) use view::View;

use crate::{
    InvalidSetting, Propagator, TelemetryConfig, TracesSampler,
    config::FILE,
    pipeline::{Pipeline, Reader},
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
        let readers = metrics.readers.into_iter().map(ReaderModel::reader);
        let spans = traces.processors.into_iter().map(ProcessorModel::of_spans);
        let logs = self.logger_provider.unwrap_or_default().processors;
        let logs = logs.into_iter().map(ProcessorModel::of_logs);
        config.file = Some(FileSettings {
            traces: spans.collect::<Result<_, _>>()?,
            logs: logs.collect::<Result<_, _>>()?,
            metrics: readers.collect::<Result<_, _>>()?,
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
        let listed = pairs("attributes_list", self.attributes_list.as_deref())?;
        let listed = listed.into_iter();
        let mut attributes: Vec<_> = listed
            .map(|(name, value)| KeyValue::new(name, value))
            .collect();
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

/// Returns the `key=value` pairs of a list that is separated by commas. `name` is that of the list.
/// The values may be secrets, so the error names none.
fn pairs(name: &str, list: Option<&str>) -> Result<Vec<(String, String)>, String> {
    let items = list.unwrap_or_default().split(',');
    let items = items.filter(|item| !item.trim().is_empty());
    let pair = |item: &str| {
        let (key, value) = item.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    let invalid = || format!("{name}: an item is not a key=value pair");
    items.map(|item| pair(item).ok_or_else(invalid)).collect()
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
            (
                "file_format: '1.0'\nlogger_provider: {processors: [{simple: {exporter: {console: }}}]}",
                "simple",
            ),
            (
                "file_format: '1.0'\ntracer_provider: {processors: [{batch: {exporter:
                    {otlp_http: {temporality_preference: delta}}}}]}",
                "temporality_preference",
            ),
            (
                "file_format: '1.0'\ntracer_provider: {processors: [{batch: {exporter:
                    {otlp_http: {headers: [{name: 'a b', value: c}]}}}}]}",
                "header",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
