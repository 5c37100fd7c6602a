//! Checks traces by their id, and in Tempo by `TraceQL` queries.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use testbed::eventually;

use super::Sent;
use crate::{
    Stack,
    backends::{self, TIMEOUT},
    table::Table,
};

/// The maximum number of Locust's requests to check.
const MAX_REQUESTS: usize = 300;
/// The minimum number of requests whose root span is Locust's.
const MIN_REQUESTS: usize = 100;

pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) {
    let part = "traces";
    table.check(
        part,
        "a request's trace is complete",
        complete(stack, sent).await,
    );
    table.check(
        part,
        "the worker's trace links to the request's trace",
        linked(stack, sent).await,
    );
    table.check(
        part,
        "Locust's spans are the root spans of the services' traces",
        enough_rooted(stack).await,
    );
    for (what, query) in searches(sent) {
        if stack.is_tempo {
            let found = backends::wait_for_results(what, "traces", async || {
                backends::search(stack, &query).await
            });
            table.check("Tempo", format!("{what}: `{query}`"), found.await);
        } else {
            table.not_run("Tempo", what, "the OTLP sink replaces Tempo");
        }
    }
    let what = "statement durations by query summary";
    if stack.is_tempo {
        let found = backends::wait_for_results(what, "series", async || {
            backends::trace_series(stack, DURATIONS).await
        });
        table.check("Tempo", format!("{what}: `{DURATIONS}`"), found.await);
    } else {
        table.not_run("Tempo", what, "the OTLP sink replaces Tempo");
    }
}

/// The p95 of the durations of INSERT statements, by query summary.
// proves: B5
const DURATIONS: &str = "{ span.db.query.summary =~ \"INSERT.*\" } \
                         | quantile_over_time(duration, .95) by (span.db.query.summary)";

// proves: T7
fn searches(sent: &Sent) -> [(&'static str, String); 3] {
    [
        (
            "traces by process attributes",
            r#"{ resource.os.type = "linux" && resource.process.pid > 0 }"#.to_owned(),
        ),
        (
            "statements by table",
            r#"{ name = "SELECT books" }"#.to_owned(),
        ),
        (
            "the consumers of a message, by span link",
            // Tempo stores ids without leading zeros.
            format!(
                "{{ link:traceID = \"{}\" }}",
                sent.trace.trim_start_matches('0')
            ),
        ),
    ]
}

// proves: B25
async fn complete(stack: &Stack, sent: &Sent) -> Result<String> {
    let found = || async {
        let trace = backends::trace(stack, &sent.trace).await.ok()?;
        let has_one_root = trace.named("POST /books/add").is_some() && trace.roots().len() == 1;
        (has_one_root && trace.named("COMMIT").is_some()).then(|| trace.spans().len())
    };
    let spans = eventually(TIMEOUT, "the trace is stored", found).await?;
    Ok(format!("{spans} spans"))
}

/// Checks that the worker logs the request id, and that the trace of that log record links to the
/// request's trace.
async fn linked(stack: &Stack, sent: &Sent) -> Result<String> {
    let query = format!(
        "{{service_name=\"backend\"}} | telemetry_common_request_id=\"{}\"",
        sent.request_id
    );
    let found = async || {
        for stream in backends::streams(&query).await.ok()? {
            let id = stream["stream"]["trace_id"].as_str()?;
            let trace = backends::trace(stack, id).await.ok()?;
            let process = trace.named("process book.events.v1")?;
            if process
                .links
                .iter()
                .any(|(linked, _)| *linked == sent.trace)
            {
                return Some("found by the worker's log record".to_owned());
            }
        }
        None
    };
    eventually(TIMEOUT, "the linked trace is stored", found).await
}

// proves: B18
async fn enough_rooted(stack: &Stack) -> Result<String> {
    let rooted = rooted(stack, "bookapp").await?;
    ensure!(rooted >= MIN_REQUESTS, "{rooted} requests");
    Ok(format!("{rooted} requests"))
}

/// Returns how many of the newest logged requests to a service are the direct children of a root span
/// of Locust. At most [`MAX_REQUESTS`] are read.
pub(super) async fn rooted(stack: &Stack, service: &str) -> Result<usize> {
    let query = format!(r#"{{service_name="{service}"}} | trace_id!="""#);
    let streams = backends::streams(&query).await?;
    let ids = streams
        .iter()
        .filter_map(|stream| stream["stream"]["trace_id"].as_str());
    let ids: BTreeSet<_> = ids.collect();
    let mut rooted = 0;
    for id in ids.iter().take(MAX_REQUESTS) {
        let trace = backends::trace(stack, id).await?;
        let server = trace
            .spans()
            .iter()
            .find(|span| span.kind == "SERVER" && span.service() == service);
        let root = trace
            .spans()
            .iter()
            .find(|span| span.service() == "locust" && span.parent_id.is_none());
        if let (Some(server), Some(root)) = (server, root) {
            rooted += usize::from(server.parent_id.as_ref() == Some(&root.span_id));
        }
    }
    Ok(rooted)
}
