//! System tests: run both services as processes and check the telemetry that they export.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod browser;
mod commands;
mod configuration;
mod console;
mod delivery;
mod faults;
mod helpers;
mod lifecycle;
mod limits;
mod list;
mod loss;
mod pictures;
mod registry;
mod rolling;
mod sampling;
mod secrets;
mod sentry;
mod silence;
mod start_page;
mod traces;
mod viewer;
