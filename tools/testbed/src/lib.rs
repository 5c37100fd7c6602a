//! Real or stand-in parts, started by a test or the demo and gone with it.
//!
//! - [`postgres`]: a real server from the machine's binaries, a fresh migrated database for each
//! - [`kafka`]: librdkafka's mock cluster, the real protocol over TCP
//! - [`sink`]: takes OTLP over HTTP and gRPC and answers what it got
//! - [`sentry`]: takes Sentry envelopes and answers what it got
//! - [`process`]: starts, watches and ends child processes
//! - [`port`]: free ports that stay free
//! - [`system`]: both services as processes, with all they need
//! - [`trace`]: spans as traces
//! - [`eventually`]: waits for a condition with a deadline

pub mod kafka;
pub mod port;
pub mod postgres;
pub mod process;
pub mod sentry;
pub mod sink;
pub mod system;
mod tls;
pub mod trace;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use system::System;

/// Tries until `attempt` yields something, or says after `within` that `what` did not happen.
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
        if let Some(found) = attempt().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {within:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
