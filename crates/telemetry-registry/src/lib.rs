//! The registry of all telemetry that both services emit.
//!
//! The files in `crates/telemetry-registry/registry/` use the format of OpenTelemetry Weaver.
//! [`Registry`] reads them, [`Judge`] validates received telemetry against them, and [`docs`]
//! generates the documentation.
//!
//! Weaver's format has no fields for span names, the severity of an event or the bucket boundaries
//! of a histogram. The registry keeps them in `annotations`, which Weaver ignores.

pub mod docs;
mod exceptions;
mod judge;
mod registry;

pub use judge::Judge;
pub use registry::Registry;
