//! Checks the redaction in the collector: sends secrets directly to the collector in every signal,
//! and checks that no backend stores them.

use std::fmt::Debug;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::eventually;

use super::Sent;
use crate::{
    Stack,
    backends::{self, TIMEOUT},
    otlp,
    table::Table,
};

/// The secret that must not be stored anywhere.
const SECRET: &str = "s3cr3t";
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) -> Result<()> {
    send_secrets().await?;
    let part = "redaction";
    table.check(
        part,
        "a span's header, query string and e-mail address",
        traces(stack, sent).await,
    );
    table.check(part, "a log record's body and attributes", logs().await);
    table.check(part, "a metric's attributes", metrics().await);
    Ok(())
}

/// Sends one span, one log record and one data point that contain secrets.
async fn send_secrets() -> Result<()> {
    let header = otlp::string_attribute("http.request.header.authorization", "Bearer s3cr3t");
    let query = otlp::string_attribute("url.query", "page=1&api_token=s3cr3t");
    let email = otlp::string_attribute("enduser.email", "s3cr3t@example.org");
    let password = otlp::string_attribute("password", SECRET);
    let (resource, now) = (otlp::resource("leaky"), otlp::now().to_string());

    let mut span = otlp::span(TRACE, 1, 1, &[header.clone(), query, email.clone()]);
    span["name"] = json!("leak");
    otlp::send("traces", &otlp::spans("leaky", &[span])).await?;

    let record = json!({
        "timeUnixNano": now, "body": {"stringValue": "asked by s3cr3t@example.org"},
        "attributes": [header, email],
    });
    let records = json!({"resource": resource, "scopeLogs": [{"logRecords": [record]}]});
    otlp::send("logs", &json!({"resourceLogs": [records]})).await?;

    let metrics = otlp::gauge("leaky", "leaky", &[password, email]);
    otlp::send("metrics", &metrics).await
}

// proves: N13
async fn traces(stack: &Stack, sent: &Sent) -> Result<String> {
    let found = || async {
        let trace = backends::trace(stack, TRACE).await.ok()?;
        trace.named("leak").cloned()
    };
    let span = eventually(TIMEOUT, "the span with secrets is stored", found).await?;
    ensure!(
        span.attributes["url.query"] == "page=1&api_token=REDACTED",
        "{span:?}"
    );
    ensure!(span.attributes.len() >= 3, "{span:?}");
    no_secret(&span)?;
    let mut spans = 0;
    for id in &sent.with_secret {
        let trace = backends::trace(stack, id).await?;
        no_secret(&trace)?;
        spans += trace.spans().len();
    }
    ensure!(
        spans > 0,
        "no trace of the requests with a secret is stored"
    );
    Ok(format!(
        "redacted, as are {spans} spans of requests with a secret"
    ))
}

async fn logs() -> Result<String> {
    let leaky = r#"{service_name="leaky"}"#;
    backends::wait_for_results(leaky, "streams", async || backends::streams(leaky).await).await?;
    let with_secret = format!("{{service_name=~\".+\"}} |= \"{SECRET}\"");
    no_secret(&backends::streams(&with_secret).await?)?;
    let streams = backends::streams(r#"{service_name=~".+"}"#).await?;
    no_secret(&streams)?;
    let records = streams
        .iter()
        .filter_map(|stream| stream["values"].as_array());
    Ok(format!(
        "no secret in {} log records",
        records.map(Vec::len).sum::<usize>()
    ))
}

async fn metrics() -> Result<String> {
    backends::wait_for_results("leaky", "series", async || backends::series("leaky").await).await?;
    let series = backends::series("{__name__=~\".+\"}").await?;
    no_secret(&series)?;
    Ok(format!("no secret in {} series", series.len()))
}

fn no_secret(found: &impl Debug) -> Result<()> {
    let text = format!("{found:?}");
    ensure!(!text.contains(SECRET), "{text}");
    Ok(())
}
