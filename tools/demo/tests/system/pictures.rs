//! Takes the pictures of docs/pictures. `cargo xtask pictures` runs it, and sets the paths of the programs.

use std::{env, fs, net::TcpListener, path::Path};

use fantoccini::Locator;
use serde_json::Value;
use tempfile::TempDir;
use testbed::{
    eventually,
    process::{Process, Spec},
    system::http,
};

use crate::{
    browser::Browser,
    helpers::{self, SOON},
    viewer::{Observed, make_reading_fail},
};

#[tokio::test]
#[ignore = "it writes docs/pictures"]
async fn start_page_and_viewer() {
    let observed = Observed::start().await;
    let browser = observed.browser().await;
    browser.open_trace_of("Add a book").await;
    browser.with_text(".trace .logs", "ingested").await;
    picture(&browser, "three-linked-traces", 1250).await;
    let windows = browser.client.windows().await.unwrap();
    browser.client.close_window().await.unwrap();
    browser
        .client
        .switch_to_window(windows[0].clone())
        .await
        .unwrap();
    browser
        .client
        .execute("scrollTo(0, document.body.scrollHeight)", Vec::new())
        .await
        .unwrap();
    picture(&browser, "start-page", 860).await;
    make_reading_fail(&observed.system).await;
    let url = format!("{}/", observed.system.bookapp.url);
    browser.client.goto(&url).await.unwrap();
    browser.open_trace_of("Read a book").await;
    browser.with_text(".trace .error-event", "no shelf").await;
    picture(&browser, "failure-with-its-error", 860).await;
    browser
        .client
        .goto(&format!("{}/#/traces", observed.viewer.url()))
        .await
        .unwrap();
    browser.with_text("caption", "The latest").await;
    picture(&browser, "list-of-traces", 860).await;
    assert_eq!(browser.console_errors().await, [Value::Null; 0]);
    browser.end().await;
}

/// `BUGSINK` is the folder of its programs.
#[tokio::test]
#[ignore = "it writes docs/pictures"]
async fn issue_in_bugsink() {
    let address = free_address();
    let data = TempDir::new().unwrap();
    let serve = Spec::new("bugsink", root().join("stack/bugsink/serve"))
        .arg(data.path())
        .arg(&address)
        .arg(env::var_os("BUGSINK").expect("BUGSINK is set"));
    let _bugsink = Process::start(&serve).unwrap();
    responds(&format!("http://{address}/health/ready")).await;
    let dsn = format!("http://0123456789abcdef0123456789abcdef@{address}/1");
    let system = helpers::start_with(|spec| {
        spec.env("SENTRY_DSN", &dsn)
            .env("GRAFANA_URL", "http://localhost:3000")
    })
    .await;
    make_reading_fail(&system).await;

    // The cookies of the login are for the host of the pages.
    let url = format!("http://{}", address.replace("127.0.0.1", "localhost"));
    let browser = Browser::start(&format!("{url}/accounts/login/"), true).await;
    let form = browser.client.form(Locator::Css("form")).await.unwrap();
    form.set_by_name("username", "admin@example.org")
        .await
        .unwrap();
    form.set_by_name("password", "admin").await.unwrap();
    form.submit_with(Locator::Css("button")).await.unwrap();
    let listed = || async {
        browser
            .client
            .goto(&format!("{url}/issues/1/"))
            .await
            .ok()?;
        let issue = Locator::Css("a[href*='/issues/issue/']");
        browser.client.find(issue).await.ok()?.click().await.ok()
    };
    eventually(SOON, "Bugsink lists the issue", listed)
        .await
        .unwrap();
    let details = browser.with_text("a", "Event Details").await;
    details.click().await.unwrap();
    browser.with_text("body", "no shelf").await;
    picture(&browser, "issue-in-bugsink", 2200).await;
    browser.end().await;
}

/// `LOCUST` is the program.
#[tokio::test]
#[ignore = "it writes docs/pictures"]
async fn statistics_of_locust() {
    let observed = Observed::start().await;
    let address = free_address();
    let (host, port) = address.split_once(':').unwrap();
    let locust = Spec::new("locust", env::var_os("LOCUST").expect("LOCUST is set"))
        .arg("--locustfile")
        .arg(root().join("requests/locustfile.py"))
        .arg(format!("--web-host={host}"))
        .arg(format!("--web-port={port}"))
        .arg("--autostart")
        .arg("--users=10")
        .arg("--spawn-rate=10")
        .arg("--run-time=20s")
        .arg(format!("--host={}", observed.system.bookapp.url))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", observed.viewer.url());
    let _locust = Process::start(&locust).unwrap();
    let url = format!("http://{address}/");
    responds(&url).await;
    let browser = Browser::start(&url, true).await;
    browser.with_text("body", "STOPPED").await;
    picture(&browser, "statistics-of-locust", 860).await;
    browser.end().await;
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn responds(url: &str) {
    let client = http().unwrap();
    let responds = || async {
        let response = client.get(url).send().await.ok()?;
        response.error_for_status().ok().map(drop)
    };
    eventually(SOON, url, responds).await.unwrap();
}

/// Takes a picture of a window of this height.
async fn picture(browser: &Browser, name: &str, height: u32) {
    browser.client.set_window_size(1100, height).await.unwrap();
    let picture = browser.client.screenshot().await.unwrap();
    let folder = root().join("docs/pictures");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name).with_extension("png"), picture).unwrap();
}
