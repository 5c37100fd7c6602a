//! The connection pool and its metrics: connections, waiting statements, wait times.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, UpDownCounter},
};
use sqlx::{Error, PgPool, Postgres, pool::PoolConnection};

use super::call::Call;
use crate::{scope, semconv};

/// A longer wait is recorded on the span; acquiring an idle connection takes microseconds.
const NOTICEABLE: Duration = Duration::from_millis(1);

/// A pool that measures how long statements wait for a connection.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) inner: PgPool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Metrics {
    name: [KeyValue; 1],
    pending: UpDownCounter<i64>,
    timeouts: Counter<u64>,
    wait_time: Histogram<f64>,
}

impl Pool {
    pub(super) fn new(inner: PgPool, name: &str) -> Self {
        let name = [KeyValue::new(
            semconv::DB_CLIENT_CONNECTION_POOL_NAME,
            name.to_owned(),
        )];
        observe(&inner, &name);
        let metrics = Arc::new(Metrics::new(name));
        Self { inner, metrics }
    }

    /// Acquires a connection for `call`.
    pub(super) async fn acquire(&self, call: &Call) -> sqlx::Result<PoolConnection<Postgres>> {
        let Metrics {
            name,
            pending,
            timeouts,
            wait_time,
        } = &*self.metrics;
        let started = Instant::now();
        let waiting = Waiting::begin(pending, name);
        let acquired = self.inner.acquire().await;
        drop(waiting);
        let waited = started.elapsed();
        wait_time.record(waited.as_secs_f64(), name);
        if let Err(Error::PoolTimedOut) = &acquired {
            timeouts.add(1, name);
        }
        call.record_wait(Some(waited).filter(|waited| *waited >= NOTICEABLE));
        acquired
    }
}

/// Counts a pending request until it is dropped.
struct Waiting<'m>(&'m UpDownCounter<i64>, &'m [KeyValue]);

impl<'m> Waiting<'m> {
    fn begin(pending: &'m UpDownCounter<i64>, name: &'m [KeyValue]) -> Self {
        pending.add(1, name);
        Self(pending, name)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.add(-1, self.1);
    }
}

impl Metrics {
    fn new(name: [KeyValue; 1]) -> Self {
        let meter = scope::meter();
        let metrics = Self {
            pending: meter
                .i64_up_down_counter(semconv::DB_CLIENT_CONNECTION_PENDING_REQUESTS)
                .with_unit("{request}")
                .with_description("Requests that wait for a connection of the pool")
                .build(),
            timeouts: meter
                .u64_counter(semconv::DB_CLIENT_CONNECTION_TIMEOUTS)
                .with_unit("{timeout}")
                .with_description("Requests for a connection that timed out")
                .build(),
            wait_time: meter
                .f64_histogram(semconv::DB_CLIENT_CONNECTION_WAIT_TIME)
                .with_unit("s")
                .with_description("Time that a request waited for a connection")
                .with_boundaries(semconv::DB_DURATION_BOUNDARIES.to_vec())
                .build(),
            name,
        };
        metrics.pending.add(0, &metrics.name);
        metrics.timeouts.add(0, &metrics.name);
        metrics
    }
}

/// Makes the metrics of the connections: used and idle, the maximum and the minimum.
fn observe(pool: &PgPool, name: &[KeyValue; 1]) {
    let meter = scope::meter();
    let bound = |metric, description, bound: fn(&PgPool) -> u32| {
        let (pool, name) = (pool.clone(), name.clone());
        meter
            .i64_observable_up_down_counter(metric)
            .with_unit("{connection}")
            .with_description(description)
            .with_callback(move |seen| seen.observe(i64::from(bound(&pool)), &name))
            .build();
    };
    bound(
        semconv::DB_CLIENT_CONNECTION_MAX,
        "Maximum number of open connections",
        |pool| pool.options().get_max_connections(),
    );
    bound(
        semconv::DB_CLIENT_CONNECTION_IDLE_MIN,
        "Minimum number of idle connections",
        |pool| pool.options().get_min_connections(),
    );
    let (pool, [name]) = (pool.clone(), name.clone());
    meter
        .i64_observable_up_down_counter(semconv::DB_CLIENT_CONNECTION_COUNT)
        .with_unit("{connection}")
        .with_description("Connections of the pool by state")
        .with_callback(move |count| {
            let idle = i64::try_from(pool.num_idle()).unwrap_or(i64::MAX);
            let used = i64::from(pool.size()) - idle;
            for (state, connections) in [("idle", idle), ("used", used)] {
                let state = KeyValue::new(semconv::DB_CLIENT_CONNECTION_STATE, state);
                count.observe(connections, &[name.clone(), state]);
            }
        })
        .build();
}
