//! Tests of the visits of the start page, which are stored after the response.

use telemetry_common::testing::{self, Spans};
use testbed::eventually;

use crate::helpers::{SOON, spawn_app};

// proves: L30
#[tokio::test]
async fn a_visit_is_stored_after_the_response_in_a_linked_trace_and_the_end_waits_for_it() {
    let app = spawn_app().await;
    let pool = app.pool.clone();
    // The visit cannot be stored while another transaction has the table locked.
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("lock table visits")
        .execute(&mut *lock)
        .await
        .unwrap();
    let (response, request) = testing::spans_of(app.get("/")).await;
    assert_eq!(response.status(), 200, "the response does not wait for it");

    let waits = || async {
        let blocked = "select count(*) from pg_locks join pg_database on oid = database
            where datname = current_database() and relation = 'visits'::regclass and not granted";
        let blocked: i64 = sqlx::query_scalar(blocked).fetch_one(&pool).await.unwrap();
        (blocked == 1).then_some(())
    };
    eventually(SOON, "the visit waits for the table", waits)
        .await
        .unwrap();
    let stopped = async {
        app.finish().await;
    };
    let unlocked = async {
        lock.commit().await.unwrap();
    };
    tokio::join!(stopped, unlocked);

    let visits: i64 = sqlx::query_scalar("select count from visits where day = current_date")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(visits, 1);
    let server = request.named("GET /").span_context.clone();
    let linked = testing::events("bookapp.visit.stored")
        .into_iter()
        .filter_map(|log| Some(Spans::of(log.record.trace_context()?.trace_id)))
        .find(|spans| {
            let mut links = spans.named("visits.store").links.iter();
            links.any(|link| link.span_context == server)
        })
        .expect("the visit links to its request");
    let visit = linked.named("visits.store");
    assert_ne!(visit.span_context.trace_id(), server.trace_id());
    for (name, value) in [
        ("subject", "visits.async"),
        ("category", "visits"),
        ("http.route", "/"),
    ] {
        assert_eq!(
            testing::attribute(visit, name),
            Some(&value.into()),
            "{name}"
        );
    }
}
