//! Tests of the integrations through the public API: a real server, a real client, and messages
//! with real headers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod client_logs;
mod db;
mod exchange;
mod grpc;
mod helpers;
mod kafka;
mod layers;
mod metrics;
mod options;
mod request_body;
mod server;
mod subscriber;
mod task;
