//! Tests of idempotency keys: a repeated POST has one effect, and gets the same response.

use std::rc::Rc;

use book_events::BOOK_EVENTS;
use futures::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use telemetry_common::testing;
use testbed::{
    eventually,
    kafka::Kafka,
    postgres::{Postgres, execute},
};

use crate::helpers::{SOON, TestApp, problem, proxy_to, spawn_app, spawn_app_on};

async fn add(app: &TestApp, key: &str) -> Response {
    let book = json!({"title": "Emma", "author": "Jane Austen"});
    app.post_with_key("/books/add", key, &book).await
}

async fn id(response: Response) -> i32 {
    assert_eq!(response.status(), 201);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_repeated_request_has_one_effect_and_one_response() {
    let app = spawn_app().await;
    let first = id(add(&app, "k-1").await).await;
    let (repeated, spans) = testing::spans_of(add(&app, "k-1")).await;
    assert_eq!(repeated.headers()["location"], format!("/books/{first}"));
    assert_eq!(id(repeated).await, first);
    let books = json!([{"title": "A", "author": "B"}, {"title": "C", "author": "D"}]);
    let mut lists = Vec::new();
    for _ in 0..2 {
        let response = app.post_with_key("/books/bulk_add", "k-2", &books).await;
        assert_eq!(response.status(), 201);
        lists.push(response.json::<Vec<i32>>().await.unwrap());
    }
    assert_eq!(lists[0].len(), 2);
    assert_eq!(lists[0], lists[1]);
    assert_eq!(app.count("books").await, 92 + 3);
    assert_eq!(app.count("outbox").await, 3);
    let logs = testing::logs_of(spans.trace_id());
    let is_added = |name: Option<&str>| name == Some("bookapp.book.added");
    assert!(!logs.iter().any(|log| is_added(log.record.event_name())));
    let other = id(add(&app, "k-3").await).await;
    assert_ne!(other, first, "another key is another request");
    app.finish().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let app = spawn_app().await;
    id(add(&app, "k").await).await;
    let other = json!({"title": "Emma", "author": "Jane Austen", "status": "lost"});
    let same_as_list = json!([{"title": "Emma", "author": "Jane Austen"}]);
    for (path, body) in [("/books/add", other), ("/books/bulk_add", same_as_list)] {
        let response = app.post_with_key(path, "k", &body).await;
        assert_eq!(response.status(), 422, "{path}");
        let detail = problem(response).await["detail"].clone();
        assert_eq!(detail, "Idempotency-Key: was used for another request");
    }
    assert_eq!(app.count("books").await, 92 + 1);
    app.finish().await;
}

#[tokio::test]
async fn concurrent_requests_with_one_key_add_one_book() {
    let app = spawn_app().await;
    let adds = join_all((0..8).map(|_| add(&app, "k"))).await;
    let ids = join_all(adds.into_iter().map(id)).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(app.count("books").await, 92 + 1);
    app.finish().await;
}

#[tokio::test]
async fn a_request_that_failed_can_be_sent_again_with_its_key() {
    let app = spawn_app().await;
    sqlx::raw_sql("alter table outbox rename to elsewhere")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(add(&app, "k").await.status(), 500);
    sqlx::raw_sql("alter table elsewhere rename to outbox")
        .execute(&app.pool)
        .await
        .unwrap();
    id(add(&app, "k").await).await;
    assert_eq!(app.count("books").await, 92 + 1);
    app.finish().await;
}

#[tokio::test]
async fn an_invalid_key_is_rejected() {
    let app = spawn_app().await;
    for key in ["", "two words", &"k".repeat(256)] {
        let response = add(&app, key).await;
        assert_eq!(response.status(), 422, "{key}");
        let detail: Value = problem(response).await["detail"].clone();
        assert!(detail.as_str().unwrap().starts_with("Idempotency-Key: "));
    }
    assert_eq!(app.count("books").await, 92);
    app.finish().await;
}

#[tokio::test]
async fn old_keys_are_forgotten() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    execute(
        &database_url,
        "insert into idempotency_keys (key, fingerprint, book_ids, created_at)
         select 'old-' || n, '', '{}', now() - interval '25 hours' from generate_series(1, 15000) n;
         insert into idempotency_keys (key, fingerprint, book_ids, created_at)
         values ('new', '', '{}', now() - interval '23 hours')",
    )
    .await
    .unwrap();
    let kafka = Rc::new(Kafka::start(&[BOOK_EVENTS]).unwrap());
    let app = spawn_app_on(database_url, kafka, &[]).await;
    eventually(SOON, "the old keys are pruned", async || {
        (app.count("idempotency_keys").await == 1).then_some(())
    })
    .await
    .unwrap();
    app.finish().await;
}

#[tokio::test]
async fn a_connection_lost_in_commit_is_an_unknown_outcome_and_the_key_resolves_it() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    // COMMIT takes as long as the test holds this lock.
    execute(
        &database_url,
        "create function wait() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock(7); return null; end $$;
         create constraint trigger wait after insert on books deferrable initially deferred
         for each row execute function wait();",
    )
    .await
    .unwrap();
    let (proxy, through_proxy) = proxy_to(&database_url);
    let kafka = Rc::new(Kafka::start(&[BOOK_EVENTS]).unwrap());
    let app = spawn_app_on(database_url, kafka, &[&through_proxy]).await;
    let mut lock = app.pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(7)")
        .execute(&mut *lock)
        .await
        .unwrap();
    let (response, ()) = tokio::join!(add(&app, "k"), async {
        eventually(SOON, "the transaction commits", async || {
            let committing = "pg_stat_activity where query = 'COMMIT' and wait_event = 'advisory'";
            (app.count(committing).await == 1).then_some(())
        })
        .await
        .unwrap();
        proxy.cut();
    });
    assert_eq!(response.status(), 504);
    assert!(!response.headers().contains_key("retry-after"));
    let detail = problem(response).await["detail"].clone();
    assert_eq!(
        detail,
        "it is not known whether this request had its effect"
    );
    lock.rollback().await.unwrap();

    // The client asks again, and gets one book, however the first request ended.
    let added = async || {
        let response = add(&app, "k").await;
        (response.status() == 201).then_some(())
    };
    eventually(SOON, "the request is answered", added)
        .await
        .unwrap();
    assert_eq!(app.count("books").await, 92 + 1);
    app.finish().await;
}
