//! Tests of the worker through its public interfaces: messages on a mock Kafka cluster, PostgreSQL
//! and the HTTP API.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod batches;
mod changes;
mod dead_letters;
mod helpers;
mod messages;
