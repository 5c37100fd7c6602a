//! The metrics of the outbox backlog. Only the leader of the relay reports them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use service_common::postgres::in_time;
use telemetry_common::{db::Connection, meter_of, service};
use tokio::time::Instant;

use super::{
    leadership::ANSWER_TIMEOUT,
    repository::{self, Backlog},
};

/// The shortest interval between two measurements.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The interval after a measurement, as a multiple of its duration. Counting many rows takes long.
const INTERVAL_RATIO: u32 = 20;
/// The delay of the next measurement from which on the latest one is not reported: no value is better
/// than a wrong one.
const MAX_DELAY: Duration = Duration::from_secs(15);

/// The latest measurement; `None` while this instance is not the leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges(Arc<Mutex<Option<Measurement>>>);

#[derive(Clone, Copy, Debug)]
struct Measurement {
    backlog: Backlog,
    /// The time of the next measurement.
    next: Instant,
}

impl Gauges {
    /// Registers the gauges. Each export of metrics reads the latest backlog.
    pub(super) fn register() -> Self {
        let gauges = Self::default();
        let meter = meter_of(service!());
        let current = gauges.clone();
        meter
            .i64_observable_gauge("bookapp.outbox.pending")
            .with_unit("{message}")
            .with_description(
                "Number of pending messages in the outbox. Only the relay leader reports it",
            )
            .with_callback(move |gauge| {
                if let Some(backlog) = current.get() {
                    gauge.observe(backlog.rows, &[]);
                }
            })
            .build();
        let current = gauges.clone();
        meter
            .f64_observable_gauge("bookapp.outbox.oldest.age")
            .with_unit("s")
            .with_description(
                "Age of the oldest pending message in the outbox. Only the relay leader reports it",
            )
            .with_callback(move |gauge| {
                if let Some(backlog) = current.get() {
                    gauge.observe(backlog.age, &[]);
                }
            })
            .build();
        gauges
    }

    /// Measures the backlog if it is time for it.
    pub(super) async fn measure(&self, connection: &mut Connection) -> sqlx::Result<()> {
        let started = Instant::now();
        if self.latest().is_some_and(|latest| started < latest.next) {
            return Ok(());
        }
        let backlog = repository::backlog(connection.untraced());
        let backlog = in_time(ANSWER_TIMEOUT, backlog).await?;
        let next = Instant::now() + MIN_INTERVAL.max(started.elapsed() * INTERVAL_RATIO);
        self.store(Some(Measurement { backlog, next }));
        Ok(())
    }

    /// Reports no backlog until the next measurement.
    pub(super) fn clear(&self) {
        self.store(None);
    }

    fn store(&self, latest: Option<Measurement>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = latest;
    }

    fn latest(&self) -> Option<Measurement> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Option<Backlog> {
        let latest = self.latest();
        let latest = latest.filter(|latest| Instant::now() < latest.next + MAX_DELAY);
        latest.map(|latest| latest.backlog)
    }
}

#[cfg(test)]
mod tests {
    use telemetry_common::db::{Database, Limits};
    use testbed::postgres::{Postgres, execute};

    use super::*;

    #[tokio::test]
    async fn every_pending_row_is_counted_and_an_old_number_is_not_reported() {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        execute(
            &url,
            "insert into outbox (event_id, topic, key, payload, headers, published_at)
             select n, 't', 'k', '{}', '{}', case when n > 12000 then now() end
             from generate_series(1, 12005) n",
        )
        .await
        .unwrap();
        let db = Database::new(url.parse().unwrap(), Limits::default(), "backlog");
        let mut connection = db.connect().await.unwrap();
        let gauges = Gauges::default();
        gauges.measure(&mut connection).await.unwrap();
        assert_eq!(gauges.get().unwrap().rows, 12_000);

        execute(&url, "delete from outbox").await.unwrap();
        gauges.measure(&mut connection).await.unwrap();
        assert_eq!(gauges.get().unwrap().rows, 12_000, "it is not time yet");
        let next = gauges.latest().unwrap().next;
        tokio::time::pause();
        tokio::time::advance(next + MAX_DELAY - Instant::now()).await;
        assert!(gauges.get().is_none());
        tokio::time::resume();
        gauges.measure(&mut connection).await.unwrap();
        assert_eq!(gauges.get().unwrap().rows, 0);
    }
}
