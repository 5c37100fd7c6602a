//! The HTTP edge: [`server`] for axum, [`client`] for reqwest and generated clients.

#[cfg(feature = "reqwest")]
pub mod client;
#[cfg(feature = "axum")]
pub mod server;

/// The header that carries the [`RequestId`](crate::RequestId) in and out.
#[cfg(any(feature = "axum", feature = "reqwest"))]
pub const X_REQUEST_ID: ::http::HeaderName = ::http::HeaderName::from_static("x-request-id");
