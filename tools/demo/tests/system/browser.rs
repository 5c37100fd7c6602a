//! Headless Chromium, controlled over `WebDriver`.
//!
//! `CHROMEDRIVER` is the path of chromedriver; the default is the one in `PATH`.

use std::{env, process::Command};

use fantoccini::{
    Client, ClientBuilder, Locator, elements::Element, wd::WebDriverCompatibleCommand,
};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    eventually,
    process::{Process, Spec, launch},
};
use url::{ParseError, Url};

use crate::helpers::SOON;

/// A browser with a page open.
pub(crate) struct Browser {
    pub(crate) client: Client,
    profile: TempDir,
    _driver: Process,
}

/// Ends the browser of a failed test: it does not end with its driver.
impl Drop for Browser {
    fn drop(&mut self) {
        let mut end = Command::new("pkill");
        end.arg("--full").arg(self.profile.path());
        let _ = launch(end).and_then(|mut end| end.wait());
    }
}

impl Browser {
    /// Starts a browser and opens `url`.
    pub(crate) async fn start(url: &str, javascript: bool) -> Self {
        let program = env::var_os("CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
        let driver = Process::start(&Spec::new("chromedriver", program).arg("--port=0"));
        let driver = driver.expect(".ci/install installs chromium-driver");
        let port = |line: &str| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        };
        let port = driver.line(SOON, port).await.unwrap();
        let allowed = if javascript { 1 } else { 2 };
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let capabilities = json!({
            "goog:chromeOptions": {
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,2000", folder],
                "prefs": {"profile.managed_default_content_settings.javascript": allowed},
            },
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let capabilities = capabilities.as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        client.goto(url).await.unwrap();
        Self {
            client,
            profile,
            _driver: driver,
        }
    }

    pub(crate) async fn all(&self, css: &str) -> Vec<Element> {
        self.client.find_all(Locator::Css(css)).await.unwrap()
    }

    /// The records of the browser console, without the failed requests that the buttons cause.
    /// Waits until an element has text that contains `text`, and returns it.
    pub(crate) async fn with_text(&self, css: &str, text: &str) -> Element {
        let there = || async {
            for element in self.all(css).await {
                // An element that was replaced meanwhile has no text.
                let found = element.text().await.unwrap_or_default();
                if found.contains(text) {
                    return Some(element);
                }
            }
            None
        };
        let what = format!("{css} contains {text}");
        eventually(SOON, &what, there).await.unwrap()
    }

    /// Waits until an element has text that contains `text`, and clicks on it. On a page that changes, it may be
    /// replaced before the click; then the new one is clicked.
    pub(crate) async fn click(&self, css: &str, text: &str) {
        let clicked = || async { self.with_text(css, text).await.click().await.ok() };
        let what = format!("{css} with {text} is clicked");
        eventually(SOON, &what, clicked).await.unwrap();
    }

    /// Waits for a second window, which a link has opened, and switches to it.
    pub(crate) async fn second_window(&self) {
        let opened = || async { self.client.windows().await.ok()?.get(1).cloned() };
        let window = eventually(SOON, "a window opens", opened).await.unwrap();
        self.client.switch_to_window(window).await.unwrap();
    }

    pub(crate) async fn console_errors(&self) -> Vec<Value> {
        let log = self.client.issue_cmd(Log).await.unwrap();
        let lines = log.as_array().unwrap().iter();
        lines
            .filter(|line| line["source"] != "network")
            .cloned()
            .collect()
    }

    pub(crate) async fn end(self) {
        self.client.clone().close().await.unwrap();
    }
}

/// The command of chromedriver that reads the browser console.
#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}
