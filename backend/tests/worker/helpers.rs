//! Starts the worker for a test, and provides a method for each action of a test.

use std::time::Duration;

use backend::{App, config::Config};
use book_events::{BOOK_ADDED, BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER, BookEvent};
use clap::Parser;
use opentelemetry_sdk::logs::in_memory_exporter::LogDataWithResource;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders, OwnedMessage},
    producer::FutureRecord,
};
use reqwest::Response;
use serde_json::Value;
use service_common::lifecycle::Shutdown;
use sqlx::{AssertSqlSafe, PgPool};
use telemetry_common::{kafka, testing};
use testbed::{InProcess, eventually, kafka::Kafka, postgres::Postgres};
use tokio_util::sync::CancellationToken;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub(crate) const SOON: Duration = Duration::from_mins(1);

/// The worker with its own database and Kafka. A test must call [`finish`](Self::finish).
pub(crate) struct TestWorker {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    pub(crate) database_url: String,
    pub(crate) kafka: Kafka,
    producer: kafka::Producer,
    http: reqwest::Client,
    running: InProcess,
}

pub(crate) async fn spawn_worker() -> TestWorker {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    spawn_worker_on(database_url).await
}

/// Starts the worker on a given database.
pub(crate) async fn spawn_worker_on(database_url: String) -> TestWorker {
    spawn_worker_with(database_url, kafka()).await
}

/// Starts Kafka with the topics of the worker.
pub(crate) fn kafka() -> Kafka {
    Kafka::start(&[BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER, BOOK_ADDED]).unwrap()
}

/// Starts the worker on a given database and Kafka.
pub(crate) async fn spawn_worker_with(database_url: String, kafka: Kafka) -> TestWorker {
    testing::install();
    let config = Config::try_parse_from([
        "backend",
        "--listen-addr=127.0.0.1:0",
        &format!("--database-url={database_url}"),
        &format!("--kafka-bootstrap-servers={}", kafka.bootstrap_servers()),
        "--kafka-create-topics=false",
        "--fault-injection=true",
    ]);
    let app = App::build(config.unwrap()).await.unwrap();
    let url = format!("http://{}", app.address().unwrap());
    let shutdown = |stop: CancellationToken| Shutdown {
        drain: stop.clone(),
        stop,
    };
    let running = InProcess::start(&database_url, |stop| app.run(shutdown(stop)))
        .await
        .unwrap();
    let mut producer = ClientConfig::new();
    producer.set("bootstrap.servers", kafka.bootstrap_servers());
    let producer = kafka::Producer::create(&producer).unwrap();
    let http = reqwest::Client::builder().timeout(SOON).build().unwrap();
    TestWorker {
        url,
        pool: running.pool.clone(),
        database_url,
        kafka,
        producer,
        http,
        running,
    }
}

/// Waits for a log record with this event name and this body.
pub(crate) async fn wait_for_log(name: &str, body: &str) {
    let expected = Some(body.to_owned().into());
    let is_expected = |log: &LogDataWithResource| log.record.body() == expected.as_ref();
    let logged = || async { testing::events(name).iter().any(is_expected).then_some(()) };
    eventually(SOON, body, logged).await.unwrap();
}

