//! The command-line options, one for each variable that this crate applies: `--otel-service-name`
//! is `OTEL_SERVICE_NAME`. On the command line, every invalid value is an error.

use std::ffi::OsString;

use clap::{
    Arg, ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind, parser::ValueSource,
};

use super::{InvalidSetting, TelemetryConfig, own_variables};

const HEADING: &str = "Telemetry (the OTLP exporters and the SDK read further variables)";

impl Args for TelemetryConfig {
    fn augment_args(command: Command) -> Command {
        let options = own_variables().map(|(variable, _)| {
            let name = variable.name;
            let default = match variable.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            Arg::new(name)
                .long(name.to_ascii_lowercase().replace('_', "-"))
                .env(name)
                .hide_env_values(true)
                .value_name(variable.value)
                .value_parser(clap::value_parser!(OsString))
                .help(format!("{}{default}", variable.effect))
                .help_heading(HEADING)
        });
        command.args(options)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TelemetryConfig {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        // The environment is read as without clap.
        let mut config = Self::from_env().map_err(|error| invalid(&error))?;
        config.update_from_arg_matches(matches)?;
        Ok(config)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for (variable, apply) in own_variables() {
            let name = variable.name;
            if matches.value_source(name) != Some(ValueSource::CommandLine) {
                continue;
            }
            if self.file.is_some() && variable.is_standard() {
                let warning = format!("ignored the option of {name}: a file replaces it");
                self.warnings.push(warning);
                continue;
            }
            let value = matches
                .get_one::<OsString>(name)
                .cloned()
                .unwrap_or_default();
            let applied = apply(self, &value.to_string_lossy());
            let applied = applied.map_err(|reason| InvalidSetting { name, reason });
            applied.map_err(|error| invalid(&error))?;
        }
        Ok(())
    }
}

fn invalid(error: &InvalidSetting) -> Error {
    Error::raw(ErrorKind::ValueValidation, format!("{error}\n"))
}
