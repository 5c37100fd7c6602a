//! The API by production's door: the real router and relay, PostgreSQL, Kafka's protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod books;
mod database;
mod helpers;
mod input;
mod outbox;
