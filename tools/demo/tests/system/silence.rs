//! Tests of a dependency that is gone without a word: its connections stay open, and no byte passes.
//! Meanwhile, every request is answered in time. Within 30 s of the return, everything works again, and
//! no acknowledged book is lost.
//!
//! Kafka is different: its mock cluster delays its answers.

use std::{cell::RefCell, time::Duration};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use testbed::{
    System, eventually, postgres::query_number, process::Spec, proxy::Proxy, sentry::SentrySink,
    system::http,
};

use crate::helpers;

/// The time limit after the return of a dependency.
const RETURN: Duration = Duration::from_secs(30);
/// The time limit of the services for a request. A list waits 1 s for the backend, and on a busy machine some
/// seconds for a core.
const REQUEST_TIMEOUT: &str = "5s";
/// The time limit of these tests for an answer.
const ANSWERED: Duration = Duration::from_secs(10);
/// The number of concurrent requests of each kind. It is greater than the number of connections in a
/// pool.
const CONCURRENT: usize = 12;

/// The answers to requests while a dependency was away.
struct Answers {
    adds: Vec<StatusCode>,
    reads: Vec<StatusCode>,
    lists: Vec<StatusCode>,
}

impl Answers {
    fn assert_all(&self, expected: &[u16]) {
        for (kind, statuses) in [
            ("add", &self.adds),
            ("read", &self.reads),
            ("list", &self.lists),
        ] {
            let is_expected = |status: &StatusCode| expected.contains(&status.as_u16());
            assert!(statuses.iter().all(is_expected), "{kind}: {statuses:?}");
        }
    }
}

// proves: N1
#[tokio::test]
async fn postgresql_is_gone() {
    let (system, proxy) = start_behind_proxy("DATABASE_URL").await;
    let before = add_and_wait(&system).await;
    proxy.set_dark(true);
    let answers = request(&system).await;
    answers.assert_all(&[503, 504]);
    for (service, path, status) in [
        (&system.bookapp, "/health/live", 200),
        (&system.backend, "/health/live", 200),
        (&system.bookapp, "/health/ready", 503),
        (&system.backend, "/health/ready", 503),
    ] {
        let url = format!("{}{path}", service.url);
        assert_eq!(status_of(&url).await.unwrap(), status, "{url}");
    }
    proxy.set_dark(false);
    assert_works(&system, before).await;
    inject_failure(&system).await;
}

#[tokio::test]
async fn kafka_is_gone() {
    let system = start_with(|spec| spec).await;
    let kafka = system.mock_kafka().unwrap();
    assert_requests_succeed(&system, |is_dark| kafka.set_dark(is_dark).unwrap()).await;
}

#[tokio::test]
async fn the_backend_is_gone() {
    let (system, proxy) = start_behind_proxy("BACKEND_URL").await;
    assert_requests_succeed(&system, |is_dark| proxy.set_dark(is_dark)).await;
    let has_details = || async {
        let list = http()
            .unwrap()
            .get(format!("{}/books?after=92", system.bookapp.url));
        let list: serde_json::Value = list.send().await.ok()?.json().await.ok()?;
        list[0]["details"].is_object().then_some(())
    };
    eventually(RETURN, "lists have details again", has_details)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_collector_is_gone() {
    let (system, proxy) = start_behind_proxy("OTEL_EXPORTER_OTLP_ENDPOINT").await;
    assert_requests_succeed(&system, |is_dark| proxy.set_dark(is_dark)).await;
    let url = format!("{}/books/4711", system.bookapp.url);
    let is_exported = || async {
        let response = http().unwrap().get(&url).send().await.ok()?;
        let traceparent = response.headers()["traceparent"].to_str().ok()?;
        let trace = traceparent.split('-').nth(1)?.to_owned();
        let arrived = || async {
            let spans = system.sink.spans();
            spans
                .iter()
                .any(|span| span.trace_id == trace)
                .then_some(())
        };
        eventually(Duration::from_secs(2), "the span", arrived)
            .await
            .ok()
    };
    eventually(RETURN, "spans are exported again", is_exported)
        .await
        .unwrap();
}

#[tokio::test]
async fn sentry_is_gone() {
    let sentry = SentrySink::start().await.unwrap();
    let (before_host, host) = sentry.dsn().split_once('@').map(owned).unwrap();
    let (host, project) = host.split_once('/').map(owned).unwrap();
    let proxy = Proxy::start(&host).unwrap();
    let dsn = format!("{before_host}@{}/{project}", proxy.address());
    let system = start_with(|spec| spec.env("SENTRY_DSN", &dsn)).await;
    let before = add_and_wait(&system).await;
    inject_failure(&system).await;

    proxy.set_dark(true);
    // Each read is an event for Sentry.
    let answers = request(&system).await;
    answers.assert_all(&[200, 201, 500]);
    proxy.set_dark(false);
    let received = sentry.events().len();
    let is_reported = || async {
        is_failing(&system).await?;
        (sentry.events().len() > received).then_some(())
    };
    eventually(RETURN, "events are reported again", is_reported)
        .await
        .unwrap();
    let rules = format!("{}/error-injection", system.bookapp.url);
    http().unwrap().delete(&rules).send().await.unwrap();
    assert_works(&system, before + answers.adds.len()).await;
}

/// Checks that all requests succeed while a dependency is away, and that everything works afterwards.
async fn assert_requests_succeed(system: &System, set_dark: impl Fn(bool)) {
    let before = add_and_wait(system).await;
    set_dark(true);
    let answers = request(system).await;
    answers.assert_all(&[200, 201]);
    set_dark(false);
    assert_works(system, before + answers.adds.len()).await;
}

/// Injects a failure of each read of a book. Fails if the rule is not active within 30 s.
async fn inject_failure(system: &System) {
    let rules = format!("{}/error-injection", system.bookapp.url);
    let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "error_code": 500});
    let store = http().unwrap().post(rules).json(&rule);
    assert_eq!(store.send().await.unwrap().status(), 200);
    eventually(RETURN, "the rule is active", || is_failing(system))
        .await
        .unwrap();
}

