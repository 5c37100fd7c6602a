//! The relay: sends the pending messages of the outbox to Kafka in order.
//!
//! Only one instance relays at a time, the leader. It reads and marks rows on the connection that
//! holds the leadership, so it loses both together. A message that was sent but not marked is sent
//! again; the worker ignores the duplicate.
//!
//! A leader that loses its connection may still be sending. So the next one waits for as long as the
//! last one may take from reading a row to the end of sending its message. Only a process that the
//! operating system stops exactly between its look at the clock and the sending may take longer; then
//! two messages of a book can be sent out of order.

use std::{pin::pin, time::Duration};

use anyhow::Result;
use opentelemetry::metrics::Counter;
use service_common::health::Heartbeat;
use telemetry_common::{
    db::{Connection, Database},
    exception,
};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    RelayNotifier, TOPICS,
    backlog::Gauges,
    held_keys::{INITIAL_BACKOFF, MAX_BACKOFF},
    leadership,
    sender::{BatchOutcome, SETTLE_TIME, Sender, is_pending},
};
use crate::{config::Config, metrics::Metrics};

/// The interval of polling for rows of other instances. It doubles with each poll that finds none.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The interval of trying to become the leader.
const ELECTION_INTERVAL: Duration = Duration::from_millis(100);
/// The interval of the heartbeat and of measuring the backlog while the relay waits.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// Sends the messages of the outbox to Kafka.
pub struct Relay {
    config: Config,
    db: Database,
    outbox: RelayNotifier,
    gauges: Gauges,
    heartbeat: Heartbeat,
    quarantined: Counter<u64>,
}

impl Relay {
    /// Creates a relay that `outbox` notifies. Kafka does not have to be reachable yet.
    pub(crate) fn new(
        config: &Config,
        db: Database,
        outbox: RelayNotifier,
        metrics: &Metrics,
    ) -> Self {
        Self {
            config: config.clone(),
            db,
            outbox,
            gauges: Gauges::register(),
            heartbeat: Heartbeat::new(),
            quarantined: metrics.quarantined.clone(),
        }
    }

    /// Returns the heartbeat, which beats with each turn of the relay.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Relays until `drain` is cancelled. Restarts after a failure. From then on, another instance may
    /// lead. After `served` is cancelled, sends the messages of the last requests if none does.
    pub async fn run(self, drain: CancellationToken, served: CancellationToken) {
        while !drain.is_cancelled() {
            if let Err(error) = self.lead(&drain).await {
                log_failure(&error);
                drain.run_until_cancelled(sleep(INITIAL_BACKOFF)).await;
            }
            self.gauges.clear();
        }
        served.run_until_cancelled(self.beat()).await;
        if let Err(error) = self.send_rest().await {
            log_failure(&error);
        }
    }

    async fn beat(&self) {
        loop {
            self.heartbeat.beat();
            sleep(WAIT_INTERVAL).await;
        }
    }

    /// Waits for the leadership, then relays until `stop` is cancelled. Fails if the connection is
    /// lost or the producer has a fatal error.
    async fn lead(&self, stop: &CancellationToken) -> Result<()> {
        self.heartbeat.beat();
        let mut connection = self.db.connect().await?;
        let preparing = self.prepare(&mut connection);
        let Some(prepared) = stop.run_until_cancelled(preparing).await else {
            return Ok(());
        };
        prepared?;
        leadership::begin(&mut connection).await?;
        self.relay(&mut connection, stop).await?;
        Ok(leadership::end(&mut connection).await?)
    }

    /// Waits until this instance is the leader, the topics exist, and no message of a former leader is
    /// on its way.
    async fn prepare(&self, connection: &mut Connection) -> Result<()> {
        while !leadership::try_acquire(connection).await? {
            self.heartbeat.beat();
            sleep(ELECTION_INTERVAL).await;
        }
        info!(name: "bookapp.outbox.relay.elected", "this instance became the leader of the outbox relay");
        let kafka = &self.config.service.kafka;
        let topics = kafka.create_topics(&TOPICS);
        self.wait_for(connection, topics).await??;
        let may_be_sending = !leadership::predecessor_has_settled(connection).await?;
        if may_be_sending && is_pending(connection, &[]).await? {
            self.wait_for(connection, sleep(SETTLE_TIME)).await?;
        }
        Ok(())
    }

    /// Sends until `stop` is cancelled. When it returns, no message is on its way.
    async fn relay(&self, connection: &mut Connection, stop: &CancellationToken) -> Result<()> {
        let mut sender = self.sender()?;
        let (mut backoff, mut interval) = (INITIAL_BACKOFF, POLL_INTERVAL);
        while !stop.is_cancelled() {
            self.heartbeat.beat();
            self.gauges.measure(connection).await?;
            match sender.relay_batch(connection).await? {
                Some(BatchOutcome::Completed) => {
                    (backoff, interval) = (INITIAL_BACKOFF, POLL_INTERVAL);
                }
                Some(BatchOutcome::Failed) => {
                    let delay = self.wait_for(connection, sleep(backoff));
                    stop.run_until_cancelled(delay).await.transpose()?;
                    backoff = MAX_BACKOFF.min(backoff * 2);
                }
                None => {
                    select! {
                        () = stop.cancelled() => {}
                        () = self.outbox.0.notified() => {}
                        () = sleep(interval) => {
                            interval = MAX_POLL_INTERVAL.min(interval * 2);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends the pending messages, as long as Kafka accepts them, unless another instance leads or may
    /// still be sending.
    async fn send_rest(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let connection = &mut connection;
        if !is_pending(connection, &[]).await?
            || !leadership::try_acquire(connection).await?
            || !leadership::predecessor_has_settled(connection).await?
        {
            return Ok(());
        }
        leadership::begin(connection).await?;
        let mut sender = self.sender()?;
        while let Some(BatchOutcome::Completed) = sender.relay_batch(connection).await? {}
        Ok(leadership::end(connection).await?)
    }

    fn sender(&self) -> Result<Sender> {
        Sender::new(&self.config.service.kafka, self.quarantined.clone())
    }

    /// Waits for `work`. In the meantime, the heart beats, and the backlog is measured.
    async fn wait_for<T>(
        &self,
        connection: &mut Connection,
        work: impl Future<Output = T>,
    ) -> sqlx::Result<T> {
        let mut work = pin!(work);
        loop {
            self.heartbeat.beat();
            self.gauges.measure(connection).await?;
            select! {
                done = &mut work => return Ok(done),
                () = sleep(WAIT_INTERVAL) => {}
            }
        }
    }
}

fn log_failure(error: &anyhow::Error) {
    exception!(
        warn,
        "bookapp.outbox.relay.failed",
        &**error,
        "the outbox relay failed and will restart"
    );
}
