//! Checks that Loki returns the logs of a request by its request id.

use anyhow::{Result, ensure};
use serde_json::json;

use super::Sent;
use crate::{backends, stack::Stack, table::Table};

pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) {
    for service in ["bookapp", "backend"] {
        let what = format!("logs of {service} by request id");
        table.check("Loki", what, logs(service, sent).await);
    }
    if !stack.is_compose() {
        let what = "console lines in logfmt, parsed without an error";
        table.check("Loki", what, console_lines(sent).await);
    }
    table.check("Loki", "trace_id is not a label", labels().await);
}

// proves: B13 B25
async fn logs(service: &str, sent: &Sent) -> Result<String> {
    let query = format!(
        "{{service_name=\"{service}\"}} | telemetry_common_request_id=\"{}\" | trace_id!=\"\"",
        sent.request_id
    );
    backends::wait_for_results(&query, "streams", async || backends::streams(&query).await).await
}

// proves: L15
async fn console_lines(sent: &Sent) -> Result<String> {
    let lines = r#"{service_name=~"(bookapp|backend)-console"} | logfmt"#;
    let good = format!(
        "{lines} | __error__=\"\" | request_id=\"{}\"",
        sent.request_id
    );
    let found =
        backends::wait_for_results(&good, "streams", async || backends::streams(&good).await);
    let found = found.await?;
    let bad = format!("{lines} | __error__!=\"\"");
    let bad = backends::streams(&bad).await?;
    ensure!(bad.is_empty(), "lines with an error: {bad:?}");
    Ok(found)
}

async fn labels() -> Result<String> {
    let labels = backends::labels().await?;
    ensure!(!labels.contains(&json!("trace_id")), "{labels:?}");
    Ok(format!("the labels are {}", json!(labels)))
}
