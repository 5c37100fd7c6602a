//! What both services do alike and what is not telemetry: read their settings, start and stop,
//! reach PostgreSQL and Kafka, answer for errors, say they are healthy.

pub mod admin;
pub mod authorization;
pub mod fault_injection;
pub mod health;
pub mod kafka;
pub mod layers;
pub mod lifecycle;
pub mod openapi;
pub mod postgres;
pub mod problem;
pub mod server;
pub mod settings;
