//! Checks the ingress: routes by host name, one nested trace from Traefik to the worker's API, and
//! failures.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reqwest::{
    Client, Response,
    header::{CONTENT_TYPE, HOST},
};
use serde_json::Value;
use testbed::{eventually, sink::Span, system::http, trace::Trace};
use tokio::task::JoinSet;

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    stack::{TRAEFIK, TRAEFIK_JAEGER},
    table::Table,
};

/// The part of the table.
const INGRESS: &str = "Traefik";

/// The duration of the load through the ingress.
const LOAD_SECONDS: u64 = 3;

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let what = "routes by host name; an unknown host is a 404";
    table.check(INGRESS, what, routes().await);
    let what = "one nested trace from the ingress to the worker's API, by traceparent";
    table.check(INGRESS, what, nested(stack, TRAEFIK).await);
    let what = "the same by uber-trace-id";
    if stack.is_compose() {
        table.not_run(INGRESS, what, "compose runs one ingress");
    } else {
        table.check(INGRESS, what, nested(stack, TRAEFIK_JAEGER).await);
        let what = "a service that is down is a 502, and the ingress's span has status Error";
        table.check(INGRESS, what, down(stack).await);
    }
    let what = "a body over the limit is a 413 of the service, in one trace";
    table.check(INGRESS, what, too_large(stack).await);
    let what = "Locust's spans are the parents of the ingress's";
    table.check(INGRESS, what, load(stack).await);
    let what = "connections at once: each response is clear, each request one trace";
    table.check(INGRESS, what, many(stack).await);
    let what = "metrics by router, access log";
    table.check(INGRESS, what, recorded().await);
}

/// The parent of each trace whose id is given by a check.
const PARENT: &str = "b7ad6b7169203331";

/// Sends a GET through the ingress.
async fn get(ingress: &str, host: &str, path: &str) -> Result<Response> {
    let request = http()?.get(format!("{ingress}{path}"));
    Ok(request.header(HOST, host).send().await?)
}

async fn routes() -> Result<String> {
    for (host, path, expected) in [
        ("bookapp.localhost", "/books/1", 200),
        ("backend.localhost", "/health/ready", 200),
        ("nobody.localhost", "/", 404),
    ] {
        let status = get(TRAEFIK, host, path).await?.status();
        ensure!(status == expected, "{host}{path}: {status}");
    }
    Ok("2 services".to_owned())
}

// proves: T1 T2
async fn nested(stack: &Stack, ingress: &str) -> Result<String> {
    let response = get(ingress, "bookapp.localhost", "/books?limit=1").await?;
    ensure!(response.status() == 200, "{}", response.status());
    let header = response
        .headers()
        .get("traceparent")
        .context("traceparent")?;
    let id = header
        .to_str()?
        .split('-')
        .nth(1)
        .context("a trace id")?
        .to_owned();
    let found = || async {
        let trace = backends::trace(stack, &id).await.ok()?;
        let path = path_to(&trace, "POST /details/search", "backend")?;
        let is_nested = path.starts_with(
            &["traefik SERVER", "traefik CLIENT", "bookapp SERVER"].map(str::to_owned),
        ) && path
            .ends_with(&["bookapp CLIENT", "backend SERVER"].map(str::to_owned));
        is_nested.then(|| path.join(" → "))
    };
    eventually(TIMEOUT, "the nested trace is stored", found).await
}

/// Returns service and kind of each span from the root to a SERVER span, without those inside of a
/// service.
fn path_to(trace: &Trace, name: &str, service: &str) -> Option<Vec<String>> {
    let is_target =
        |span: &&Span| span.name == name && span.kind == "SERVER" && span.service() == service;
    let mut span = trace.spans().iter().find(is_target)?;
    let mut path = Vec::new();
    loop {
        if span.kind != "INTERNAL" {
            path.insert(0, format!("{} {}", span.service(), span.kind));
        }
        let Some(parent) = &span.parent_id else {
            return Some(path);
        };
        span = trace.spans().iter().find(|span| span.span_id == *parent)?;
    }
}

