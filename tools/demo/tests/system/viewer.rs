//! Tests of the viewer beside both services, in headless Chromium.

use std::{collections::BTreeSet, sync::Arc};

use fantoccini::Locator;
use otlp_viewer::{Capacity, Viewer};
use serde_json::{Value, json};
use testbed::{System, sentry::SentrySink, system::http};

use crate::{browser::Browser, helpers};

/// Both services, and the viewer that shows their telemetry.
pub(crate) struct Observed {
    pub(crate) system: System,
    pub(crate) viewer: Viewer,
    _sentry: SentrySink,
}

impl Observed {
    pub(crate) async fn start() -> Self {
        let viewer = start_viewer().await;
        let sentry = SentrySink::start().await.unwrap();
        let system = helpers::start_with(|spec| {
            spec.env("VIEWER_URL", viewer.url())
                .env("SENTRY_DSN", sentry.dsn())
        });
        let system = system.await;
        system.sink.copy_to(Arc::clone(viewer.store()) as _);
        let store = Arc::clone(viewer.store());
        sentry.copy_to(move |event| store.add_error(event));
        Self {
            system,
            viewer,
            _sentry: sentry,
        }
    }

    pub(crate) async fn browser(&self) -> Browser {
        Browser::start(&format!("{}/", self.system.bookapp.url), true).await
    }
}

pub(crate) async fn start_viewer() -> Viewer {
    let address = "127.0.0.1:0".parse().unwrap();
    Viewer::start(&[address], Capacity::default())
        .await
        .unwrap()
}

impl Browser {
    /// Clicks on the button with this text, and then on the link to the trace of its response.
    pub(crate) async fn open_trace_of(&self, button: &str) {
        self.click("button", button).await;
        let response = self.response(1).await;
        let link = response.find(Locator::Css("a")).await.unwrap();
        link.click().await.unwrap();
        self.second_window().await;
    }
}

// proves: N18
#[tokio::test]
async fn a_book_leads_in_two_clicks_to_its_three_linked_traces_and_their_log_records() {
    let observed = Observed::start().await;
    let browser = observed.browser().await;
    browser.open_trace_of("Add a book").await;
    browser
        .with_text(".trace:nth-of-type(1) h2", "POST /books/add")
        .await;
    for name in ["send book.events.v1", "process book.events.v1"] {
        browser.with_text(".trace h2", name).await;
    }
    browser
        .with_text(".trace .logs", "POST /books/add responded with 201")
        .await;
    browser.with_text(".trace .logs", "ingested").await;
    // From the create span to the process span and back.
    browser
        .click(".jump a", "process book.events.v1 of backend")
        .await;
    browser
        .with_text(".trace:nth-of-type(1) h2", "process book.events.v1")
        .await;
    browser.with_text("details[open]", "consumer span").await;
    browser.with_text("details[open]", "book.events.v1").await;
    browser
        .click(".jump a", "create book.events.v1 of bookapp")
        .await;
    browser
        .with_text(".trace:nth-of-type(1) h2", "POST /books/add")
        .await;
    assert_eq!(browser.console_errors().await, [Value::Null; 0]);
    browser.end().await;
}

// proves: N18
#[tokio::test]
async fn a_failed_request_leads_to_its_error_event() {
    let observed = Observed::start().await;
    make_reading_fail(&observed.system).await;
    let browser = observed.browser().await;
    browser.open_trace_of("Read a book").await;
    browser.with_text(".trace .error-event", "no shelf").await;
    browser
        .with_text(".trace .error-event", "GET /books/{id}")
        .await;
    browser
        .with_text(".waterfall .failed", "GET /books/{id}")
        .await;
    // The list of errors leads to the same trace.
    let url = format!("{}/#/errors", observed.viewer.url());
    browser.client.goto(&url).await.unwrap();
    browser.click(".error-event a", "trace").await;
    browser.with_text(".trace .error-event", "no shelf").await;
    browser.end().await;
}

/// Makes reading a book fail.
pub(crate) async fn make_reading_fail(system: &System) {
    let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "error_code": 500, "error_message": "no shelf"});
    let rules = format!("{}/error-injection", system.bookapp.url);
    let stored = http()
        .unwrap()
        .post(rules)
        .json(&rule)
        .send()
        .await
        .unwrap();
    stored.error_for_status().unwrap();
    let book = format!("{}/books/1", system.bookapp.url);
    let fails = || async {
        let response = http().ok()?.get(&book).send().await.ok()?;
        (response.status() == 500).then_some(())
    };
    let failed = testbed::eventually(helpers::SOON, "the rule is active", fails);
    failed.await.unwrap();
}

/// What would run or change the page if it became markup.
const MARKUP: &str = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>";

