//! What both services emit, declared once in `crates/telemetry-registry/registry/` in the format of OpenTelemetry
//! Weaver: [`Registry`] reads it, [`Judge`] holds what a sink received against it, [`docs`] writes
//! it down for people.
//!
//! Weaver's format has no place for the name of a span, the severity of an event or the buckets of
//! a histogram; here they are `annotations`, which Weaver lets through.

pub mod docs;
mod judge;
mod registry;

pub use judge::Judge;
pub use registry::Registry;
