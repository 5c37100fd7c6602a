//! Checks traces through Jaeger's API, which needs neither Tempo nor Grafana. Its web interface is not
//! verified: no package registry contains it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Sent;
use crate::{Stack, backends, table::Table};

pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) {
    if stack.is_compose() {
        return table.not_run(
            "Jaeger",
            "traces",
            "compose starts it with the profile jaeger",
        );
    }
    let what = "the trace that the application returned, with its processes";
    table.check("Jaeger", what, returned(sent).await);
    let what = "the worker's trace links to the request's trace";
    table.check("Jaeger", what, linked(sent).await);
    let what = "statements by query summary, with their durations";
    table.check("Jaeger", what, statements().await);
    let what = "traces by attributes of the process";
    table.check("Jaeger", what, processes().await);
}

/// Returns the spans of traces.
fn spans(traces: &[Value]) -> impl Iterator<Item = &Value> {
    traces
        .iter()
        .filter_map(|trace| trace["spans"].as_array())
        .flatten()
}

/// Returns the value of a tag of a span or of a process.
fn tag<'v>(of: &'v Value, key: &str) -> Option<&'v Value> {
    let mut tags = of["tags"].as_array()?.iter();
    tags.find(|tag| tag["key"] == key).map(|tag| &tag["value"])
}

// proves: B25 R9
async fn returned(sent: &Sent) -> Result<String> {
    let complete = async || {
        let traces = backends::jaeger_trace(&sent.trace).await.ok()?;
        let names: Vec<_> = spans(&traces)
            .filter_map(|span| span["operationName"].as_str())
            .collect();
        let expected = ["POST /books/add", "INSERT books", "create book.events.v1"];
        expected
            .iter()
            .all(|name| names.contains(name))
            .then(|| traces.clone())
    };
    let traces = testbed::eventually(backends::TIMEOUT, "the trace in Jaeger", complete).await?;
    let processes = traces[0]["processes"].as_object().context("processes")?;
    ensure!(
        processes
            .values()
            .any(|it| it["serviceName"] == "bookapp" && tag(it, "process.pid").is_some()),
        "{processes:?}"
    );
    Ok(format!("{} spans", spans(&traces).count()))
}

/// Reads the worker's trace by the id in its log record: a search would return the newest traces only.
// proves: R9
async fn linked(sent: &Sent) -> Result<String> {
    let records = format!(
        "{{service_name=\"backend\"}} | telemetry_common_request_id=\"{}\"",
        sent.request_id
    );
    let linking = async || {
        let mut linking = Vec::new();
        for stream in backends::streams(&records).await? {
            let id = stream["stream"]["trace_id"].as_str().unwrap_or_default();
            let trace = backends::jaeger_trace(id).await?;
            let links_to = |span: &&Value| {
                let references = span["references"].as_array().into_iter().flatten();
                let mut links = references.filter(|it| it["refType"] == "FOLLOWS_FROM");
                links.any(|link| link["traceID"] == sent.trace && span["traceID"] != sent.trace)
            };
            linking.extend(spans(&trace).filter(links_to).cloned());
        }
        Ok(linking)
    };
    backends::wait_for_results("the worker's trace", "spans", linking).await
}

// proves: B5
async fn statements() -> Result<String> {
    let tags = json!({"db.query.summary": "INSERT books"});
    let found = async || {
        let traces = backends::jaeger_search("bookapp", &tags).await?;
        let is_timed = |span: &&Value| {
            tag(span, "db.query.summary") == Some(&json!("INSERT books"))
                && span["duration"].as_u64().is_some_and(|micros| micros > 0)
        };
        Ok(spans(&traces).filter(is_timed).cloned().collect())
    };
    backends::wait_for_results("INSERT books", "spans", found).await
}

// proves: T7
async fn processes() -> Result<String> {
    let tags = json!({"os.type": "linux"});
    let found = async || {
        let traces = backends::jaeger_search("bookapp", &tags).await?;
        for trace in &traces {
            let processes = trace["processes"].as_object().into_iter().flatten();
            // The ingress describes its process in its own way.
            let services = ["bookapp", "backend"].map(|name| json!(name));
            let ours = processes.filter(|(_, it)| services.contains(&it["serviceName"]));
            for (_, process) in ours {
                ensure!(tag(process, "process.command").is_some(), "{process}");
                for secret in ["process.command_args", "process.command_line"] {
                    ensure!(tag(process, secret).is_none(), "{secret} is recorded");
                }
            }
        }
        Ok(traces)
    };
    backends::wait_for_results("traces by process", "traces", found).await
}