async fn down(stack: &Stack) -> Result<String> {
    // Grafana is not part of the native stack.
    let id = "0af7651916cd43dd8448eb211c80319c";
    let request = http()?.get(TRAEFIK).header(HOST, "grafana.localhost");
    let request = request.header("traceparent", format!("00-{id}-{PARENT}-01"));
    let status = request.send().await?.status();
    ensure!(status == 502, "{status}");
    let failed = || async {
        let trace = backends::trace(stack, id).await.ok()?;
        let mut spans = trace.spans().iter();
        spans
            .any(|span| {
                span.service() == "traefik" && span.kind == "SERVER" && span.status == "ERROR"
            })
            .then(|| "502".to_owned())
    };
    eventually(TIMEOUT, "the failed trace is stored", failed).await
}

async fn too_large(stack: &Stack) -> Result<String> {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = http()?.post(format!("{TRAEFIK}/books/add"));
    let request = request.header(HOST, "bookapp.localhost");
    let request = request.header(CONTENT_TYPE, "application/json");
    let request = request.header("traceparent", format!("00-{id}-{PARENT}-01"));
    let response = request.body(vec![b' '; 4 << 20]).send().await?;
    ensure!(response.status() == 413, "{}", response.status());
    let problem: Value = response.json().await?;
    ensure!(problem["status"] == 413, "{problem}");
    has_both_servers(stack, id).await?;
    Ok(problem["detail"].to_string())
}

/// Waits until the trace has one SERVER span of the ingress and one of the API, which is a child of a span
/// of the ingress.
async fn has_both_servers(stack: &Stack, id: &str) -> Result<()> {
    let found = || async {
        let trace = backends::trace(stack, id).await.ok()?;
        let spans = trace.spans();
        let mut servers: Vec<_> = spans.iter().filter(|span| span.kind == "SERVER").collect();
        servers.sort_by_key(|span| span.service());
        let [api, ingress] = servers[..] else {
            return None;
        };
        let parent = spans
            .iter()
            .find(|span| api.parent_id.as_ref() == Some(&span.span_id))?;
        let services = [api, ingress, parent].map(Span::service);
        (services == ["bookapp", "traefik", "traefik"]).then_some(())
    };
    eventually(TIMEOUT, "the trace has both SERVER spans", found).await
}

/// The number of requests that [`many`] sends at once, each on its own connection.
const CONNECTIONS: u64 = 1_000;

/// Sends requests at once. None may fail without a cause: the services answer 503 if they are
/// overloaded, and the ingress has no limit that is lower.
async fn many(stack: &Stack) -> Result<String> {
    let id = |number: u64| format!("{:032x}", 0xc000_0000 + number);
    let client = Client::builder().timeout(TIMEOUT).build()?;
    let mut requests = JoinSet::new();
    for number in 0..CONNECTIONS {
        let request = client.get(format!("{TRAEFIK}/books/1"));
        let request = request.header(HOST, "bookapp.localhost");
        let request = request.header("traceparent", format!("00-{}-{PARENT}-01", id(number)));
        requests.spawn(request.send());
    }
    let mut statuses = BTreeMap::<u16, u64>::new();
    while let Some(response) = requests.join_next().await {
        let response = response??;
        let (status, problem) = (response.status(), response.text().await?);
        let is_clear = status == 200 || (status == 503 && problem.contains("\"detail\""));
        ensure!(is_clear, "{status}: {problem}");
        *statuses.entry(status.as_u16()).or_default() += 1;
    }
    for number in 0..CONNECTIONS {
        has_both_servers(stack, &id(number)).await?;
    }
    let statuses = statuses.iter();
    let statuses = statuses.map(|(status, count)| format!("{count} × {status}"));
    Ok(statuses.collect::<Vec<_>>().join(", "))
}

async fn load(stack: &Stack) -> Result<String> {
    stack.run_load(LOAD_SECONDS, Some(TRAEFIK)).await?;
    let rooted = async || {
        let rooted = super::traces::rooted(stack, "traefik").await.ok()?;
        (rooted > 0).then(|| format!("{rooted} requests"))
    };
    eventually(TIMEOUT, "the traces are stored", rooted).await
}

async fn recorded() -> Result<String> {
    let metric = "traefik_router_requests_total{router=~\"bookapp.*\"}";
    let series =
        backends::wait_for_results(metric, "series", async || backends::series(metric).await);
    let series = series.await?;
    let query = r#"{service_name="traefik"}"#;
    let logs =
        backends::wait_for_results(query, "streams", async || backends::streams(query).await);
    Ok(format!("{series}, {} of logs", logs.await?))
}
