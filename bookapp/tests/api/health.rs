//! Tests of the health checks: while the service is busy, and while it shuts down.

use serde_json::{Value, json};
use testbed::eventually;

use crate::helpers::{SOON, spawn_app, spawn_app_with};

#[tokio::test]
async fn a_probe_is_answered_while_requests_use_all_connections() {
    let app = spawn_app_with(&["--database-max-connections=1"]).await;
    let mut lock = app.pool.begin().await.unwrap();
    sqlx::query("lock table books")
        .execute(&mut *lock)
        .await
        .unwrap();
    let (response, ()) = tokio::join!(app.get("/books/1"), async {
        eventually(SOON, "a request waits for the lock", async || {
            let waiting = "pg_stat_activity where wait_event_type = 'Lock'";
            (app.count(waiting).await > 0).then_some(())
        })
        .await
        .unwrap();
        assert_eq!(app.probe("/health/ready").await.status(), 200);
        lock.rollback().await.unwrap();
    });
    assert_eq!(response.status(), 200);
    app.finish().await;
}

#[tokio::test]
async fn in_the_drain_time_the_service_is_not_ready_and_still_serves() {
    let app = spawn_app().await;
    assert_eq!(app.probe("/health/ready").await.status(), 200);
    assert!(
        !app.get("/books/1")
            .await
            .headers()
            .contains_key("connection")
    );
    app.drain.cancel();
    let ready = app.probe("/health/ready").await;
    assert_eq!(ready.status(), 503);
    let problem: Value = ready.json().await.unwrap();
    assert_eq!(problem["detail"], "the service is shutting down");
    assert_eq!(app.probe("/health/live").await.status(), 200);
    let book = json!({"title": "Emma", "author": "Jane Austen"});
    let response = app.post("/books/add", &book).await;
    assert_eq!(response.status(), 201);
    assert_eq!(
        response.headers()["connection"],
        "close",
        "the client's next request goes elsewhere"
    );
    // No other instance leads the relay, so this one sends the message at the end.
    let pool = app.stop().await;
    let unsent = "select count(*) from outbox where published_at is null";
    let unsent: i64 = sqlx::query_scalar(unsent).fetch_one(&pool).await.unwrap();
    assert_eq!(unsent, 0);
}
