//! Tests of the configuration files, without the programs that read them, and of the documents that
//! show the configuration.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerts;
mod collector;
mod compose;
mod concepts;
mod dashboards;
mod diagrams;
mod helpers;
