//! The connection pool and its metrics: connections, pending requests, timeouts and wait times.
//!
//! The pool is deadpool's and not sqlx's. sqlx tests each connection when it is released, without a
//! time limit: a host that is gone without a word keeps the places of its connections for as long
//! as the kernel tries, and each statement costs a second round trip. Here, a connection is tested
//! when it has not been used for a second, or when its last statement did not end, and each test
//! has a time limit.
//!
//! Conventions:
//! <https://opentelemetry.io/docs/specs/semconv/db/database-metrics/#connection-pools>.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{self, Object, PoolConfig, PoolError, QueueMode, RecycleError};
use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Counter},
};
use sqlx::{ConnectOptions, Connection, Error, PgConnection, postgres::PgConnectOptions};
use tokio::{runtime::Handle, time::timeout};

use super::call::Call;
use crate::{scope, semconv};

/// The minimum wait that is recorded on the span. Acquiring an idle connection takes microseconds.
const MIN_RECORDED_WAIT: Duration = Duration::from_millis(1);

/// A connection that was not used for this time is tested before its use. After a restart of the
/// server, at most one statement per connection fails because the connection was not tested.
const MAX_UNTESTED: Duration = Duration::from_secs(1);

/// The time limit of a test, and of a rollback in the background. A connection that does not answer
/// is closed.
pub(super) const TEST_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection of this age is closed instead of used again, so that the memory of its session is
/// freed, and new connections find the server that the name then stands for.
const MAX_AGE: Duration = Duration::from_mins(30);

/// The limits of a [`Database`](super::Database).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of open connections. Default: 10.
    pub max_connections: usize,
    /// Time limit for getting a connection: waiting, connecting and testing. Default: 3 s.
    pub acquire_timeout: Duration,
    /// Time limit for the answer to a statement, and for the next rows of an answer. Default: 10 s.
    ///
    /// The server's setting `statement_timeout` should be shorter. Then this one is reached only if
    /// the server is gone without a word.
    pub answer_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(10),
        }
    }
}

/// Opens the connections of the pool and tests them before they are used again.
#[derive(Debug)]
struct Manager(PgConnectOptions);

impl managed::Manager for Manager {
    type Type = PgConnection;
    type Error = Error;

    async fn create(&self) -> sqlx::Result<PgConnection> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        connection: &mut PgConnection,
        metrics: &managed::Metrics,
    ) -> Result<(), RecycleError<Error>> {
        if metrics.age() > MAX_AGE {
            return Err(RecycleError::message("too old"));
        }
        if metrics.last_used() < MAX_UNTESTED || answers(connection).await {
            return Ok(());
        }
        Err(RecycleError::message("no answer"))
    }
}

/// Tests a connection. This also waits for the end of a statement that was cancelled.
async fn answers(connection: &mut PgConnection) -> bool {
    matches!(timeout(TEST_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}

/// A connection pool that records how long statements wait for a connection.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    inner: managed::Pool<Manager>,
    acquire_timeout: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Metrics {
    name: [KeyValue; 1],
    pending: Arc<AtomicI64>,
    timeouts: Counter<u64>,
    wait_time: BoundHistogram<f64>,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, limits: Limits, name: &str) -> Self {
        let name = [KeyValue::new(
            semconv::DB_CLIENT_CONNECTION_POOL_NAME,
            name.to_owned(),
        )];
        let config = PoolConfig {
            queue_mode: QueueMode::Lifo,
            ..PoolConfig::new(limits.max_connections)
        };
        let pool = managed::Pool::builder(Manager(options)).config(config);
        let inner = pool
            .build()
            .expect("without timeouts, no runtime is needed");
        observe(&inner, &name);
        Self {
            inner,
            acquire_timeout: limits.acquire_timeout,
            metrics: Arc::new(Metrics::new(name)),
        }
    }

    /// Acquires a connection for `call`.
    pub(super) async fn acquire(&self, call: &mut Call) -> sqlx::Result<PooledConnection> {
        let Metrics {
            name,
            pending,
            timeouts,
            wait_time,
        } = &*self.metrics;
        let started = Instant::now();
        let request = PendingRequest::begin(pending);
        let acquired = self.acquire_untraced().await;
        drop(request);
        let waited = started.elapsed();
        wait_time.record(waited.as_secs_f64());
        if let Err(Error::PoolTimedOut) = &acquired {
            timeouts.add(1, name);
        }
        call.waited = Some(waited).filter(|waited| *waited >= MIN_RECORDED_WAIT);
        acquired
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.inner.manager().0
    }

    /// Opens a connection outside the pool.
    pub(super) async fn connect(&self) -> sqlx::Result<PgConnection> {
        let connecting = self.options().connect();
        let connected = timeout(self.acquire_timeout, connecting).await;
        connected.unwrap_or(Err(Error::PoolTimedOut))
    }

    pub(super) async fn acquire_untraced(&self) -> sqlx::Result<PooledConnection> {
        match timeout(self.acquire_timeout, self.inner.get()).await {
            Ok(Ok(object)) => Ok(PooledConnection {
                object: Some(object),
                is_idle: true,
            }),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(Error::PoolTimedOut),
        }
    }
}

/// A connection of the pool, for statements without spans. It returns to the pool on drop.
///
/// A connection whose last statement did not end, because its future was dropped, is tested in the
/// background first, and closed if it does not answer within a second.
#[derive(Debug)]
pub struct PooledConnection {
    /// `None` after the drop.
    object: Option<Object<Manager>>,
    /// Whether no statement is running.
    is_idle: bool,
}

impl PooledConnection {
    /// Says that all statements on this connection have ended.
    pub(super) fn set_idle(&mut self) {
        self.is_idle = true;
    }

    /// Takes the connection out of the pool.
    pub(super) fn detach(mut self) -> PgConnection {
        let object = self.object.take();
        Object::take(object.expect("the connection is not dropped"))
    }
}

impl Deref for PooledConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.object.as_ref().expect("the connection is not dropped")
    }
}

