//! HTTP instrumentation: [`server`] for axum, [`client`] for reqwest and generated clients.

#[cfg(feature = "reqwest")]
pub mod client;
#[cfg(any(feature = "axum", feature = "reqwest"))]
pub(crate) mod method;
#[cfg(feature = "axum")]
pub mod server;

/// The header of requests and responses that carries the [`RequestId`](crate::RequestId).
#[cfg(any(feature = "axum", feature = "reqwest"))]
pub const X_REQUEST_ID: ::http::HeaderName = ::http::HeaderName::from_static("x-request-id");

/// Returns the value of `network.protocol.version`.
#[cfg(any(feature = "axum", feature = "reqwest"))]
pub(crate) fn protocol_version(version: ::http::Version) -> &'static str {
    match version {
        ::http::Version::HTTP_10 => "1.0",
        ::http::Version::HTTP_2 => "2",
        ::http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}
