//! Takes the pictures of docs/pictures. `cargo xtask pictures` runs it.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    browser::Browser,
    viewer::{Observed, make_reading_fail},
};

#[tokio::test]
#[ignore = "it writes docs/pictures"]
async fn take() {
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
    make_reading_fail(&observed).await;
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

/// Takes a picture of a window of this height.
async fn picture(browser: &Browser, name: &str, height: u32) {
    browser.client.set_window_size(1100, height).await.unwrap();
    let picture = browser.client.screenshot().await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name).with_extension("png"), picture).unwrap();
}
