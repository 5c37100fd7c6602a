//! Dead letters: messages that cannot be processed. The consumer sends them to a topic of their own,
//! with the reason, and people list, show, replay and discard them with commands.

pub mod commands;
mod letter;
mod reader;
mod repository;
mod sender;

use std::time::Duration;

use service_common::pruning::prune;
use telemetry_common::db::Database;

pub(crate) use sender::{DeadLetters, Unprocessed};

/// Prunes what was stored about dead letters that are no longer in Kafka, as long as it runs.
/// `retention` is the retention time of the topic.
pub(crate) async fn prune_handled(db: &Database, retention: Duration) {
    prune("handled_dead_letters", || {
        repository::prune(db, retention * 2)
    })
    .await;
}