#[tokio::test]
async fn values_from_telemetry_never_become_markup() {
    let viewer = start_viewer().await;
    let trace = "0a".repeat(16);
    let attributes = json!([{"key": MARKUP, "value": {"stringValue": MARKUP}}]);
    let resource =
        json!({"attributes": [{"key": "service.name", "value": {"stringValue": MARKUP}}]});
    let client = http().unwrap();
    for (path, body) in [
        (
            "v1/traces",
            json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [{
                "traceId": trace, "spanId": "0b".repeat(8), "name": MARKUP, "attributes": attributes,
                "startTimeUnixNano": "1795996800000000000", "endTimeUnixNano": "1795996800002000000",
                "status": {"code": 2, "message": MARKUP},
                "events": [{"name": MARKUP, "attributes": attributes}],
                "links": [{"traceId": trace, "spanId": "0b".repeat(8)}],
            }]}]}]}),
        ),
        (
            "v1/logs",
            json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [{
                "traceId": trace, "severityText": MARKUP, "body": {"stringValue": MARKUP},
                "attributes": attributes, "eventName": MARKUP,
            }]}]}]}),
        ),
        (
            "v1/metrics",
            json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [{
                "name": MARKUP, "unit": MARKUP, "description": MARKUP,
                "gauge": {"dataPoints": [{"asDouble": 1.0, "timeUnixNano": "1795996800000000000",
                    "attributes": attributes}]},
            }]}]}]}),
        ),
    ] {
        let request = client.post(format!("{}/{path}", viewer.url())).json(&body);
        request.send().await.unwrap().error_for_status().unwrap();
    }
    viewer.store().add_error(json!({"message": MARKUP, "transaction": MARKUP, "tags": {MARKUP: MARKUP},
        "contexts": {"trace": {"trace_id": trace}}, "breadcrumbs": {"values": [{"message": MARKUP}]}}));
    let browser = Browser::start(&format!("{}/", viewer.url()), true).await;
    let trace = format!("traces/{trace}/{}", "0b".repeat(8));
    for page in ["traces", &trace, "logs", "metrics", "errors"] {
        browser
            .client
            .goto(&format!("{}/#/{page}", viewer.url()))
            .await
            .unwrap();
        browser.with_text("main", MARKUP).await;
        let open_all = "for (const it of document.querySelectorAll('details')) it.open = true;";
        browser.client.execute(open_all, Vec::new()).await.unwrap();
        browser.with_text("main", MARKUP).await;
        let find = "return [document.querySelectorAll('img, main script').length, window.hit ?? 0]";
        let found = browser.client.execute(find, Vec::new()).await.unwrap();
        assert_eq!(found, json!([0, 0]), "{page}");
    }
    assert_eq!(browser.console_errors().await, [Value::Null; 0]);
    browser.end().await;
}

#[tokio::test]
async fn telemetry_appears_on_an_open_page_and_filters_work_by_keyboard() {
    let viewer = start_viewer().await;
    let browser = Browser::start(&format!("{}/", viewer.url()), true).await;
    browser.with_text("caption", "No trace").await;
    for (number, name) in [(1, "first"), (2, "second")] {
        send_span(&viewer, number, name).await;
        browser.with_text("td a", name).await;
    }
    let field = browser
        .client
        .find(Locator::Css("input[name=text]"))
        .await
        .unwrap();
    field.send_keys("SECOND").await.unwrap();
    browser.with_text("caption", "The latest 1 trace").await;
    // Tab moves from the last filter to the first trace, and Enter opens it.
    let last = browser
        .client
        .find(Locator::Css("input[name=max_ms]"))
        .await
        .unwrap();
    last.send_keys("\u{e004}").await.unwrap();
    let active = browser.client.active_element().await.unwrap();
    assert_eq!(active.text().await.unwrap(), "second");
    active.send_keys("\u{e007}").await.unwrap();
    browser.with_text("h2", "second").await;
    let unnamed = "return [...document.querySelectorAll('input, select')].filter((it) => !it.labels.length).length";
    let unnamed = browser.client.execute(unnamed, Vec::new()).await.unwrap();
    assert_eq!(unnamed, 0, "each field has a label");
    browser.end().await;
}

#[tokio::test]
async fn what_does_not_change_stays_in_the_page() {
    let viewer = start_viewer().await;
    viewer.store().add_error(json!({"message": "no shelf"}));
    let browser = Browser::start(&format!("{}/#/errors", viewer.url()), true).await;
    browser.with_text(".error-event", "no shelf").await;
    let mark = "window.seen = document.querySelector('.error-event')";
    browser.client.execute(mark, Vec::new()).await.unwrap();
    send_span(&viewer, 1, "other").await;
    browser.with_text("#counts", "1 span").await;
    // The list was refreshed for this span, or is before the next one.
    send_span(&viewer, 2, "another").await;
    browser.with_text("#counts", "2 spans").await;
    let stays = "return window.seen.isConnected";
    let stays = browser.client.execute(stays, Vec::new()).await.unwrap();
    assert_eq!(stays, true);
    viewer
        .store()
        .add_error(json!({"message": "no shelf left"}));
    browser.with_text(".error-event", "no shelf left").await;
    browser.end().await;
}

/// Sends a span, which is a trace of its own.
async fn send_span(viewer: &Viewer, number: u128, name: &str) {
    let span = json!({"traceId": format!("{number:032x}"), "spanId": "0b".repeat(8), "name": name,
        "startTimeUnixNano": "1795996800000000000", "endTimeUnixNano": "1795996800002000000"});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
    let request = http().unwrap().post(format!("{}/v1/traces", viewer.url()));
    let response = request.json(&body).send().await.unwrap();
    response.error_for_status().unwrap();
}

/// The start page links to the parts of the viewer, and to nothing that does not run.
#[tokio::test]
async fn the_start_page_links_to_the_viewer() {
    let observed = Observed::start().await;
    let browser = observed.browser().await;
    let mut elsewhere = BTreeSet::new();
    for link in browser.all("a").await {
        let url = link.prop("href").await.unwrap().unwrap();
        if !url.starts_with(&observed.system.bookapp.url) {
            elsewhere.insert(url);
        }
    }
    let parts = ["errors", "logs", "metrics", "traces"];
    let parts = parts.map(|part| format!("{}/#/{part}", observed.viewer.url()));
    assert_eq!(elsewhere, parts.into());
    browser.end().await;
}
