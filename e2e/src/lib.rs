//! The real stack on one machine, without Docker: [`Stack`] runs collector, Prometheus, Loki and
//! Kafka as processes, with the very configuration files compose uses; [`checks`] looks for what
//! must be found in them.

pub mod checks;
mod kafka;
pub mod stack;

pub use stack::Stack;
