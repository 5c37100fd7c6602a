//! Tests of the spans and metrics of statements, on a real PostgreSQL.

use opentelemetry::{KeyValue, Value, trace::Status};
use sqlx::{postgres::PgPoolOptions, query, query_scalar};
use telemetry_common::{
    db::{Database, Session},
    testing::{self, attribute},
};
use testbed::postgres::Postgres;

async fn database() -> Database {
    testing::install();
    let url = Postgres::shared().await.unwrap();
    let options = url.empty_database().await.unwrap().parse().unwrap();
    Database::new(PgPoolOptions::new(), options, "shop")
}

#[tokio::test]
async fn a_statement_is_a_span_with_the_number_of_its_rows() {
    let db = database().await;
    let (price, spans) = testing::spans_of(async {
        let price = query_scalar("select 42");
        price.fetch_one(db.on("SELECT", "prices")).await
    })
    .await;
    let price: i32 = price.unwrap();
    assert_eq!(price, 42);
    let span = spans.named("SELECT prices");
    let get = |key| attribute(span, key).cloned();
    assert_eq!(get("db.system.name"), Some("postgresql".into()));
    assert_eq!(get("db.collection.name"), Some("prices".into()));
    assert_eq!(get("db.response.returned_rows"), Some(Value::I64(1)));
    assert_eq!(span.status, Status::Unset);
    let table = KeyValue::new("db.collection.name", "prices");
    assert!(testing::sum("db.client.operation.duration", &table) > 0.0);
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
