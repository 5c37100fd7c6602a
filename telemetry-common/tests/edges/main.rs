//! The edges as a taker uses them: a real server, a real client, messages with real headers.

mod client;
mod helpers;
mod kafka;
mod server;
mod subscriber;
