//! Tests of the details: they follow each change of a book, whatever the order of its events.

use book_events::{BOOK_ADDED, BookEvent, Change};
use rdkafka::message::OwnedHeaders;
use testbed::system::WRONG_DETAILS;

use crate::helpers::{TestWorker, spawn_worker};

/// Changes of a book in the database, as bookapp makes them. Each returns the event.
struct Books<'w> {
    worker: &'w TestWorker,
}

impl Books<'_> {
    async fn add(&self) -> BookEvent {
        let id = "insert into books (title, author) values ('New', 'Somebody') returning id";
        let id = sqlx::query_scalar(id).fetch_one(&self.worker.pool).await;
        BookEvent::added(id.unwrap(), "load-42".to_owned())
    }

    async fn change(&self, id: i32, title: &str) -> BookEvent {
        let version =
            "update books set title = $2, version = version + 1 where id = $1 returning version";
        let version = sqlx::query_scalar(version).bind(id).bind(title);
        let version = version.fetch_one(&self.worker.pool).await.unwrap();
        BookEvent::now(Change::Changed, id, version, "load-42".to_owned())
    }

    async fn remove(&self, id: i32) -> BookEvent {
        let version = "delete from books where id = $1 returning version + 1";
        let version = sqlx::query_scalar(version).bind(id);
        let version = version.fetch_one(&self.worker.pool).await.unwrap();
        BookEvent::now(Change::Removed, id, version, "load-42".to_owned())
    }
}

#[tokio::test]
async fn details_follow_each_change_of_a_book() {
    let worker = spawn_worker().await;
    let books = Books { worker: &worker };
    let added = books.add().await;
    let id = added.book_id;
    worker.publish(&added).await;
    worker
        .wait_for_rows(&format!("book_details where book_id = {id}"), 1)
        .await;
    worker
        .publish(&books.change(id, "The Changed One").await)
        .await;
    let details = format!("book_details where book_id = {id} and sort_title = 'Changed One, The'");
    worker.wait_for_rows(&details, 1).await;
    worker.publish(&books.remove(id).await).await;
    worker.wait_for_rows("book_details", 0).await;
    worker.finish().await;
}

#[tokio::test]
async fn any_order_of_events_leaves_the_details_of_the_newest_books() {
    for seed in 0..3 {
        let worker = spawn_worker().await;
        let books = Books { worker: &worker };
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut left, mut unsent, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..150 {
            let index = rng.usize(..left.len().max(1));
            unsent.push(match (rng.u8(..10), left.get(index).copied()) {
                (0..5, Some(id)) => books.change(id, &format!("Title {step}")).await,
                (5..7, Some(_)) => books.remove(left.swap_remove(index)).await,
                _ => {
                    let added = books.add().await;
                    left.push(added.book_id);
                    added
                }
            });
            // Some events are late, and some are sent again.
            rng.shuffle(&mut unsent);
            let now = unsent.split_off(rng.usize(..=unsent.len()));
            let again: Vec<_> = (0..rng.usize(..2))
                .filter_map(|_| rng.choice(&sent).cloned())
                .collect();
            for event in now.iter().chain(&again) {
                worker.publish(event).await;
            }
            sent.extend(now);
        }
        for event in &unsent {
            worker.publish(event).await;
        }
        worker.wait_for_rows("ledger", 150).await;
        assert!(left.len() > 5, "seed {seed}");
        assert_eq!(worker.count(WRONG_DETAILS).await, 0, "seed {seed}");
        worker.finish().await;
    }
}

#[tokio::test]
async fn details_of_a_newer_version_stay() {
    let worker = spawn_worker().await;
    let books = Books { worker: &worker };
    let added = books.add().await;
    // As if another worker had processed a later change.
    let newer = "insert into book_details values ($1, 'newer', '', '', '', now(), 2)";
    sqlx::query(newer)
        .bind(added.book_id)
        .execute(&worker.pool)
        .await
        .unwrap();
    worker.publish(&added).await;
    worker.wait_for_rows("ledger", 1).await;
    assert_eq!(worker.count("book_details where slug = 'newer'").await, 1);
    worker.finish().await;
}

#[tokio::test]
async fn what_waits_in_the_topic_of_an_earlier_release_is_processed() {
    let worker = spawn_worker().await;
    let event = br#"{"event_id":"01JCKB3T9Z6QW5N7R8V2X4Y0AB","event_type":"book.added",
        "schema_version":1,"occurred_at":"2026-11-22T06:00:00Z","book_id":1,"request_id":"old"}"#;
    worker
        .send_to(BOOK_ADDED, "1", Some(event), OwnedHeaders::new())
        .await;
    worker.wait_for_rows("book_details", 1).await;
    worker.finish().await;
}