async fn is_failing(system: &System) -> Option<()> {
    let url = format!("{}/books/1", system.bookapp.url);
    (status_of(&url).await? == 500).then_some(())
}

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

async fn start_with(adjust: impl Fn(Spec) -> Spec) -> System {
    helpers::start_with(|spec| adjust(spec.env("REQUEST_TIMEOUT", REQUEST_TIMEOUT))).await
}

/// Starts the system. The URL in this variable of both services leads through a proxy.
async fn start_behind_proxy(variable: &str) -> (System, Proxy) {
    let proxy = RefCell::new(None);
    let system = start_with(|spec| {
        let Some(url) = spec.env_value(variable).map(str::to_owned) else {
            return spec;
        };
        let start = url
            .find('@')
            .map_or_else(|| url.find("//").unwrap() + 2, |at| at + 1);
        let host = url[start..].split('/').next().unwrap();
        let mut proxy = proxy.borrow_mut();
        let proxy = proxy.get_or_insert_with(|| Proxy::start(host).unwrap());
        let through_proxy = url.replace(host, &proxy.address().to_string());
        spec.env(variable, through_proxy)
    })
    .await;
    (system, proxy.into_inner().unwrap())
}

/// Adds books and waits for their details. Returns their number.
async fn add_and_wait(system: &System) -> usize {
    let adds = join_all((0..CONCURRENT).map(|_| add(system))).await;
    assert!(
        adds.iter().all(|status| *status == StatusCode::CREATED),
        "{adds:?}"
    );
    wait_for_details(system, CONCURRENT).await;
    CONCURRENT
}

async fn add(system: &System) -> StatusCode {
    let book = json!({"title": "Solaris", "author": "Stanisław Lem"});
    let url = format!("{}/books/add", system.bookapp.url);
    let request = http().unwrap().post(url).json(&book).timeout(ANSWERED);
    request.send().await.unwrap().status()
}

async fn status_of(url: &str) -> Option<StatusCode> {
    let request = http().unwrap().get(url).timeout(ANSWERED);
    Some(request.send().await.ok()?.status())
}

/// Sends requests of each kind. Fails if one is not answered in time.
async fn request(system: &System) -> Answers {
    let get = |path: &'static str| {
        let url = format!("{}{path}", system.bookapp.url);
        async move {
            let status = status_of(&url).await;
            status.unwrap_or_else(|| panic!("{path} was not answered in time"))
        }
    };
    let (adds, reads, lists) = tokio::join!(
        join_all((0..CONCURRENT).map(|_| add(system))),
        join_all((0..CONCURRENT).map(|_| get("/books/1"))),
        join_all((0..CONCURRENT).map(|_| get("/books"))),
    );
    Answers { adds, reads, lists }
}

/// Checks within 30 s that both services work, and that the acknowledged books were processed.
async fn assert_works(system: &System, acknowledged: usize) {
    let works = || async {
        for path in ["/books/1", "/books", "/health/ready", "/health/live"] {
            let url = format!("{}{path}", system.bookapp.url);
            (status_of(&url).await? == 200).then_some(())?;
        }
        let url = format!("{}/health/ready", system.backend.url);
        (status_of(&url).await? == 200).then_some(())
    };
    let processed = async {
        eventually(RETURN, "the system works", works).await.unwrap();
        assert_eq!(add(system).await, StatusCode::CREATED);
    };
    tokio::join!(processed, wait_for_details(system, acknowledged));
    wait_for_details(system, acknowledged + 1).await;
}

async fn wait_for_details(system: &System, books: usize) {
    let count = "select count(*) from book_details";
    let all = || async {
        let details = query_number(&system.database_url, count).await.ok()?;
        (details >= i64::try_from(books).unwrap()).then_some(())
    };
    eventually(RETURN, "all books have details", all)
        .await
        .unwrap();
}
