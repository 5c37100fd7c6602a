//! Starts the API for a test, and provides a method for each action of a test.

use std::{rc::Rc, time::Duration};

use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER};
use bookapp::{App, config::Config};
use clap::{CommandFactory, FromArgMatches};
use rdkafka::message::OwnedMessage;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use service_common::lifecycle::Shutdown;
use sqlx::PgPool;
use telemetry_common::{
    http::client::{self, TrustedHosts},
    testing,
};
use testbed::{InProcess, eventually, kafka::Kafka, postgres::Postgres, proxy::Proxy};
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_mins(1);

/// The API with its own port, database and Kafka. A test must call [`finish`](Self::finish).
pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) kafka: Rc<Kafka>,
    pub(crate) database_url: String,
    pub(crate) pool: PgPool,
    /// Begins the drain time.
    pub(crate) drain: CancellationToken,
    client: client::TracedClient,
    running: InProcess,
}

pub(crate) async fn spawn_app() -> TestApp {
    spawn_app_with(&[]).await
}

/// Starts the API with additional settings.
pub(crate) async fn spawn_app_with(settings: &[&str]) -> TestApp {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    let kafka = Kafka::start(&[BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER]).unwrap();
    spawn_app_on(database_url, Rc::new(kafka), settings).await
}

/// Starts the API on a given database and Kafka, which another instance may use too. The settings replace
/// the defaults, so they may lead the API to the database by another way.
pub(crate) async fn spawn_app_on(
    database_url: String,
    kafka: Rc<Kafka>,
    settings: &[&str],
) -> TestApp {
    testing::install();
    let database_flag = format!("--database-url={database_url}");
    let kafka_flag = format!("--kafka-bootstrap-servers={}", kafka.bootstrap_servers());
    let defaults = [
        "bookapp",
        "--listen-addr=127.0.0.1:0",
        &*database_flag,
        &*kafka_flag,
        "--kafka-create-topics=false",
        "--fault-injection=true",
        "--backend-url=http://127.0.0.1:1",
    ];
    let flags = defaults.iter().chain(settings);
    let command = Config::command().args_override_self(true);
    let config = Config::from_arg_matches(&command.get_matches_from(flags));
    let app = App::build(config.unwrap()).await.unwrap();
    let url = format!("http://{}", app.address().unwrap());
    let drain = CancellationToken::new();
    let shutdown = |stop| Shutdown {
        drain: drain.clone(),
        stop,
    };
    let running = InProcess::start(&database_url, |stop| app.run(shutdown(stop)))
        .await
        .unwrap();
    let client = reqwest::Client::builder().timeout(SOON).build().unwrap();
    let client = client::with_tracing(client, TrustedHosts::all());
    TestApp {
        url,
        kafka,
        database_url,
        pool: running.pool.clone(),
        drain,
        client,
        running,
    }
}

impl TestApp {
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.url));
        request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.url));
        request
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(body.to_string())
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Response {
        let request = self.client.patch(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.client
            .delete(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn request(&self, method: &str, path: &str) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client
            .request(method, format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn post_raw(&self, path: &str, media_type: &str, body: Vec<u8>) -> Response {
        let request = self.client.post(format!("{}{path}", self.url));
        request
            .header("content-type", media_type)
            .body(body)
            .send()
            .await
            .unwrap()
    }

    /// Adds a book. Returns its id.
    pub(crate) async fn add_book(&self, title: &str, author: &str) -> i32 {
        let response = self
            .post("/books/add", &json!({"title": title, "author": author}))
            .await;
        assert_eq!(response.status(), 201);
        response.json().await.unwrap()
    }

    /// Returns the number of rows in a table.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.running.count(table).await.unwrap()
    }

    /// Waits for `count` messages on the topic, and returns them.
    pub(crate) async fn published(&self, count: usize) -> Vec<OwnedMessage> {
        self.kafka.messages(BOOK_EVENTS, count).await.unwrap()
    }

    /// Sends a request without a trace.
    pub(crate) async fn probe(&self, path: &str) -> Response {
        let client = reqwest::Client::builder().timeout(SOON).build().unwrap();
        let probe = client.get(format!("{}{path}", self.url));
        probe.send().await.unwrap()
    }

    /// Stops the API as SIGTERM does. Returns the connections to its database.
    pub(crate) async fn stop(self) -> PgPool {
        self.running.finish().await.unwrap();
        self.pool
    }

    /// Waits until all messages are sent.
    pub(crate) async fn all_sent(&self) {
        eventually(SOON, "all messages are sent", || async {
            (self.count("outbox where published_at is null").await == 0).then_some(())
        })
        .await
        .unwrap();
    }

    /// Waits until all messages are sent, then stops the API as SIGTERM does.
    pub(crate) async fn finish(self) {
        self.all_sent().await;
        self.running.finish().await.unwrap();
    }
}

/// Starts a proxy to a database. Returns the setting that leads the API through it.
pub(crate) fn proxy_to(database_url: &str) -> (Proxy, String) {
    let (_, address) = database_url.rsplit_once('@').unwrap();
    let (address, name) = address.split_once('/').unwrap();
    let proxy = Proxy::start(address).unwrap();
    let url = format!("postgres://postgres@{}/{name}", proxy.address());
    (proxy, format!("--database-url={url}"))
}

/// Checks the headers of a problem response. Returns the members of its document.
pub(crate) async fn problem(response: Response) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let traceparent = response.headers()["traceparent"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(response.headers().contains_key("x-request-id"));
    let status = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["trace_id"], traceparent.split('-').nth(1).unwrap());
    problem
}
