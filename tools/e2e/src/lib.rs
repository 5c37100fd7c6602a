//! End-to-end tests on the real stack. [`Stack`] runs the collector, Prometheus, Loki and Kafka as
//! processes or in containers, with the same configuration files. [`checks`] verifies that the
//! telemetry of the traffic is stored, and [`drills`] injects outages.

pub mod alerts;
mod backends;
pub mod checks;
pub mod dashboards;
pub mod diagrams;
pub mod drills;
mod links;
mod otlp;
pub mod stack;
pub mod table;
pub mod tiers;

pub use stack::Stack;
