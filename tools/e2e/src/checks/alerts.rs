//! Checks which alerts are active, and that the queries of alerts and runbooks return data.

use anyhow::{Result, ensure};
use reqwest::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue, ORIGIN};
use testbed::system::http;

use crate::{
    Stack,
    alerts::{Alert, Runbook},
    backends,
    stack::ALERTMANAGER,
    table::Table,
};

/// The value that replaces a label of an alert.
const SERVICE: &str = "bookapp";

/// Checks that the watchdog is the only active alert. Pending alerts are not active.
// proves: R6
pub(super) async fn only_watchdog() -> Result<String> {
    let alerts = backends::alerts().await?;
    let names = alerts
        .iter()
        .filter_map(|alert| alert["labels"]["alertname"].as_str());
    let names = names.collect::<Vec<_>>();
    ensure!(names == ["Watchdog"], "{names:?}");
    Ok("1 alert".to_owned())
}

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    table.check(
        "alerts",
        "the queries for logs of every alert return data",
        logs(stack).await,
    );
    let what = "the queries for traces of every alert return data";
    if stack.is_tempo {
        table.check("alerts", what, traces(stack).await);
    } else {
        table.not_run("alerts", what, "the OTLP sink replaces Tempo");
    }
    table.check(
        "alerts",
        "the queries of every runbook return data",
        runbooks(stack).await,
    );
    table.check(
        "alerts",
        "the browser may read them from the start page, and not from elsewhere",
        origins(stack).await,
    );
}

/// Checks the origins that Alertmanager accepts.
async fn origins(stack: &Stack) -> Result<String> {
    for (origin, is_allowed) in [
        (&*stack.bookapp, true),
        ("http://localhost:8000", true),
        ("http://bookapp.localhost:8080", true),
        ("http://elsewhere.example", false),
    ] {
        let request = http()?.get(format!("{ALERTMANAGER}/api/v2/alerts"));
        let response = request.header(ORIGIN, origin).send().await?;
        let allowed = response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN);
        let expected = is_allowed.then_some(origin.as_bytes());
        let found = allowed.map(HeaderValue::as_bytes);
        ensure!(found == expected, "{origin}: {allowed:?}");
    }
    Ok("3 origins".to_owned())
}

async fn logs(stack: &Stack) -> Result<String> {
    let alerts = Alert::all(stack.root())?;
    for alert in &alerts {
        let query = alert.annotation("logs", SERVICE).unwrap_or_default();
        let found = async || backends::streams(&query).await;
        let what = format!("{}: {query}", alert.name);
        backends::wait_for_results(&what, "streams", found).await?;
    }
    Ok(format!("{} alerts", alerts.len()))
}

async fn traces(stack: &Stack) -> Result<String> {
    let alerts = Alert::all(stack.root())?;
    for alert in &alerts {
        let query = alert.annotation("traces", SERVICE).unwrap_or_default();
        let found = async || backends::search(stack, &query).await;
        let what = format!("{}: {query}", alert.name);
        backends::wait_for_results(&what, "traces", found).await?;
    }
    Ok(format!("{} alerts", alerts.len()))
}

async fn runbooks(stack: &Stack) -> Result<String> {
    let mut queries = 0;
    for runbook in Runbook::all(stack.root())? {
        for query in runbook.blocks("promql") {
            let what = format!("{}: {query}", runbook.name);
            let found = async || backends::series(query).await;
            backends::wait_for_results(&what, "series", found).await?;
            queries += 1;
        }
        for query in runbook.blocks("logql") {
            let what = format!("{}: {query}", runbook.name);
            let found = async || backends::streams(query).await;
            backends::wait_for_results(&what, "streams", found).await?;
            queries += 1;
        }
    }
    Ok(format!("{queries} queries"))
}
