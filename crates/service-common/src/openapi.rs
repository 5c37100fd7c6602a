//! OpenAPI documents as text.

use std::process::ExitCode;

use serde::Serialize;

/// A document as it is committed.
pub fn text(document: &impl Serialize) -> String {
    // By way of a value, whose keys are sorted.
    let document = serde_json::to_value(document).expect("a document is JSON");
    format!("{document:#}\n")
}

/// The `openapi` command: prints the document.
#[expect(
    clippy::print_stdout,
    reason = "the document is what the command answers"
)]
pub fn print(document: &str) -> ExitCode {
    print!("{document}");
    ExitCode::SUCCESS
}
