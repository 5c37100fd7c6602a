//! Prints all environment variables as two Markdown tables: those of OpenTelemetry, and those of
//! this crate.
#![expect(clippy::print_stdout, reason = "the program prints tables")]

use telemetry_common::{Reader, VARIABLES, Variable};

fn main() {
    print_table(Variable::is_standard);
    println!("\nVariables of this crate:\n");
    print_table(|variable| !variable.is_standard());
}

fn print_table(includes: impl Fn(&Variable) -> bool) {
    println!("| variable | value | default | effect | read by |\n|---|---|---|---|---|");
    for variable in VARIABLES.iter().filter(|variable| includes(variable)) {
        let reader = match variable.reader {
            Reader::Sdk if variable.name.contains("EXPORTER_OTLP") => "OTLP exporters",
            Reader::Sdk => "SDK",
            Reader::Nobody => "not supported",
            _ => "telemetry-common",
        };
        let (name, value) = (variable.name, variable.value);
        let (default, effect) = (variable.default, variable.effect);
        println!("| `{name}` | {value} | {default} | {effect} | {reader} |");
    }
}
