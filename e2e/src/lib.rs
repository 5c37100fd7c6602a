//! The real stack on one machine, without Docker: [`Stack`] runs collector, Prometheus, Loki and
//! Kafka as processes, with the very configuration files compose uses; [`checks`] looks for what
//! must be found in them, and [`drills`] takes parts away.

pub mod checks;
pub mod drills;
mod kafka;
pub mod stack;

pub use stack::Stack;
