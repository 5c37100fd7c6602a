//! The transactional outbox: an event is inserted in the same transaction as the change that it
//! describes, and the relay sends it to Kafka.
//!
//! A row stores the headers of its message, including the trace context. So the message carries the
//! trace of the request that inserted the row, even if the message is sent much later.

mod backlog;
mod held_keys;
mod leadership;
mod relay;
mod repository;
mod sender;

use std::{sync::Arc, time::Duration};

use book_events::{BOOK_EVENTS, BookEvent};
use opentelemetry::{Context, context::FutureExt};
use service_common::{kafka::Topic, pruning::prune};
use telemetry_common::{
    db::{Database, Transaction},
    kafka::{self, Headers},
    record_failure,
};
use tokio::sync::Notify;

pub use relay::Relay;
use repository::NewRow;

/// The topic that this service writes to.
const TOPICS: [Topic; 1] = [Topic {
    name: BOOK_EVENTS,
    has_dead_letters: false,
}];

/// Notifies the relay of this process of new rows. The relay finds rows of other instances by
/// polling.
#[derive(Clone, Debug, Default)]
pub struct RelayNotifier(Arc<Notify>);

impl RelayNotifier {
    /// Notifies the relay that there are new rows.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Prunes the messages that were sent more than `retention` ago, as long as it runs.
pub(crate) async fn prune_sent(db: &Database, retention: Duration) {
    prune("outbox", || repository::prune_sent(db, retention)).await;
}

/// Inserts an event in the caller's transaction, with its trace context.
pub(crate) async fn enqueue(tx: &mut Transaction, event: &BookEvent) -> sqlx::Result<()> {
    let (created, row) = create(event);
    let insert = async {
        let inserted = repository::insert(tx, &[row]).await;
        inserted.inspect_err(|error| record_failure("database", error))
    };
    insert.with_context(created).await
}

/// Inserts events in the caller's transaction with one statement. Each event has its own span.
pub(crate) async fn enqueue_all(tx: &mut Transaction, events: &[BookEvent]) -> sqlx::Result<()> {
    let rows: Vec<_> = events.iter().map(|event| create(event).1).collect();
    repository::insert(tx, &rows).await
}

/// Returns the context of the span that creates the message, and the row that carries it.
fn create(event: &BookEvent) -> (Context, NewRow) {
    let key = event.book_id.to_string();
    let event_id = event.event_id.to_string();
    let created = kafka::create_span(BOOK_EVENTS, Some(&key), Some(&event_id));
    let headers = Headers::carrying(&created).with("content-type", "application/json");
    let payload = serde_json::to_value(event).expect("an event is JSON");
    (
        created,
        NewRow {
            event_id,
            topic: BOOK_EVENTS,
            key,
            payload,
            headers,
        },
    )
}
