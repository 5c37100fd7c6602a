//! The worker by production's door: real messages on Kafka's protocol, PostgreSQL, its HTTP API.

mod api;
mod helpers;
mod messages;
