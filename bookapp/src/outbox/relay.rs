//! Sends what the outbox holds, in order, and marks it sent once the broker has acknowledged it.
//!
//! One relay at a time among all instances: it holds an advisory lock on a connection of its own,
//! reads and marks on that same connection, and so loses the lead with it. What was sent and not
//! marked is sent again; the worker's ledger makes that one effect.

use std::{error::Error, time::Duration};

use anyhow::{Context, Result};
use futures::future::join_all;
use rdkafka::{
    message::OwnedHeaders,
    producer::{FutureProducer, FutureRecord},
};
use telemetry_common::{
    db::{Connection, Database},
    kafka,
};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::{Outbox, repository};
use crate::config::Config;

/// The advisory lock of the relay: any number that nothing else in this database locks.
const LOCK: i64 = 0x0b00_4a99;
const BATCH: i64 = 100;
/// How often rows of other instances are looked for.
const POLL: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the broker may take to acknowledge a message.
const SEND_TIMEOUT: &str = "10000";

/// The sending half of the outbox.
pub struct Relay {
    db: Database,
    producer: FutureProducer,
    outbox: Outbox,
}

impl Relay {
    /// A relay that is woken by `outbox`; Kafka need not be there yet.
    pub fn new(config: &Config, db: Database, outbox: Outbox) -> Result<Self> {
        let producer = config
            .kafka
            .client()
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", SEND_TIMEOUT)
            .create()
            .context("the producer's settings are wrong")?;
        Ok(Self {
            db,
            producer,
            outbox,
        })
    }

    /// Relays until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Err(error) = self.lead(&stop).await else {
                return;
            };
            warn!(error = &error as &dyn Error, "the relay lost its database");
            stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    /// Waits for the lead, then relays until told to stop or the connection is lost.
    async fn lead(&self, stop: &CancellationToken) -> sqlx::Result<()> {
        let mut connection = self.db.detached().await?;
        while !repository::try_lead(connection.untraced(), LOCK).await? {
            if stop.run_until_cancelled(sleep(PAUSE)).await.is_none() {
                return Ok(());
            }
        }
        info!("this instance relays the outbox");
        while !stop.is_cancelled() {
            let mut pause = POLL;
            if repository::any_unpublished(connection.untraced()).await? {
                // An empty turn makes no span.
                let batch = info_span!(parent: None, "outbox.relay");
                match self.relay(&mut connection).instrument(batch).await? {
                    0 => continue,
                    _ => pause = PAUSE,
                }
            }
            select! {
                () = stop.cancelled() => {}
                () = self.outbox.0.notified() => {}
                () = sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Sends one batch; answers how many of it could not be sent.
    async fn relay(&self, connection: &mut Connection) -> sqlx::Result<usize> {
        let rows = repository::unpublished(&mut *connection, BATCH).await?;
        // Handed over in order, acknowledged side by side.
        let sends: Vec<_> = rows.iter().map(|row| self.send(row)).collect();
        let mut sent = Vec::with_capacity(rows.len());
        let mut failure = None;
        for (row, outcome) in rows.iter().zip(join_all(sends).await) {
            match outcome {
                Ok(_) => sent.push(row.id),
                Err(error) => failure = Some(error),
            }
        }
        let left = rows.len() - sent.len();
        if let Some(error) = failure {
            warn!(
                error = &error as &dyn Error,
                "{left} of {} messages not sent",
                rows.len()
            );
        }
        if !sent.is_empty() {
            repository::mark_published(connection, &sent).await?;
        }
        Ok(left)
    }

    fn send(
        &self,
        row: &repository::Row,
    ) -> impl Future<
        Output = rdkafka::error::KafkaResult<rdkafka::producer::future_producer::Delivery>,
    > + use<> {
        let payload = row.payload.to_string();
        let record = FutureRecord::to(&row.topic)
            .key(&row.key)
            .payload(&payload)
            .headers(OwnedHeaders::from(&row.headers.0));
        kafka::send(&self.producer, record, &row.headers.context())
    }
}
