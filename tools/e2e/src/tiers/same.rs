//! Two gateways behind an agent give the figures of one collector.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    System, eventually,
    process::{Signal, Spec},
    sink::Sink,
    system::{Binaries, Dependencies, http},
};

use super::{
    Figures, Programs,
    collectors::{Hosts, start},
    figures::figures,
    stored::{DERIVED, GATEWAY, OF_SERVICES, Series, Stored},
};
use crate::{links::Pairs, stack::native, table::Table};

const ONE: &str = "127.0.0.2";
const AGENT: &str = "127.0.0.3";
const GATEWAYS: [&str; 2] = ["127.0.0.4", "127.0.0.5"];
/// The share of ordinary traces that is kept.
const BASELINE_PERCENT: &str = "10";
/// The number of clients that add books at the same time.
const CLIENTS: usize = 8;
/// The maximum time until all telemetry is stored.
const TIMEOUT: Duration = Duration::from_mins(3);

// proves: N29 N30
pub(super) async fn check(programs: &Programs, books: usize, table: &mut Table) -> Result<Figures> {
    let data = TempDir::with_prefix("bookapp-tiers-")?;
    let of_one = Sink::start().await?;
    let of_tiers = Sink::start().await?;
    let received = Sink::start().await?;
    let sampled = |spec: Spec| spec.env("TAIL_SAMPLING_BASELINE_PERCENT", BASELINE_PERCENT);
    let gateway = |address| {
        let spec = programs.gateway(address, data.path(), &of_tiers, &of_tiers);
        start(sampled(spec), address)
    };
    let _gateways = try_join_all(GATEWAYS.map(gateway)).await?;
    let hosts = Hosts::new(data.path(), &GATEWAYS)?;
    let _agent = start(programs.agent(AGENT, data.path(), &hosts), AGENT).await?;
    let one = sampled(programs.one(ONE, data.path(), &of_one));
    let one = native::tap(one, "agent", &format!("http://{AGENT}:4318"));
    let one = native::tap(one, "received", &received.endpoint());
    let _one = start(one, ONE).await?;

    let binaries = Binaries::build().await?;
    let endpoint = format!("http://{ONE}:4318");
    let system = System::start_with(&binaries, Dependencies::start(None).await?, |spec| {
        spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
    });
    let system = system.await?;
    send(&system.bookapp.url, books).await?;
    let processed = || async {
        let spans = received.spans();
        let processed = spans
            .iter()
            .filter(|span| span.name.starts_with("process "));
        (processed.count() >= books).then_some(())
    };
    eventually(TIMEOUT, "all messages are processed", processed).await?;
    for service in [&system.bookapp, &system.backend] {
        service.process.signal(Signal::SIGTERM);
        service.process.wait(TIMEOUT).await?;
    }

    let complete = || async {
        let (one, tiers) = (Stored::of(&of_one), Stored::of(&of_tiers));
        let is_complete = one.is_complete(ONE, &received.spans()).await.ok()?;
        (is_complete && one == tiers).then_some((one, tiers))
    };
    let stored = eventually(TIMEOUT, "both have stored everything", complete).await;
    // What differs after that time, a row of the table says.
    let (one, tiers) = stored.unwrap_or_else(|_| (Stored::of(&of_one), Stored::of(&of_tiers)));
    table.check("tiers", "spans at each gateway", shares(&of_tiers));
    for family in DERIVED
        .map(|(family, _)| family)
        .into_iter()
        .chain([OF_SERVICES])
    {
        table.check(
            "tiers",
            family,
            equal_series(&one.of_family(family), &tiers.of_family(family)),
        );
    }
    let records = |logs: &HashSet<_>| format!("{} records", logs.len());
    table.check("tiers", "logs", equal(&one.logs, &tiers.logs, records));
    let spans = |spans: &HashSet<_>| format!("{} spans", spans.len());
    table.check(
        "tiers",
        "kept spans",
        equal(&one.spans, &tiers.spans, spans),
    );
    let pairs = Pairs::of(&received.spans(), &tiers.traces());
    table.check("tiers", "traces that link to each other", together(&pairs));
    figures(&received, &one, books)
}

/// Adds this number of books. For each of them, also reads a book and a list.
async fn send(url: &str, books: usize) -> Result<()> {
    let client = http()?;
    let send = async |first: usize| {
        for book in (first..books).step_by(CLIENTS) {
            let book = json!({"title": format!("Kindred {book}"), "author": "Octavia E. Butler"});
            for request in [
                client.post(format!("{url}/books/add")).json(&book),
                client.get(format!("{url}/books/1")),
                client.get(format!("{url}/books?limit=5")),
            ] {
                request.send().await?.error_for_status()?;
            }
        }
        anyhow::Ok(())
    };
    try_join_all((0..CLIENTS).map(send)).await.map(drop)
}

/// Returns both, described. Fails if they are not equal.
fn equal<T: PartialEq>(one: &T, tiers: &T, describe: impl Fn(&T) -> String) -> Result<String> {
    let text = format!(
        "one collector: {}; gateways: {}",
        describe(one),
        describe(tiers)
    );
    ensure!(one == tiers, "{text}");
    Ok(text)
}

/// As [`equal`], and names a series that differs.
fn equal_series(one: &Series, tiers: &Series) -> Result<String> {
    let differs = |key: &&(_, _)| one.get(key) != tiers.get(key);
    let key = one.keys().chain(tiers.keys()).find(differs);
    let describe = |series: &Series| {
        let total: f64 = series.values().map(|totals| totals.value).sum();
        let of_key = key.map(|key| format!(": {} {:?}", key.1, series.get(key)));
        format!(
            "{} series, their values add up to {total:.0}{}",
            series.len(),
            of_key.unwrap_or_default()
        )
    };
    equal(one, tiers, describe)
}

/// Returns how many spans each gateway received. Fails if one of them received less than a fifth.
fn shares(tiers: &Sink) -> Result<String> {
    let mut spans: BTreeMap<String, f64> = BTreeMap::new();
    for point in tiers.points() {
        if point.name == "bookapp.spans.received" {
            let gateway = point.attributes.get(GATEWAY).and_then(Value::as_str);
            *spans
                .entry(gateway.unwrap_or_default().to_owned())
                .or_default() += point.value;
        }
    }
    let all: f64 = spans.values().sum();
    let share = |(gateway, spans): (&String, &f64)| format!("{gateway}: {spans}");
    let text = spans.iter().map(share).collect::<Vec<_>>().join(", ");
    let is_fair = spans.len() == GATEWAYS.len() && spans.values().all(|it| *it > all / 5.0);
    ensure!(is_fair, "{text}");
    Ok(text)
}

/// Fails if a link of a kept trace leads to a dropped one.
fn together(pairs: &Pairs) -> Result<String> {
    let Pairs {
        kept,
        dropped,
        excused,
        of_batches,
        torn,
    } = pairs;
    let text = format!(
        "of {} pairs {kept} kept, {dropped} dropped; kept at one end: {excused} because of what happened there, {of_batches} batches of which another message is kept, {torn} torn",
        pairs.all()
    );
    ensure!(*torn == 0 && *kept > 0 && *dropped > *kept, "{text}");
    Ok(text)
}
