//! The edges as a taker uses them: a real server, a real client, messages with real headers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod helpers;
mod kafka;
mod metrics;
mod server;
mod subscriber;
