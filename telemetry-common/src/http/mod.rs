//! HTTP instrumentation: [`server`] for any tower service, [`client`] for reqwest and generated
//! clients.

#[cfg(feature = "reqwest")]
pub mod client;
pub(crate) mod exchange;
pub(crate) mod method;
pub(crate) mod outgoing;
pub mod server;

pub use exchange::{ObservedBody, ObservedFuture};

/// The header of requests and responses that carries the [`RequestId`](crate::RequestId).
pub const X_REQUEST_ID: ::http::HeaderName = ::http::HeaderName::from_static("x-request-id");

/// Returns the value of `network.protocol.version`.
pub(crate) fn protocol_version(version: ::http::Version) -> &'static str {
    match version {
        ::http::Version::HTTP_10 => "1.0",
        ::http::Version::HTTP_2 => "2",
        ::http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}
