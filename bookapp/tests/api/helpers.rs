//! Starting the API for one test, and a verb for each thing a test does with it.

use std::{rc::Rc, thread, time::Duration};

use anyhow::Result;
use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER, PARTITIONS};
use bookapp::{App, config::Config};
use clap::Parser;
use rdkafka::message::OwnedMessage;
use reqwest::{Method, Response};
use reqwest_middleware::ClientWithMiddleware;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use telemetry_common::{http::client, testing};
use testbed::{eventually, kafka::Kafka, postgres::Postgres};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_mins(1);

/// The API on a port, a database and a Kafka of its own; to be [`finish`](Self::finish)ed.
pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) kafka: Rc<Kafka>,
    pub(crate) database_url: String,
    pub(crate) pool: PgPool,
    client: ClientWithMiddleware,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<()>>>,
}

pub(crate) async fn spawn_app() -> TestApp {
    spawn_app_with(&[]).await
}

/// An app with some settings of its own.
pub(crate) async fn spawn_app_with(settings: &[&str]) -> TestApp {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    let kafka = Kafka::start(&[BOOK_ADDED, BOOK_ADDED_DEAD_LETTER], PARTITIONS).unwrap();
    spawn_app_on(database_url, Rc::new(kafka), settings).await
}

/// An app that may share its database and Kafka with another one.
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
        "--backend-url=http://127.0.0.1:1",
    ];
    let config = Config::try_parse_from(defaults.iter().chain(settings));
    let app = App::build(config.unwrap()).await.unwrap();
    let url = format!("http://{}", app.address().unwrap());
    let stop = CancellationToken::new();
    let running = spawn(app.run(stop.clone()));
    let client = client::with_tracing(reqwest::Client::builder().timeout(SOON).build().unwrap());
    let pool = PgPool::connect(&database_url).await.unwrap();
    TestApp {
        url,
        kafka,
        database_url,
        pool,
        client,
        stop,
        running: Some(running),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's app is no work of a service"
)]
fn spawn(running: impl Future<Output = Result<()>> + Send + 'static) -> JoinHandle<Result<()>> {
    tokio::spawn(running)
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

    /// Adds a book and answers its id.
    pub(crate) async fn add_book(&self, title: &str, author: &str) -> i32 {
        let answer = self
            .post("/books/add", &json!({"title": title, "author": author}))
            .await;
        assert_eq!(answer.status(), 201);
        answer.json().await.unwrap()
    }

    /// How many rows a table holds.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let count = format!("select count(*) from {table}");
        sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// The first `count` announcements on the topic.
    pub(crate) async fn announced(&self, count: usize) -> Vec<OwnedMessage> {
        self.kafka.messages(BOOK_ADDED, count).await.unwrap()
    }

    /// Waits until nothing is left to announce, then stops the app as SIGTERM would.
    pub(crate) async fn finish(mut self) {
        eventually(SOON, "the outbox is sent", || async {
            (self.count("outbox where published_at is null").await == 0).then_some(())
        })
        .await
        .unwrap();
        self.stop.cancel();
        let running = self.running.take().expect("it is finished once");
        running.await.unwrap().unwrap();
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let unfinished = self.running.is_some() && !thread::panicking();
        assert!(
            !unfinished,
            "call `finish`: it checks that nothing is left undone"
        );
    }
}

/// The members of a problem document, its media type checked.
pub(crate) async fn problem(answer: Response) -> Value {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let traceparent = answer.headers()["traceparent"].to_str().unwrap().to_owned();
    assert!(answer.headers().contains_key("x-request-id"));
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["trace_id"], traceparent.split('-').nth(1).unwrap());
    problem
}
