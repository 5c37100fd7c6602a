//! Tests of the viewer through its port.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod guard;
mod helpers;
mod receiving;
mod rubbish;
mod sentry;
mod traces;
