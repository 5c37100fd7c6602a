//! Secrets that no service of ours would send go straight to the collector, in every signal.

use std::fmt::Debug;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::eventually;

use super::Sent;
use crate::{
    Stack,
    backends::{self, PATIENCE},
    otlp,
    table::Table,
};

/// What must not be found anywhere.
const SECRET: &str = "s3cr3t";
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) -> Result<()> {
    leak().await?;
    let part = "redaction";
    table.check(
        part,
        "a trace's header, query and e-mail address",
        traces(stack, sent).await,
    );
    table.check(part, "a log record's text and attributes", logs().await);
    table.check(part, "a metric's attributes", metrics().await);
    Ok(())
}

/// One span, one log record and one point that are full of secrets.
async fn leak() -> Result<()> {
    let header = otlp::text("http.request.header.authorization", "Bearer s3cr3t");
    let query = otlp::text("url.query", "page=1&api_token=s3cr3t");
    let email = otlp::text("enduser.email", "s3cr3t@example.org");
    let password = otlp::text("password", SECRET);
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
    let span = eventually(PATIENCE, "the leaky span is stored", found).await?;
    ensure!(
        span.attributes["url.query"] == "page=1&api_token=REDACTED",
        "{span:?}"
    );
    ensure!(span.attributes.len() >= 3, "{span:?}");
    no_secret(&span)?;
    let mut spans = 0;
    for id in &sent.secretive {
        let trace = backends::trace(stack, id).await?;
        no_secret(&trace)?;
        spans += trace.spans().len();
    }
    ensure!(spans > 0, "no trace of a request with a secret is stored");
    Ok(format!("and {spans} spans of requests with a secret"))
}

async fn logs() -> Result<String> {
    let leaky = r#"{service_name="leaky"}"#;
    backends::some(leaky, "streams", async || backends::streams(leaky).await).await?;
    let telling = format!("{{service_name=~\".+\"}} |= \"{SECRET}\"");
    no_secret(&backends::streams(&telling).await?)?;
    let streams = backends::streams(r#"{service_name=~".+"}"#).await?;
    no_secret(&streams)?;
    let lines = streams
        .iter()
        .filter_map(|stream| stream["values"].as_array());
    Ok(format!(
        "none in {} lines",
        lines.map(Vec::len).sum::<usize>()
    ))
}

async fn metrics() -> Result<String> {
    backends::some("leaky", "series", async || backends::series("leaky").await).await?;
    let series = backends::series("{__name__=~\".+\"}").await?;
    no_secret(&series)?;
    Ok(format!("none in {} series", series.len()))
}

fn no_secret(found: &impl Debug) -> Result<()> {
    let text = format!("{found:?}");
    ensure!(!text.contains(SECRET), "{text}");
    Ok(())
}
