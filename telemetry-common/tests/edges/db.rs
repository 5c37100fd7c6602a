//! Tests of the spans and metrics of statements, and of the connection pool, on a real PostgreSQL.

use std::{fmt::Debug, io::ErrorKind, time::Duration};

use opentelemetry::{KeyValue, Value, trace::Status};
use sqlx::{Connection, Error, Executor, PgConnection, SqlSafeStr, query, query_scalar};
use telemetry_common::{
    db::{Database, Limits, Session},
    testing::{self, attribute},
};
use testbed::{postgres::Postgres, proxy::Proxy};
use tokio::select;

async fn database() -> Database {
    let url = database_url().await;
    Database::new(url.parse().unwrap(), Limits::default(), "shop")
}

async fn database_url() -> String {
    testing::install();
    let postgres = Postgres::shared().await.unwrap();
    postgres.empty_database().await.unwrap()
}

/// The limits of a pool whose connection is used by one statement after the other.
const ONE_CONNECTION: Limits = Limits {
    max_connections: 1,
    acquire_timeout: SOON,
    answer_timeout: SOON,
};

/// The maximum time to wait.
const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_statement_is_a_span_with_the_number_of_its_rows() {
    let db = database().await;
    let (price, spans) = testing::spans_of(async {
        let price = query_scalar("select 42");
        price.fetch_one(db.on("SELECT", "answers")).await
    })
    .await;
    let price: i32 = price.unwrap();
    assert_eq!(price, 42);
    let span = spans.named("SELECT answers");
    let get = |key| attribute(span, key).cloned();
    assert_eq!(get("db.system.name"), Some("postgresql".into()));
    assert_eq!(get("db.collection.name"), Some("answers".into()));
    assert_eq!(get("db.response.returned_rows"), Some(Value::I64(1)));
    assert_eq!(span.status, Status::Unset);
    let table = KeyValue::new("db.collection.name", "answers");
    assert!(testing::sum("db.client.operation.duration", &table) > 0.0);
}

#[tokio::test]
async fn a_statement_that_is_only_prepared_is_not_recorded_as_cancelled() {
    let db = database().await;
    let (prepared, spans) = testing::spans_of(async {
        let prepare = db.on("SELECT", "prepared");
        prepare.prepare("select 42".into_sql_str()).await
    })
    .await;
    assert!(prepared.is_ok());
    let span = spans.named("SELECT prepared");
    assert_eq!(attribute(span, "error.type"), None);
}

#[tokio::test]
async fn a_failed_statement_has_the_code_of_its_error() {
    let db = database().await;
    let (failed, spans) = testing::spans_of(async {
        query("select 1 / 0")
            .execute(db.on("SELECT", "nothing"))
            .await
    })
    .await;
    assert!(failed.is_err());
    let span = spans.named("SELECT nothing");
    let code = Some(&Value::from("22012"));
    assert_eq!(attribute(span, "error.type"), code);
    assert_eq!(attribute(span, "db.response.status_code"), code);
    assert!(matches!(span.status, Status::Error { .. }));
}

#[tokio::test]
async fn a_transaction_is_visible_from_begin_to_commit() {
    let db = database().await;
    let (committed, spans) = testing::spans_of(async {
        let mut tx = db.begin().await?;
        query("create table prices (price int4)")
            .execute(tx.on("CREATE TABLE", "prices"))
            .await?;
        tx.commit().await
    })
    .await;
    committed.unwrap();
    assert_eq!(
        spans.names(),
        ["BEGIN", "CREATE TABLE prices", "COMMIT", "test"]
    );
}

async fn session(db: &Database) -> sqlx::Result<i32> {
    let session = query_scalar("select pg_backend_pid()");
    session.fetch_one(db.on("SELECT", "sessions")).await
}

/// A statement that waits as long as [`Lock`] is held.
const WAIT: &str = "select pg_advisory_lock_shared(7)";

/// A lock that statements of a test wait for.
struct Lock(PgConnection);

impl Lock {
    async fn acquire(url: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let lock = query("select pg_advisory_lock(7)");
        lock.execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// Runs `work` until one of its statements waits for the lock, then drops it and releases the lock.
    async fn drop_waiting(mut self, work: impl Future) {
        let waiting = async {
            let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                and database = (select oid from pg_database where datname = current_database())";
            while query_scalar::<_, i64>(waits)
                .fetch_one(&mut self.0)
                .await
                .unwrap()
                == 0
            {}
        };
        select! {
            _ = work => panic!("the statement waits for the lock"),
            () = waiting => {}
        }
        let unlock = query("select pg_advisory_unlock(7)");
        unlock.execute(&mut self.0).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_statement_gives_its_connection_back() {
    let url = database_url().await;
    let db = Database::new(url.parse().unwrap(), ONE_CONNECTION, "shop");
    let before = session(&db).await.unwrap();
    let lock = Lock::acquire(&url).await;
    let wait = query(WAIT).execute(db.on("SELECT", "prices"));
    lock.drop_waiting(wait).await;
    // The next statement waits until the server has ended the dropped one.
    assert_eq!(session(&db).await.unwrap(), before);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_in_a_statement_is_rolled_back() {
    let url = database_url().await;
    let db = Database::new(url.parse().unwrap(), ONE_CONNECTION, "shop");
    let create = query("create table prices (price int4)");
    create
        .execute(db.on("CREATE TABLE", "prices"))
        .await
        .unwrap();
    let before = session(&db).await.unwrap();
    let lock = Lock::acquire(&url).await;
    let work = async {
        let mut tx = db.begin().await.unwrap();
        let insert = query("insert into prices values (1)");
        insert.execute(tx.on("INSERT", "prices")).await.unwrap();
        query(WAIT).execute(tx.on("SELECT", "prices")).await
    };
    lock.drop_waiting(work).await;
    assert_eq!(session(&db).await.unwrap(), before);
    let rows: i64 = query_scalar("select count(*) from prices")
        .fetch_one(db.on("SELECT", "prices"))
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_replaced() {
    let url = database_url().await;
    let (_, address) = url.rsplit_once('@').unwrap();
    let (address, name) = address.split_once('/').unwrap();
    let proxy = Proxy::start(address).unwrap();
    let url = format!("postgres://postgres@{}/{name}", proxy.address());
    let limits = Limits {
        answer_timeout: Duration::from_secs(3),
        ..ONE_CONNECTION
    };
    let db = Database::new(url.parse().unwrap(), limits, "shop");
    let mut tx = db.begin().await.unwrap();
    proxy.set_dark(true);
    proxy.set_dark(false);
    let statement = query("select 1").execute(tx.on("SELECT", "prices")).await;
    assert_timed_out(&statement);
    drop(tx);
    let (lost, spans) = testing::spans_of(async {
        session(&db).await.unwrap();
        proxy.set_dark(true);
        proxy.set_dark(false);
        session(&db).await
    })
    .await;
    assert_timed_out(&lost);
    let statements = spans.all_named("SELECT sessions");
    assert_eq!(attribute(statements[1], "error.type"), Some(&"io".into()));
    session(&db).await.unwrap();
}

#[track_caller]
fn assert_timed_out<T: Debug>(result: &sqlx::Result<T>) {
    let is_timeout = |error: &std::io::Error| error.kind() == ErrorKind::TimedOut;
    assert!(
        matches!(result, Err(Error::Io(error)) if is_timeout(error)),
        "{result:?}"
    );
}
