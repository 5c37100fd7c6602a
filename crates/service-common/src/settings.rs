//! Settings are read once, by clap, from flags or environment.

use std::process::exit;

use clap::Parser;

/// Reads the settings; a wrong one prints one line and exits with 2, `--help` prints all of them.
#[expect(clippy::print_stderr, reason = "telemetry has not started yet")]
pub fn read<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let message = error.to_string();
        let first: Vec<_> = message
            .lines()
            .take_while(|line| !line.is_empty())
            .collect();
        eprintln!(
            "{}",
            first
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join(" ")
        );
        exit(2);
    })
}

/// What a setting was turned into, or the end.
pub fn require<T>(setting: anyhow::Result<T>) -> T {
    setting.unwrap_or_else(|error| refuse(&error))
}

/// Prints why a setting cannot be used, in one line, and exits with 2.
#[expect(clippy::print_stderr, reason = "telemetry has not started yet")]
pub fn refuse(error: &anyhow::Error) -> ! {
    eprintln!("error: {error:#}");
    exit(2);
}
