//! Test infrastructure that tests and the demo start. Each component stops when it is dropped.
//!
//! - [`postgres`]: a real PostgreSQL server, with a fresh migrated database for each test
//! - [`in_process`]: a service that runs in the process of a test
//! - [`kafka`]: librdkafka's mock cluster, which implements the Kafka protocol over TCP
//! - [`broker`]: a real Kafka broker, from its jars
//! - [`sink`]: receives OTLP over HTTP and gRPC, and returns what it received
//! - [`sentry`]: receives Sentry envelopes, and returns what it received
//! - [`process`]: starts, observes and stops child processes
//! - [`port`]: allocates free TCP ports
//! - [`system`]: both services as processes, with their dependencies
//! - [`trace`]: groups spans into traces
//! - [`eventually`]: polls a condition until a deadline

pub mod broker;
pub mod in_process;
pub mod kafka;
pub mod number;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod sentry;
pub mod sink;
pub mod system;
mod tls;
pub mod trace;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use in_process::InProcess;
pub use system::System;

/// Polls `attempt` until it returns a value. Fails after `within`, with an error that names `what`.
pub async fn eventually<T, F>(
    within: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = attempt().await {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("timed out after {within:?}, waiting for: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
