//! The demo: [`tour`] sends one book through the system and checks its telemetry, and [`failure`]
//! injects a failure and checks its Sentry event and its trace.

pub mod failure;
pub mod tour;
