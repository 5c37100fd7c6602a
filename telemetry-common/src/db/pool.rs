//! The connection pool and its metrics: connections, pending requests, timeouts and wait times.
//!
//! Conventions:
//! <https://opentelemetry.io/docs/specs/semconv/db/database-metrics/#connection-pools>.

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

/// The minimum wait that is recorded on the span. Acquiring an idle connection takes microseconds.
const MIN_RECORDED_WAIT: Duration = Duration::from_millis(1);

/// A connection pool that records how long statements wait for a connection.
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
        let request = PendingRequest::begin(pending, name);
        let acquired = self.inner.acquire().await;
        drop(request);
        let waited = started.elapsed();
        wait_time.record(waited.as_secs_f64(), name);
        if let Err(Error::PoolTimedOut) = &acquired {
            timeouts.add(1, name);
        }
        call.record_wait(Some(waited).filter(|waited| *waited >= MIN_RECORDED_WAIT));
        acquired
    }
}

/// A request for a connection, which is counted as pending until it is dropped.
struct PendingRequest<'m>(&'m UpDownCounter<i64>, &'m [KeyValue]);

impl<'m> PendingRequest<'m> {
    fn begin(pending: &'m UpDownCounter<i64>, name: &'m [KeyValue]) -> Self {
        pending.add(1, name);
        Self(pending, name)
    }
}

impl Drop for PendingRequest<'_> {
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
                .with_description("Number of pending requests for a connection of the pool")
                .build(),
            timeouts: meter
                .u64_counter(semconv::DB_CLIENT_CONNECTION_TIMEOUTS)
                .with_unit("{timeout}")
                .with_description("Number of requests for a connection that timed out")
                .build(),
            wait_time: meter
                .f64_histogram(semconv::DB_CLIENT_CONNECTION_WAIT_TIME)
                .with_unit("s")
                .with_description("Time that a request waited for a connection of the pool")
                .with_boundaries(semconv::DB_DURATION_BOUNDARIES.to_vec())
                .build(),
            name,
        };
        metrics.pending.add(0, &metrics.name);
        metrics.timeouts.add(0, &metrics.name);
        metrics
    }
}

/// Creates the metrics of the connections: used, idle, maximum, and minimum of idle ones.
fn observe(pool: &PgPool, name: &[KeyValue; 1]) {
    let meter = scope::meter();
    let bound = |metric, description, bound: fn(&PgPool) -> u32| {
        let (pool, name) = (pool.clone(), name.clone());
        meter
            .i64_observable_up_down_counter(metric)
            .with_unit("{connection}")
            .with_description(description)
            .with_callback(move |observer| observer.observe(i64::from(bound(&pool)), &name))
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
        .with_description("Number of connections of the pool by state")
        .with_callback(move |observer| {
            let idle = i64::try_from(pool.num_idle()).unwrap_or(i64::MAX);
            let used = i64::from(pool.size()) - idle;
            for (state, connections) in [("idle", idle), ("used", used)] {
                let state = KeyValue::new(semconv::DB_CLIENT_CONNECTION_STATE, state);
                observer.observe(connections, &[name.clone(), state]);
            }
        })
        .build();
}