impl DerefMut for PooledConnection {
    /// From here on, a statement may be running.
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.is_idle = false;
        self.object.as_mut().expect("the connection is not dropped")
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else {
            return;
        };
        if self.is_idle {
            return; // `object` returns to the pool here
        }
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    if !answers(&mut object).await {
                        drop(Object::take(object));
                    }
                });
            }
            Err(_) => drop(Object::take(object)),
        }
    }
}

/// A request for a connection, which is counted as pending until it is dropped.
struct PendingRequest<'m>(&'m AtomicI64);

impl<'m> PendingRequest<'m> {
    fn begin(pending: &'m AtomicI64) -> Self {
        pending.fetch_add(1, Ordering::Relaxed);
        Self(pending)
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    fn new(name: [KeyValue; 1]) -> Self {
        let meter = scope::meter();
        let pending = Arc::<AtomicI64>::default();
        let (observed, observed_name) = (Arc::clone(&pending), name.clone());
        meter
            .i64_observable_up_down_counter(semconv::DB_CLIENT_CONNECTION_PENDING_REQUESTS)
            .with_unit("{request}")
            .with_description("Number of pending requests for a connection of the pool")
            .with_callback(move |observer| {
                observer.observe(observed.load(Ordering::Relaxed), &observed_name);
            })
            .build();
        let metrics = Self {
            pending,
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
                .build()
                .bind(&name),
            name,
        };
        metrics.timeouts.add(0, &metrics.name);
        metrics
    }
}

/// Creates the metrics of the connections: used, idle, maximum, and minimum of idle ones.
fn observe(pool: &managed::Pool<Manager>, name: &[KeyValue; 1]) {
    let meter = scope::meter();
    let bound = |metric, description, bound: i64| {
        let name = name.clone();
        meter
            .i64_observable_up_down_counter(metric)
            .with_unit("{connection}")
            .with_description(description)
            .with_callback(move |observer| observer.observe(bound, &name))
            .build();
    };
    bound(
        semconv::DB_CLIENT_CONNECTION_MAX,
        "Maximum number of open connections",
        number(pool.status().max_size),
    );
    bound(
        semconv::DB_CLIENT_CONNECTION_IDLE_MIN,
        "Minimum number of idle connections",
        0,
    );
    let (pool, [name]) = (pool.clone(), name.clone());
    meter
        .i64_observable_up_down_counter(semconv::DB_CLIENT_CONNECTION_COUNT)
        .with_unit("{connection}")
        .with_description("Number of connections of the pool by state")
        .with_callback(move |observer| {
            let status = pool.status();
            let used = status.size.saturating_sub(status.available);
            for (state, connections) in [("idle", status.available), ("used", used)] {
                let state = KeyValue::new(semconv::DB_CLIENT_CONNECTION_STATE, state);
                observer.observe(number(connections), &[name.clone(), state]);
            }
        })
        .build();
}

fn number(connections: usize) -> i64 {
    i64::try_from(connections).unwrap_or(i64::MAX)
}
