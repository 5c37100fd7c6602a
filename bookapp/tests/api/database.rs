//! Tests of the database spans of telemetry-common, for each outcome of a statement.

use std::time::Duration;

use opentelemetry::{KeyValue, Value, trace::Status};
use sqlx::postgres::PgConnectOptions;
use telemetry_common::{
    db::{Database, Limits, Session},
    testing::{self, Spans, attribute},
};
use testbed::postgres::Postgres;
use tokio::time::timeout;

/// A pool whose only connection a test takes.
const ONE_CONNECTION: Limits = Limits {
    max_connections: 1,
    acquire_timeout: Duration::from_millis(200),
    answer_timeout: Duration::from_secs(10),
};

async fn database() -> Database {
    named_database(Limits::default(), "test").await
}

/// Creates a pool with a unique name, so that its metrics are not mixed with those of other tests.
async fn named_database(limits: Limits, name: &'static str) -> Database {
    testing::install();
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let options: PgConnectOptions = url.parse().unwrap();
    Database::new(options, limits, name).with_trace_id_in_activity(true)
}

// proves: N4 T13
#[tokio::test]
async fn a_violated_constraint_is_its_sqlstate() {
    let db = database().await;
    let (_, spans) = testing::spans_of(async {
        let incomplete = sqlx::query("insert into book_details (book_id) values (1)");
        incomplete.execute(db.on("INSERT", "book_details")).await
    })
    .await;
    assert_failed(&spans, "INSERT book_details", "23502");
    assert_eq!(
        attribute(
            spans.named("INSERT book_details"),
            "db.response.status_code"
        ),
        Some(&"23502".into())
    );
}

// proves: N4
#[tokio::test]
async fn waiting_for_a_connection_is_seen_and_measured() {
    let db = named_database(ONE_CONNECTION, "starved").await;
    let held = db.untraced().await.unwrap();
    let (result, spans) = testing::spans_of(async {
        let query = sqlx::query("select id from books where id = 1");
        query.fetch_all(db.on("SELECT", "books")).await
    })
    .await;
    assert!(matches!(result, Err(sqlx::Error::PoolTimedOut)));
    assert_failed(&spans, "SELECT books", "pool_timeout");
    let Some(Value::F64(waited)) = attribute(
        spans.named("SELECT books"),
        "telemetry_common.db.connection.wait",
    ) else {
        panic!("the span has no wait time")
    };
    assert!(*waited >= 0.2, "{waited}");
    drop(held);
    let timed_out = KeyValue::new("error.type", "pool_timeout");
    assert!(
        testing::sum("db.client.operation.duration", &timed_out) >= 0.2,
        "the duration includes the wait"
    );
    let ours = KeyValue::new("db.client.connection.pool.name", "starved");
    assert!(testing::sum("db.client.connection.timeouts", &ours) >= 1.0);
    assert!(
        testing::sum("db.client.connection.wait_time", &ours) >= 0.2,
        "the sum of the histogram, in seconds"
    );
    let pending = testing::sum("db.client.connection.pending_requests", &ours);
    assert!(pending.abs() < 0.5, "{pending}");
    assert!(testing::sum("db.client.connection.count", &ours) >= 1.0);
    assert!(testing::sum("db.client.connection.max", &ours) >= 1.0);
}

#[tokio::test]
async fn what_is_not_committed_is_rolled_back_and_seen() {
    let db = database().await;
    let ((), spans) = testing::spans_of(async {
        let mut tx = db.begin().await.unwrap();
        let query = sqlx::query("delete from books where id = 1");
        query.execute(tx.on("DELETE", "books")).await.unwrap();
    })
    .await;
    assert_eq!(spans.names(), ["BEGIN", "DELETE books", "ROLLBACK", "test"]);
    let left: i64 = sqlx::query_scalar("select count(*) from books where id = 1")
        .fetch_one(&mut *db.untraced().await.unwrap())
        .await
        .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn no_row_is_not_an_error() {
    let db = database().await;
    let (missing, spans) = testing::spans_of(async {
        let none = sqlx::query("select id from books where id = 0");
        none.fetch_one(db.on("SELECT", "books")).await
    })
    .await;
    assert!(matches!(missing, Err(sqlx::Error::RowNotFound)));
    let span = spans.named("SELECT books");
    assert_eq!(span.status, Status::Unset);
    assert_eq!(
        attribute(span, "db.response.returned_rows"),
        Some(&Value::I64(0))
    );
}

#[tokio::test]
async fn a_dropped_statement_is_cancelled() {
    let db = database().await;
    let ((), spans) = testing::spans_of(async {
        let sleep = sqlx::query("select pg_sleep(60)").execute(db.on("SELECT", "books"));
        timeout(Duration::from_millis(200), sleep)
            .await
            .unwrap_err();
    })
    .await;
    assert_failed(&spans, "SELECT books", "cancelled");
}

#[tokio::test]
async fn an_exhausted_pool_is_distinguished_from_a_slow_statement() {
    let db = named_database(ONE_CONNECTION, "exhausted").await;
    let held = db.untraced().await.unwrap();
    let (_, spans) = testing::spans_of(async {
        sqlx::query("select 1")
            .execute(db.on("SELECT", "books"))
            .await
    })
    .await;
    assert_failed(&spans, "SELECT books", "pool_timeout");
    drop(held);
}

#[tokio::test]
async fn a_slow_statement_is_a_span_and_no_log_record() {
    let db = database().await;
    let (result, spans) = testing::spans_of(async {
        // sqlx logs a statement that takes more than a second, unless that is switched off.
        let slow = sqlx::query("select pg_sleep(1.1)");
        slow.execute(db.on("SELECT", "books")).await
    })
    .await;
    result.unwrap();
    assert_eq!(spans.names(), ["SELECT books", "test"]);
    let logs = testing::logs_of(spans.trace_id());
    assert!(logs.is_empty(), "{logs:?}");
}

// proves: N4
#[tokio::test]
async fn a_transaction_names_its_trace_to_postgresql() {
    let db = database().await;
    let ((inside, after), spans) = testing::spans_of(async {
        let name = || sqlx::query_scalar::<_, String>("show application_name");
        let mut tx = db.begin().await.unwrap();
        let inside = name()
            .fetch_one(tx.on("SHOW", "application_name"))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        (
            inside,
            name()
                .fetch_one(&mut *db.untraced().await.unwrap())
                .await
                .unwrap(),
        )
    })
    .await;
    assert_eq!(inside, format!("test {}", spans.trace_id()));
    assert_eq!(after, "test");
    assert_eq!(
        spans.names(),
        ["BEGIN", "SHOW application_name", "COMMIT", "test"]
    );
}

#[track_caller]
fn assert_failed(spans: &Spans, name: &str, error_type: &'static str) {
    let span = spans.named(name);
    assert!(
        matches!(span.status, Status::Error { .. }),
        "{:?}",
        span.status
    );
    assert_eq!(attribute(span, "error.type"), Some(&error_type.into()));
}
