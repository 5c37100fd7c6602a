//! Tests of the API through its public interface, with PostgreSQL and a mock Kafka cluster.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod books;
mod database;
mod health;
mod helpers;
mod idempotency;
mod input;
mod leadership;
mod outbox;
mod proxies;
mod schema;
mod visits;
