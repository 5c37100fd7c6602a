//! Logs, by the request they belong to.

use anyhow::{Result, ensure};
use serde_json::json;

use super::Sent;
use crate::{backends, table::Table};

pub(super) async fn check(sent: &Sent, table: &mut Table) {
    for service in ["bookapp", "backend"] {
        let what = format!("{service}'s logs by the request's id");
        table.check("Loki", what, logs(service, sent).await);
    }
    table.check("Loki", "trace_id is no label", labels().await);
}

// proves: B13 B25
async fn logs(service: &str, sent: &Sent) -> Result<String> {
    let query = format!(
        "{{service_name=\"{service}\"}} | telemetry_request_id=\"{}\" | trace_id!=\"\"",
        sent.request_id
    );
    backends::some(&query, "streams", async || backends::streams(&query).await).await
}

async fn labels() -> Result<String> {
    let labels = backends::labels().await?;
    ensure!(!labels.contains(&json!("trace_id")), "{labels:?}");
    Ok(format!("labels are {}", json!(labels)))
}
