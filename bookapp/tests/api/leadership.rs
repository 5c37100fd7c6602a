//! Tests of the relay's leadership: one instance relays at a time, and another one takes over.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use book_events::BOOK_EVENTS;
use serde_json::json;
use testbed::{
    eventually,
    kafka::Kafka,
    postgres::{Postgres, execute},
};

use crate::helpers::{SOON, TestApp, proxy_to, spawn_app, spawn_app_on};

/// Returns the process id of the session that leads the relay.
async fn leader(app: &TestApp) -> Option<i32> {
    let session = "select max(pid) from pg_locks where locktype = 'advisory' and granted
        and database = (select oid from pg_database where datname = current_database())";
    sqlx::query_scalar(session)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

/// The time that a new leader waits for the messages of a lost one.
const TAKEOVER_DELAY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn two_instances_send_each_row_once_and_one_takes_over_from_the_other() {
    let one = spawn_app().await;
    let two = spawn_app_on(one.database_url.clone(), one.kafka.clone(), &[]).await;
    // The batches are so large that two concurrent relays would both find their rows.
    let books: Vec<_> = (0..50)
        .map(|_| json!({"title": "T", "author": "A"}))
        .collect();
    let books = json!(books);
    for _ in 0..5 {
        let add = |app| TestApp::post(app, "/books/bulk_add", &books);
        tokio::join!(add(&one), add(&two));
    }
    one.all_sent().await;
    assert_eq!(one.kafka.count(BOOK_EVENTS).unwrap(), 500);

    // The leader loses its connection and so its leadership.
    let leader = "select pg_terminate_backend(pid) from pg_locks \
        where locktype = 'advisory' and granted and database = \
        (select oid from pg_database where datname = current_database())";
    let terminated: Vec<bool> = sqlx::query_scalar(leader)
        .fetch_all(&one.pool)
        .await
        .unwrap();
    assert_eq!(terminated, [true], "there is one leader");
    one.add_book("T", "A").await;
    one.all_sent().await;
    assert_eq!(one.kafka.count(BOOK_EVENTS).unwrap(), 501);
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn an_instance_that_drains_lets_another_one_relay() {
    let one = spawn_app().await;
    one.add_book("Emma", "Jane Austen").await;
    one.all_sent().await;
    let two = spawn_app_on(one.database_url.clone(), one.kafka.clone(), &[]).await;
    let first = leader(&two).await.expect("the first instance leads");
    // It still serves while another one takes over.
    one.drain.cancel();
    let next = || async {
        let next = leader(&two).await;
        next.is_some_and(|next| next != first).then_some(())
    };
    eventually(SOON, "another instance leads", next)
        .await
        .unwrap();
    assert_eq!(one.get("/books/1").await.status(), 200);
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn a_leader_that_ends_hands_over_at_once_and_after_a_lost_one_the_next_waits() {
    let one = spawn_app().await;
    let (database_url, kafka) = (one.database_url.clone(), one.kafka.clone());
    one.add_book("Emma", "Jane Austen").await;
    let two = spawn_app_on(database_url, kafka, &[]).await;
    let insert = "insert into outbox (event_id, topic, key, payload, headers)
        select gen_random_uuid(), topic, key, payload, headers from outbox limit 1;";
    one.finish().await;
    let ended = Instant::now();
    execute(&two.database_url, insert).await.unwrap();
    two.all_sent().await;
    assert!(ended.elapsed() < TAKEOVER_DELAY, "{:?}", ended.elapsed());

    // Messages of a leader that is lost may still be on their way.
    let lost = Instant::now();
    let lose_leader = format!(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted
             and database = (select oid from pg_database where datname = current_database());
         {insert}"
    );
    execute(&two.database_url, &lose_leader).await.unwrap();
    two.all_sent().await;
    assert!(lost.elapsed() >= TAKEOVER_DELAY, "{:?}", lost.elapsed());
    two.finish().await;
}

#[tokio::test]
async fn a_database_that_is_gone_without_a_word_stops_the_relay_for_seconds_only() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    let (proxy, through_proxy) = proxy_to(&database_url);
    let kafka = Rc::new(Kafka::start(&[BOOK_EVENTS]).unwrap());
    let app = spawn_app_on(database_url.clone(), kafka, &[&through_proxy]).await;
    app.add_book("Emma", "Jane Austen").await;
    app.published(1).await;

    proxy.set_dark(true);
    proxy.set_dark(false);
    // Past the service, whose connections are lost.
    execute(
        &database_url,
        "insert into outbox (event_id, topic, key, payload, headers)
         select 'after', topic, key, payload, headers from outbox limit 1",
    )
    .await
    .unwrap();
    app.published(1).await;
    app.finish().await;
}

#[tokio::test]
async fn an_instance_that_stops_before_it_sends_leaves_the_messages_of_a_lost_one() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    execute(
        &database_url,
        "update outbox_leadership set has_settled = false;
         insert into outbox (event_id, topic, key, payload, headers)
         values ('sent perhaps', 'book.events.v1', '1', '{}', '{}')",
    )
    .await
    .unwrap();
    let kafka = Rc::new(Kafka::start(&[BOOK_EVENTS]).unwrap());
    let app = spawn_app_on(database_url, kafka.clone(), &[]).await;
    eventually(SOON, "it leads, and waits", || leader(&app))
        .await
        .unwrap();
    let pool = app.stop().await;
    let left = "select count(*) from outbox, outbox_leadership
        where published_at is null and not has_settled";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&pool).await.unwrap();
    assert_eq!(left, 1);
    assert_eq!(kafka.count(BOOK_EVENTS).unwrap(), 0);
}
