//! The environment variables: those that OpenTelemetry defines, and those of this crate.
//!
//! Names and meanings of the standard variables:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

mod parse;
mod table;

use std::env;

use parse::{boolean, count, pairs};
pub use table::VARIABLES;

use crate::TelemetryConfig;

/// An environment variable.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// The name. `{SIGNAL_}` stands for nothing, `TRACES_`, `METRICS_` or `LOGS_`.
    pub name: &'static str,
    /// The kind of value, such as `BOOL`.
    pub value: &'static str,
    /// The default; empty if there is none.
    pub default: &'static str,
    /// What the variable does.
    pub effect: &'static str,
    /// The component that reads the variable.
    pub reader: Reader,
}

/// The component that reads a [`Variable`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Reader {
    /// This crate. It applies the value to the settings, or reads the variable where it is needed.
    #[doc(hidden)]
    Crate(Option<Apply>),
    /// The OpenTelemetry SDK or its OTLP exporters.
    Sdk,
    /// None: the variable is not supported, and a warning at start names it.
    Nobody,
}

/// Applies a value. Returns what is wrong with it.
pub(crate) type Apply = fn(&mut TelemetryConfig, &str) -> Result<(), String>;

impl Variable {
    /// Whether OpenTelemetry defines the variable. An invalid value of such a variable is ignored.
    pub fn is_standard(&self) -> bool {
        self.name.starts_with("OTEL_")
    }

    /// Checks a value that the SDK ignores if it is invalid. The SDK itself warns of an unknown name.
    fn check(&self, value: &str) -> Result<(), String> {
        match self.value {
            "BOOL" => boolean(value).map(drop),
            "N" | "MILLISECONDS" => count(value).map(drop),
            "LIST" => pairs(value),
            _ => Ok(()),
        }
    }

    /// Returns the names that the variable has: one, or one for all signals and one for each.
    pub fn names(&self) -> Vec<String> {
        match self.name.split_once("{SIGNAL_}") {
            None => vec![self.name.to_owned()],
            Some((start, end)) => ["", "TRACES_", "METRICS_", "LOGS_"]
                .map(|signal| format!("{start}{signal}{end}"))
                .to_vec(),
        }
    }
}

/// Returns what is wrong with the variables that are set and that this crate does not apply, in one
/// sentence each.
#[expect(
    clippy::disallowed_methods,
    reason = "looks for variables that others read"
)]
pub(crate) fn warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    for variable in VARIABLES {
        for name in variable.names() {
            let value = env::var(&name).unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            match variable.reader {
                Reader::Crate(_) => {}
                Reader::Nobody => warnings.push(format!("ignored {name}: it is not supported")),
                Reader::Sdk => {
                    let invalid = variable.check(&value).err();
                    warnings.extend(invalid.map(|reason| format!("ignored {name}: {reason}")));
                }
            }
        }
    }
    let known: Vec<_> = VARIABLES.iter().flat_map(Variable::names).collect();
    let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = set.filter(|name| name.starts_with("OTEL_") && !known.contains(name));
    warnings.extend(unknown.map(|name| format!("ignored {name}: it is not known")));
    warnings
}
