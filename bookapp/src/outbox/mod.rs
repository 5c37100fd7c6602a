//! What is to be announced is written in the transaction of what it announces; the relay sends it.
//!
//! A row stores the headers as they will be sent, so the message carries the trace of the request
//! that wrote it, however much later it leaves.

mod backlog;
mod relay;
mod repository;

use std::sync::Arc;

use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER, BookAdded};
use telemetry_common::{
    db::Transaction,
    kafka::{self, Headers},
};
use tokio::sync::Notify;
use tracing::{Instrument, Span};

pub use relay::Relay;
use repository::NewRow;

/// The topics this service writes, and the one its messages may end in.
pub const TOPICS: [&str; 2] = [BOOK_ADDED, BOOK_ADDED_DEAD_LETTER];

/// Wakes the relay of this process; rows of other instances it finds by polling.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Notify>);

impl Outbox {
    /// Tells the relay that there is something to send.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Writes an event down in the caller's transaction, with its trace.
pub(crate) async fn enqueue(tx: &mut Transaction, event: &BookAdded) -> sqlx::Result<()> {
    let (span, row) = create(event);
    repository::insert(tx, &[row]).instrument(span).await
}

/// Writes events down in the caller's transaction, each with a span of its own, by one statement.
pub(crate) async fn enqueue_all(tx: &mut Transaction, events: &[BookAdded]) -> sqlx::Result<()> {
    let rows: Vec<_> = events.iter().map(|event| create(event).1).collect();
    repository::insert(tx, &rows).await
}

/// The span of writing an event down, and the row that carries its context.
fn create(event: &BookAdded) -> (Span, NewRow) {
    let key = event.book_id.to_string();
    let event_id = event.event_id.to_string();
    let span = kafka::create_span(BOOK_ADDED, &key, &event_id);
    let headers = Headers::of(&span).with("content-type", "application/json");
    let payload = serde_json::to_value(event).expect("an event is JSON");
    (
        span,
        NewRow {
            event_id,
            topic: BOOK_ADDED,
            key,
            payload,
            headers,
        },
    )
}
