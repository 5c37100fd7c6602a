//! The HTTP edge: [`server`] for axum, [`client`] for reqwest and generated clients.

#[cfg(feature = "reqwest")]
pub mod client;
#[cfg(feature = "axum")]
pub mod server;
