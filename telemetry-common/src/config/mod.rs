//! The telemetry settings of a process: [`TelemetryConfig`], from environment variables, from a
//! file, or from command-line options (feature `clap`).
//!
//! `variables` has the name and the meaning of each setting.

mod choices;
#[cfg(feature = "clap")]
mod options;

use std::{
    env,
    io::{IsTerminal, stderr},
    num::NonZeroU32,
};

pub use choices::{Exporter, LogFormat, LogOutput, Processor, Propagator, TracesSampler};
use serde::{Deserialize, Deserializer, de::Error as _};
use tracing_subscriber::filter::Targets;

use crate::{
    config_file::{self, FileSettings},
    variables::{Apply, Reader, VARIABLES, Variable},
};

/// The variable that names a configuration file.
pub(crate) const FILE: &str = "OTEL_CONFIG_FILE";

/// The telemetry settings of a process.
///
/// [`from_env`](Self::from_env) reads them from the environment. With the feature `clap`, they are
/// also a group of command-line options. The OTLP exporters, the samplers and the batch processors
/// read further variables themselves: [`VARIABLES`] lists all of them.
///
/// ```
/// let mut config = telemetry_common::TelemetryConfig::from_env()?;
/// config.service_name = Some("shop".to_owned());
/// # Ok::<(), telemetry_common::InvalidSetting>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TelemetryConfig {
    /// Disables the export of traces, metrics and log records. Console logs continue.
    pub sdk_disabled: bool,
    /// The resource attribute `service.name`. `None`: the name of the [`Service`](crate::Service).
    pub service_name: Option<String>,
    /// The exporters of spans. Empty: spans are not exported.
    pub traces_exporters: Vec<Exporter>,
    /// The exporters of metrics. Empty: metrics are not exported.
    pub metrics_exporters: Vec<Exporter>,
    /// The exporters of log records, in addition to the console logs. Empty: log records are not
    /// exported.
    pub logs_exporters: Vec<Exporter>,
    /// The formats in which trace context and baggage are propagated. If a request has several
    /// trace contexts, the first format wins.
    pub propagators: Vec<Propagator>,
    /// The sampler of spans.
    pub traces_sampler: TracesSampler,
    /// The share of traces that a `traceidratio` sampler samples, from 0 to 1.
    pub traces_sampler_ratio: f64,
    /// The span processor of each exporter.
    pub traces_processor: Processor,
    /// Maximum number of ended spans in the queue of an exporter. If it is full, spans are dropped.
    pub span_queue_size: usize,
    /// Maximum number of log records in the queue of an exporter. If it is full, log records are
    /// dropped.
    pub log_queue_size: usize,
    /// Maximum length of a string attribute of a span, in characters. `None`: no limit.
    pub attribute_value_length_limit: Option<usize>,
    /// The HTTP methods that are recorded by name. `None`: those of the HTTP conventions.
    pub http_known_methods: Option<Vec<String>>,
    /// Format of the console logs. `None`: text if stderr is a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// The outputs whose log records have the fields of the spans around them.
    pub log_span_fields: Vec<LogOutput>,
    /// Whether the console logs the start and the end of each span. `None`: only in logfmt.
    pub log_spans: Option<bool>,
    /// Maximum number of log events of one call site per second, on all outputs. `None`: no limit.
    pub log_rate_limit: Option<NonZeroU32>,
    /// Filter of the console logs, as `EnvFilter` directives.
    pub console_filter: String,
    /// Filter of the spans that are created, as `target=level` pairs.
    #[serde(deserialize_with = "targets")]
    pub traces_filter: Targets,
    /// Filter of the log records that are exported, as `target=level` pairs.
    #[serde(deserialize_with = "targets")]
    pub logs_filter: Targets,
    /// The DSN of the Sentry project. `None`: errors are not reported.
    #[cfg(feature = "sentry")]
    pub sentry_dsn: Option<Secret>,
    /// Whether warnings are reported to Sentry as events. Otherwise they are only breadcrumbs.
    #[cfg(feature = "sentry")]
    pub sentry_warnings: bool,
    /// Base URL of Grafana. Each Sentry event links to its trace and its logs there.
    #[cfg(feature = "sentry")]
    #[serde(deserialize_with = "url")]
    pub grafana_url: Option<url::Url>,
    /// The parts of `OTEL_CONFIG_FILE` that have no field above.
    #[serde(skip)]
    pub(crate) file: Option<FileSettings>,
    /// What [`from_env`](Self::from_env) ignored, in one sentence each. They are logged at start.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        let info = Targets::new().with_default(tracing::Level::INFO);
        Self {
            sdk_disabled: false,
            service_name: None,
            traces_exporters: vec![Exporter::Otlp],
            metrics_exporters: vec![Exporter::Otlp],
            logs_exporters: vec![Exporter::Otlp],
            propagators: vec![Propagator::TraceContext, Propagator::Baggage],
            traces_sampler: TracesSampler::ParentBasedAlwaysOn,
            traces_sampler_ratio: 1.0,
            traces_processor: Processor::Batch,
            // Enough for several concurrent bulk requests of 1,000 spans each.
            span_queue_size: 8192,
            log_queue_size: 2048,
            attribute_value_length_limit: None,
            http_known_methods: None,
            log_format: None,
            log_span_fields: vec![LogOutput::Console],
            log_spans: None,
            log_rate_limit: None,
            console_filter: "info".to_owned(),
            traces_filter: info.clone(),
            // The warnings of sqlx's pool have a field `error`, which has no namespace.
            logs_filter: info.with_target("sqlx_core::pool", tracing::Level::ERROR),
            #[cfg(feature = "sentry")]
            sentry_dsn: None,
            #[cfg(feature = "sentry")]
            sentry_warnings: false,
            #[cfg(feature = "sentry")]
            grafana_url: None,
            file: None,
            warnings: Vec::new(),
        }
    }
}

