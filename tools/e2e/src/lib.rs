//! The real stack on one machine: [`Stack`] runs collector, Prometheus, Loki and Kafka as processes
//! or in containers, with the very same configuration files; [`checks`] looks for what must be found
//! in them, and [`drills`] takes parts away.

mod backends;
pub mod checks;
pub mod dashboards;
pub mod drills;
mod otlp;
pub mod stack;
pub mod table;

pub use stack::Stack;
