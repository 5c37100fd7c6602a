//! Tests of the start page in headless Chromium.

use std::collections::HashSet;

use axum::{Json, Router, routing::get};
use fantoccini::{Locator, elements::Element};
use serde_json::{Value, json};
use testbed::{System, eventually, system};
use tokio::{net::TcpListener, task::JoinSet};
use url::Url;

use crate::{
    browser::Browser,
    helpers::{self, SOON},
};

const GRAFANA: &str = "https://grafana.example";

/// The start of the displayed response of each button, in the order of the page.
const RESPONSES: [&str; 12] = [
    "POST /books/add: 201",
    "POST /books/bulk_add: 201",
    "GET /books?limit=5: 200",
    "GET /books/95: 200",
    "GET /books/95/details: 200",
    "PATCH /books/95: 200",
    "DELETE /books/95: 200",
    "GET /books/2147483647: 404",
    "POST /error-injection: 200",
    "POST /error-injection: 200",
    "POST /error-injection: 200",
    "DELETE /error-injection: 200",
];

// proves: R1
#[tokio::test]
async fn every_button_shows_its_answer_and_opens_its_trace() {
    let system = start().await;
    let browser = open(&system, true).await;
    let buttons = browser.all("button[data-path]").await;
    assert_eq!(buttons.len(), RESPONSES.len());
    for (nth, (button, expected)) in buttons.iter().zip(RESPONSES).enumerate() {
        if expected.ends_with("/details: 200") {
            derived(&system, 95).await;
        }
        button.click().await.unwrap();
        let response = browser.response(nth + 1).await;
        assert!(
            response.text().await.unwrap().starts_with(expected),
            "{expected}: {}",
            response.text().await.unwrap()
        );
        let link = response.find(Locator::Css("a")).await.unwrap();
        let link = link.attr("href").await.unwrap().unwrap();
        let trace = trace_of_link(&link);
        let stored = || async {
            let spans = system.sink.spans();
            spans
                .iter()
                .any(|span| span.trace_id == trace)
                .then_some(())
        };
        eventually(SOON, "the trace of the response is stored", stored)
            .await
            .unwrap();
        let rules = if (9..12).contains(&(nth + 1)) {
            nth + 1 - 8
        } else {
            0
        };
        browser.rules(rules).await;
    }
    assert_eq!(browser.console_errors().await, [Value::Null; 0]);
    browser.client.refresh().await.unwrap();
    browser.end().await;
    let counted = || async {
        let points = system.sink.points();
        let visits = points
            .iter()
            .filter(|point| point.name == "bookapp.visitors");
        let visits = visits.map(|point| point.value).fold(0.0, f64::max);
        (visits > 1.5).then_some(visits)
    };
    let visits = eventually(SOON, "both visits are counted", counted)
        .await
        .unwrap();
    assert!((visits - 2.0).abs() < 0.1, "{visits}");
}

#[tokio::test]
async fn without_javascript_it_is_a_list_of_links_that_work() {
    let system = start().await;
    let browser = open(&system, false).await;
    for button in browser.all("button").await {
        assert!(
            !button.is_displayed().await.unwrap(),
            "a button without JavaScript has no effect"
        );
    }
    let mut hosts = HashSet::new();
    for link in browser.all("a").await {
        assert!(link.is_displayed().await.unwrap());
        assert!(!link.text().await.unwrap().is_empty());
        let url = link.prop("href").await.unwrap().unwrap();
        let url = Url::parse(&url).unwrap();
        if url.as_str().starts_with(&system.bookapp.url) {
            system::http()
                .unwrap()
                .get(url)
                .send()
                .await
                .unwrap()
                .error_for_status()
                .unwrap();
        } else {
            hosts.insert((
                url.host_str().unwrap().to_owned(),
                url.port_or_known_default().unwrap(),
            ));
        }
    }
    // The ports that docker-compose.yaml publishes, and the URL in GRAFANA_URL for Grafana.
    let elsewhere = [
        ("grafana.example", 443),
        ("localhost", 8001),
        ("localhost", 8002),
        ("localhost", 8089),
        ("localhost", 9090),
        ("localhost", 9093),
    ];
    assert_eq!(
        hosts,
        elsewhere.map(|(host, port)| (host.to_owned(), port)).into()
    );
    assert_eq!(browser.console_errors().await, [Value::Null; 0]);
    browser.end().await;
}

/// An answer of Alertmanager's API.
fn alerts() -> Value {
    let alert = |name: &str, severity: &str| {
        json!({
            "labels": {"alertname": name, "severity": severity},
            "annotations": {
                "summary": "requests fail",
                "impact": "Clients get <b>5xx</b> responses.",
                "dashboard": "/d/service",
                "runbook": "/d/runbook-bookappavailability",
                "traces": "{ status = error }",
                "logs": "{service_name=\"bookapp\"}",
            },
            "startsAt": "2026-11-29T06:00:00.000Z",
            "status": {"state": "active"},
        })
    };
    json!([
        alert("BookappAvailability", "page"),
        alert("Watchdog", "none")
    ])
}

