//! Serialization of OpenAPI documents.

use std::process::ExitCode;

use serde::Serialize;

/// Returns a document as JSON, in the form in which it is committed.
pub fn text(document: &impl Serialize) -> String {
    // `Value` sorts the keys.
    let document = serde_json::to_value(document).expect("a document is JSON");
    format!("{document:#}\n")
}

/// The `openapi` command: prints the document.
#[expect(
    clippy::print_stdout,
    reason = "the document is the output of the command"
)]
pub fn print(document: &str) -> ExitCode {
    print!("{document}");
    ExitCode::SUCCESS
}
