//! Health checks: a process is alive if it responds, and ready if it can process requests or
//! messages. Probes create no telemetry.
//!
//! A probe is cheap, however often it comes: readiness is checked at most once a second. It also
//! works while the service is busy, because the check of the database has a connection of its own.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use sqlx::Connection as _;
use telemetry_common::db::{Connection, Database};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{layers::no_store, problem::Problem};

/// The timeout of the `healthcheck` command.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for which the result of a readiness check is valid.
const READINESS_AGE: Duration = Duration::from_secs(1);
/// The time limit for an answer of the database. It is shorter than the timeout of a probe.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);

/// The health of a service.
pub trait Readiness: Send + Sync + 'static {
    /// Returns an error if the service cannot recover and the process must be restarted.
    fn alive(&self) -> Result<(), String>;

    /// Returns an error with the dependency that is not available.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Returns the routes `/health`, `/health/live` and `/health/ready`. They must be outside of the
/// layers that trace and log. From when `drain` is cancelled, the service is not ready.
pub fn routes<R: Readiness>(readiness: R, drain: CancellationToken) -> Router {
    let health = Health {
        readiness,
        drain,
        last_check: Mutex::new(None),
    };
    Router::new()
        .route("/health", get(ready::<R>))
        .route("/health/live", get(alive::<R>))
        .route("/health/ready", get(ready::<R>))
        .layer(no_store())
        .with_state(Arc::new(health))
}

struct Health<R> {
    readiness: R,
    drain: CancellationToken,
    /// The last readiness check: its time and its result.
    last_check: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl<R: Readiness> Health<R> {
    async fn ready(&self) -> Result<(), String> {
        if self.drain.is_cancelled() {
            return Err("the service is shutting down".to_owned());
        }
        // Concurrent probes wait for one check.
        let mut last_check = self.last_check.lock().await;
        match &*last_check {
            Some((time, result)) if time.elapsed() < READINESS_AGE => result.clone(),
            _ => {
                let result = self.readiness.ready().await;
                *last_check = Some((Instant::now(), result.clone()));
                result
            }
        }
    }
}

async fn alive<R: Readiness>(
    State(health): State<Arc<Health<R>>>,
) -> Result<&'static str, Problem> {
    respond("alive", health.readiness.alive())
}

async fn ready<R: Readiness>(
    State(health): State<Arc<Health<R>>>,
) -> Result<&'static str, Problem> {
    respond("ready", health.ready().await)
}

fn respond(state: &'static str, result: Result<(), String>) -> Result<&'static str, Problem> {
    result
        .map(|()| state)
        .map_err(|reason| Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason))
}

/// Checks whether the database responds, on a connection outside of the pool.
#[derive(Debug)]
pub struct DatabaseCheck {
    db: Database,
    /// `None` before the first check, and after a failed one.
    connection: Mutex<Option<Connection>>,
}

impl DatabaseCheck {
    /// Creates a check, which connects when it first runs.
    pub fn new(db: Database) -> Self {
        Self {
            db,
            connection: Mutex::new(None),
        }
    }

    /// Returns an error if the database does not respond within a second.
    pub async fn responds(&self) -> Result<(), String> {
        let check = async {
            let mut kept = self.connection.lock().await;
            // A connection whose test fails or does not end is closed.
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.db.connect().await?,
            };
            connection.untraced().ping().await?;
            *kept = Some(connection);
            Ok::<(), sqlx::Error>(())
        };
        match timeout(DATABASE_TIMEOUT, check).await {
            Ok(Ok(())) => Ok(()),
            _ => Err("the database does not respond".to_owned()),
        }
    }
}

/// The time of the last turn of a loop. Its clones share the time.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    created: Instant,
    /// The time of the last beat, in milliseconds after `created`.
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Creates a heartbeat that beats now.
    pub fn new() -> Self {
        Self {
            created: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Records that the loop turns.
    pub fn beat(&self) {
        let last = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(last, Ordering::Relaxed);
    }

    /// Returns the time since the last beat.
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.created.elapsed().saturating_sub(last)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

/// The `healthcheck` command: requests `/health/ready` from the service at `address` and returns 0
/// if it is ready, otherwise 1.
pub fn check(address: SocketAddr) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime can create its threads");
    // A timer can only be created inside the runtime.
    let response =
        runtime.block_on(async { timeout(PROBE_TIMEOUT, request_readiness(address)).await });
    if matches!(response, Ok(Ok(true))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn request_readiness(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response.starts_with("HTTP/1.1 200"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use axum::{body::Body, extract::Request};
    use futures::future::join_all;
    use tower::ServiceExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Readiness for Counting {
        fn alive(&self) -> Result<(), String> {
            Ok(())
        }

        async fn ready(&self) -> Result<(), String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err("not yet".to_owned())
        }
    }

    #[tokio::test]
    async fn many_probes_are_one_check() {
        let checks = Counting::default();
        let routes = routes(checks.clone(), CancellationToken::new());
        let probe = || {
            let request = Request::get("/health/ready").body(Body::empty()).unwrap();
            routes.clone().oneshot(request)
        };
        for response in join_all((0..50).map(|_| probe())).await {
            assert_eq!(response.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(checks.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_a_heartbeat_starts_again_with_each_beat() {
        let heartbeat = Heartbeat::new();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(heartbeat.age(), Duration::from_secs(7));
        heartbeat.beat();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(heartbeat.age(), Duration::from_secs(2));
    }
}