// proves: R6
#[tokio::test]
async fn active_alerts_have_links_of_their_time_and_an_absent_alertmanager_is_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Without keep-alive, so that nothing answers after the end.
    let cors = [
        ("access-control-allow-origin", "*"),
        ("connection", "close"),
    ];
    let answer = move || async move { (cors, Json(alerts())) };
    let api = Router::new().route("/api/v2/alerts", get(answer));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, api).await });
    let system = helpers::start_with(|spec| {
        let spec = spec.env("GRAFANA_URL", format!("{GRAFANA}/"));
        spec.env("ALERTMANAGER_URL", format!("{url}/"))
    });
    let system = system.await;
    let browser = open(&system, true).await;
    let alert = browser.alert("page: BookappAvailability").await;
    let text = alert.text().await.unwrap();
    let shown = "requests fail. Clients get <b>5xx</b> responses.";
    assert!(text.contains(shown), "{text}");
    let mut links = Vec::new();
    for link in alert.find_all(Locator::Css("a")).await.unwrap() {
        links.push(link.attr("href").await.unwrap().unwrap());
    }
    let [dashboard, runbook, explore] = &links[..] else {
        panic!("{links:?}")
    };
    assert_eq!(*dashboard, format!("{GRAFANA}/d/service"));
    assert_eq!(*runbook, format!("{GRAFANA}/d/runbook-bookappavailability"));
    let panes = panes_of(explore);
    assert_eq!(panes["t"]["queries"][0]["query"], "{ status = error }");
    assert_eq!(
        panes["l"]["queries"][0]["expr"],
        "{service_name=\"bookapp\"}"
    );
    let start = 1_795_932_000_000_u64; // 2026-11-29T06:00:00Z
    let range =
        json!({"from": (start - 900_000).to_string(), "to": (start + 3_600_000).to_string()});
    assert_eq!(panes["t"]["range"], range);
    assert_eq!(browser.all("#alerts > li").await.len(), 1, "no watchdog");
    assert_eq!(browser.console_errors().await, [Value::Null; 0]);
    server.shutdown().await;
    browser.client.refresh().await.unwrap();
    browser.alert("unknown: Alertmanager does not answer").await;
    browser.end().await;
}

async fn start() -> System {
    helpers::start_with(|spec| spec.env("GRAFANA_URL", format!("{GRAFANA}/"))).await
}

async fn open(system: &System, javascript: bool) -> Browser {
    Browser::start(&format!("{}/", system.bookapp.url), javascript).await
}

async fn derived(system: &System, book: u32) {
    let url = format!("{}/books/{book}/details", system.bookapp.url);
    let there = || async {
        system::http()
            .ok()?
            .get(&url)
            .send()
            .await
            .ok()?
            .error_for_status()
            .ok()
    };
    eventually(SOON, "the worker has derived the details", there)
        .await
        .unwrap();
}

/// Returns the trace id in a link to Grafana. The link opens the trace and its logs side by side.
fn trace_of_link(link: &str) -> String {
    let panes = panes_of(link);
    let trace = panes["t"]["queries"][0]["query"].as_str().unwrap();
    assert_eq!(panes["t"]["datasource"], "tempo");
    let logs = format!("{{service_name=~\".+\"}} | trace_id=\"{trace}\"");
    assert_eq!(panes["l"]["queries"][0]["expr"], logs);
    trace.to_owned()
}

/// Returns the panes in a link to Explore.
fn panes_of(link: &str) -> Value {
    assert!(link.starts_with(&format!("{GRAFANA}/explore?")), "{link}");
    let link = Url::parse(link).unwrap();
    let (_, panes) = link
        .query_pairs()
        .find(|(name, _)| name == "panes")
        .unwrap();
    serde_json::from_str(&panes).unwrap()
}

impl Browser {
    /// Waits for `count` responses and returns the newest one.
    pub(crate) async fn response(&self, count: usize) -> Element {
        let there = || async {
            let mut responses = self.all("#answers > li").await;
            (responses.len() == count).then(|| responses.swap_remove(0))
        };
        eventually(SOON, "the response is displayed", there)
            .await
            .unwrap()
    }

    /// Waits until the page shows an alert that begins with this text.
    async fn alert(&self, start: &str) -> Element {
        let there = || async {
            let mut alerts = self.all("#alerts > li").await;
            let first = alerts.first()?.text().await.ok()?;
            first.starts_with(start).then(|| alerts.swap_remove(0))
        };
        eventually(SOON, start, there).await.unwrap()
    }

    /// Waits until the page lists `count` active rules. Without rules, it displays "none".
    async fn rules(&self, count: usize) {
        let listed = || async {
            let rules = self.all("#rules > li").await;
            let none = rules.first()?.text().await.ok()? == "none";
            (if none { 0 } else { rules.len() } == count).then_some(())
        };
        eventually(SOON, "the rules are displayed", listed)
            .await
            .unwrap();
    }
}
