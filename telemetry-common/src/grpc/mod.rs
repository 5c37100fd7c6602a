//! gRPC: the server layer and the client layer, for tonic and any other tower service.
//!
//! A call ends with the trailers, which carry its status, so that streams are observed as a whole.
//!
//! ```
//! use telemetry_common::grpc;
//!
//! # let endpoint = http::Uri::from_static("http://stock:50051");
//! let server = grpc::server_layer(); // for `tonic::transport::Server::builder().layer(…)`
//! let client = grpc::client_layer(&endpoint).trusted(); // for `ServiceBuilder` around a channel
//! # let _ = (server, client);
//! ```
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>.

mod client;
mod server;
mod status;

pub use client::{ClientLayer, ClientService, client_layer};

use crate::http::server::ServerLayer;

/// Returns the layer for gRPC services.
///
/// Of its options, `skip`, `peer`, `parent`, `trust_sampling`, `trust_baggage`, `client_address` and
/// `access_log` apply, and `route` returns the method, or `None` for one that the server does not
/// have. Without `route`, the method is that of the path, unless the server responds UNIMPLEMENTED or
/// without a status. A server that rejects callers before it looks at the method needs `route`:
/// otherwise they choose the names of spans and series.
///
/// Put layers that translate other protocols to gRPC, such as grpc-web, outside of this one.
pub fn server_layer() -> ServerLayer {
    ServerLayer::new(server::start)
}

/// The value of `rpc.system.name`.
const GRPC: &str = "grpc";
/// The value of `rpc.method` for a method that the server does not implement.
const OTHER: &str = "_OTHER";

/// Returns the name of a method, such as `shop.Stock/Reserve`, from the path of its request.
fn method_of(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}