impl TelemetryConfig {
    /// Reads the settings from the environment variables of the process.
    ///
    /// An empty variable counts as not set. As the specification of OpenTelemetry demands, an
    /// invalid value of a variable of OpenTelemetry is ignored, and a warning is logged at start.
    ///
    /// With `OTEL_CONFIG_FILE`, the file replaces the variables of OpenTelemetry.
    ///
    /// # Errors
    ///
    /// An invalid value of a variable of this crate, such as `LOG_FORMAT`, or an invalid file.
    pub fn from_env() -> Result<Self, InvalidSetting> {
        Self::from_variables(|name| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let mut config = Self::default();
        let file = read(FILE).filter(|path| !path.is_empty());
        for (variable, apply) in own_variables() {
            // The file replaces the variables of OpenTelemetry.
            let is_replaced = file.is_some() && variable.is_standard();
            if let Some(value) = read(variable.name).filter(|_| !is_replaced) {
                config.read(variable, apply, &value)?;
            }
        }
        if let Some(path) = file {
            config_file::read(&mut config, &path, read)?;
        }
        Ok(config)
    }

    /// Applies the value of an environment variable.
    fn read(
        &mut self,
        variable: &Variable,
        apply: Apply,
        value: &str,
    ) -> Result<(), InvalidSetting> {
        if value.is_empty() {
            return Ok(());
        }
        match apply(self, value) {
            Err(reason) if variable.is_standard() => {
                let name = variable.name;
                self.warnings.push(format!("ignored {name}: {reason}"));
                Ok(())
            }
            applied => applied.map_err(|reason| InvalidSetting {
                name: variable.name,
                reason,
            }),
        }
    }

    /// Returns the format of the console logs: `log_format` if it is set, else text if stderr is a
    /// terminal, else JSON.
    pub fn console_format(&self) -> LogFormat {
        self.log_format.unwrap_or_else(|| {
            if stderr().is_terminal() {
                LogFormat::Text
            } else {
                LogFormat::Json
            }
        })
    }
}

/// Returns the variables that this crate applies, and how.
pub(crate) fn own_variables() -> impl Iterator<Item = (&'static Variable, Apply)> {
    VARIABLES
        .iter()
        .filter_map(|variable| match variable.reader {
            Reader::Crate(Some(apply)) => Some((variable, apply)),
            _ => None,
        })
}

/// The value of a setting is invalid.
#[derive(Debug, thiserror::Error)]
#[error("invalid value for {name}: {reason}")]
#[non_exhaustive]
pub struct InvalidSetting {
    /// The environment variable, such as `LOG_FORMAT`.
    pub name: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A string that `Debug` does not print.
#[cfg(feature = "sentry")]
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub(crate) String);

#[cfg(feature = "sentry")]
impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

#[cfg(feature = "sentry")]
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

fn targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Targets, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

#[cfg(feature = "sentry")]
fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<url::Url>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let url = text.map(|text| text.parse()).transpose();
    url.map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &str) -> Result<TelemetryConfig, InvalidSetting> {
        TelemetryConfig::from_variables(|read| (read == name).then(|| value.to_owned()))
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let unset = format!("{:?}", TelemetryConfig::default());
        let empty = TelemetryConfig::from_variables(|_| Some(String::new())).unwrap();
        assert_eq!(format!("{empty:?}"), unset);
    }

    #[test]
    fn an_invalid_standard_variable_is_ignored_with_a_warning() {
        for name in [
            "OTEL_SDK_DISABLED",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_TRACES_EXPORTER",
        ] {
            let config = read(name, "?").unwrap();
            let [warning] = &config.warnings[..] else {
                panic!("{name}: {:?}", config.warnings)
            };
            assert!(
                warning.starts_with(&format!("ignored {name}: \"?\"")),
                "{warning}"
            );
            let ignored = TelemetryConfig {
                warnings: Vec::new(),
                ..config
            };
            let unset = TelemetryConfig::default();
            assert_eq!(format!("{ignored:?}"), format!("{unset:?}"));
        }
    }

    #[test]
    fn an_invalid_variable_of_this_crate_is_an_error() {
        for name in ["LOG_FORMAT", "TRACES_PROCESSOR", "LOG_RATE_LIMIT"] {
            let error = read(name, "?").unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid value for {name}: ")),
                "{error}"
            );
        }
        assert!(read("TRACES_FILTER", "shop=loud").is_err());
        assert!(read("RUST_LOG", "a=b=c").is_err());
    }

    #[test]
    fn a_list_keeps_its_valid_items() {
        let config = read("OTEL_PROPAGATORS", "xray, B3,baggage").unwrap();
        assert_eq!(config.propagators, [Propagator::B3, Propagator::Baggage]);
        assert_eq!(config.warnings.len(), 1);
        let config = read("OTEL_METRICS_EXPORTER", "otlp,otlp,console").unwrap();
        assert_eq!(
            config.metrics_exporters,
            [Exporter::Otlp, Exporter::Console]
        );
        let config = read("OTEL_LOGS_EXPORTER", "none").unwrap();
        assert_eq!((config.logs_exporters, config.warnings), (vec![], vec![]));
    }

    #[test]
    fn booleans_may_have_any_case() {
        for (value, expected) in [("TRUE", true), ("True", true), ("False", false)] {
            let config = read("OTEL_SDK_DISABLED", value).unwrap();
            assert_eq!((config.sdk_disabled, config.warnings.len()), (expected, 0));
        }
    }

    #[test]
    fn settings_can_be_deserialized() {
        let config = r#"{"service_name": "shop", "logs_exporters": ["console"],
            "traces_filter": "shop=debug", "log_format": "json"}"#;
        let config: TelemetryConfig = serde_json::from_str(config).unwrap();
        assert_eq!(config.service_name.as_deref(), Some("shop"));
        assert_eq!(config.logs_exporters, [Exporter::Console]);
        assert_eq!(config.log_format, Some(LogFormat::Json));
        let unknown = serde_json::from_str::<TelemetryConfig>(r#"{"servce_name": "shop"}"#);
        assert!(unknown.unwrap_err().to_string().contains("servce_name"));
    }
}