impl TestWorker {
    /// Runs the command `backend dead-letters` with these arguments. Returns its exit code, and what it
    /// printed to stdout and to stderr.
    pub(crate) async fn dead_letters(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_backend"));
        command.args(["dead-letters"]).args(args).env_clear();
        command.env("DATABASE_URL", &self.database_url);
        command.env("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers());
        command.env("OTEL_SDK_DISABLED", "true");
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    }

    /// Publishes an event as bookapp does, with the trace context of the current span.
    pub(crate) async fn publish(&self, event: &BookEvent) {
        self.publish_with_key(&event.book_id.to_string(), event)
            .await;
    }

    /// Publishes an event as [`publish`](Self::publish), with another key.
    pub(crate) async fn publish_with_key(&self, key: &str, event: &BookEvent) {
        let created = kafka::create_span(BOOK_EVENTS, Some(&event.book_id.to_string()), None);
        let headers = OwnedHeaders::from(&kafka::Headers::carrying(&created));
        let value = serde_json::to_vec(event).unwrap();
        self.send(key, Some(&value), headers).await;
    }

    /// Sends a message to the topic of book events.
    pub(crate) async fn send(&self, key: &str, value: Option<&[u8]>, headers: OwnedHeaders) {
        self.send_to(BOOK_EVENTS, key, value, headers).await;
    }

    /// Sends a message to a topic.
    pub(crate) async fn send_to(
        &self,
        topic: &str,
        key: &str,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) {
        let mut record = FutureRecord::to(topic).key(key).headers(headers);
        record.payload = value;
        let context = Span::current().context();
        self.producer
            .send_created(record, None, &[&context])
            .await
            .unwrap();
    }

    /// Sends a value that is not an event, with an additional header.
    pub(crate) async fn send_bad(&self, value: Option<&[u8]>) {
        let mark = Header {
            key: "mark",
            value: Some("kept"),
        };
        let created = kafka::create_span(BOOK_EVENTS, Some("7"), None);
        let headers = OwnedHeaders::from(&kafka::Headers::carrying(&created)).insert(mark);
        self.send("7", value, headers).await;
    }

    /// Waits for the first dead letter, and returns it.
    pub(crate) async fn dead_letter(&self) -> OwnedMessage {
        self.kafka
            .messages(BOOK_EVENTS_DEAD_LETTER, 1)
            .await
            .unwrap()
            .remove(0)
    }

    /// Makes the database reject the details of one book, with this SQLSTATE.
    pub(crate) async fn reject_details(&self, sqlstate: &str, book_id: &str) {
        let trigger = format!(
            "create function refuse() returns trigger language plpgsql as
             $$ begin if new.book_id = {book_id} then
                raise exception 'refused' using errcode = '{sqlstate}';
             end if; return new; end $$;
             create trigger refuse before insert on book_details
             for each row execute function refuse();"
        );
        let trigger = sqlx::raw_sql(AssertSqlSafe(trigger));
        trigger.execute(&self.pool).await.unwrap();
    }

    /// Makes the database note in the table `effects` each time that the details of a book are stored, after
    /// this check in PL/pgSQL. It may take numbers from the sequence `tries`. A row has its `transaction`.
    pub(crate) async fn check_details(&self, check: &str) {
        let trigger = format!(
            "create table effects (book_id int4, transaction xid8 default pg_current_xact_id());
             create sequence tries;
             create function check_and_note() returns trigger language plpgsql as
             $$ begin {check} insert into effects (book_id) values (new.book_id); return null; end $$;
             create trigger check_and_note after insert or update on book_details
             for each row execute function check_and_note();"
        );
        let trigger = sqlx::raw_sql(AssertSqlSafe(trigger));
        trigger.execute(&self.pool).await.unwrap();
    }

    /// Makes the database accept all details again.
    pub(crate) async fn accept_details(&self) {
        let drop = sqlx::raw_sql("drop trigger refuse on book_details");
        drop.execute(&self.pool).await.unwrap();
    }

    /// Returns the number of rows in a table.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.running.count(table).await.unwrap()
    }

    /// Waits until a table has this number of rows.
    pub(crate) async fn wait_for_rows(&self, table: &str, rows: i64) {
        let has_rows = || async { (self.count(table).await == rows).then_some(()) };
        eventually(SOON, table, has_rows).await.unwrap();
    }

    /// Stops the worker as SIGTERM does, and starts another one on the same database and Kafka.
    pub(crate) async fn restart(self) -> Self {
        self.running.finish().await.unwrap();
        spawn_worker_with(self.database_url, self.kafka).await
    }

    /// Stops the worker as SIGTERM does.
    pub(crate) async fn finish(self) {
        self.running.finish().await.unwrap();
    }
}
