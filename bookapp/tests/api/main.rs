//! The API by production's door: the real router and relay, PostgreSQL, Kafka's protocol.

mod books;
mod database;
mod helpers;
mod input;
mod outbox;
