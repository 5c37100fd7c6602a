//! Common code of both services, except for telemetry: settings, start and shutdown, connections to
//! PostgreSQL and Kafka, error responses, health checks, fault injection and the admin listener.

pub mod admin;
pub mod authorization;
pub mod background;
mod drain;
pub mod fault_injection;
mod guard;
pub mod health;
pub mod kafka;
pub mod layers;
pub mod lifecycle;
pub mod openapi;
pub mod postgres;
pub mod problem;
pub mod pruning;
pub mod server;
pub mod settings;
