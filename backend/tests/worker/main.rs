//! The worker by production's door: real messages on Kafka's protocol, PostgreSQL, its HTTP API.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod helpers;
mod messages;
