//! The server layer: one span, one set of measurements and one access log record for each request.
//!
//! [`layer`] works for any tower service over HTTP, such as axum's router or a hyper service.
//! [`grpc::server_layer`](crate::grpc::server_layer) is the same layer with the conventions of gRPC.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use telemetry_common::http::server;
//!
//! let router: Router = Router::new()
//!     .route("/hello", get(async || "hello"))
//!     .layer(server::layer().skip(|request| request.uri.path() == "/health"));
//! # }
//! ```
//!
//! Everything inside the layer runs with the server span, the caller's baggage, the
//! [`RequestId`](crate::RequestId) and a Sentry hub of the request, also while the body of the
//! response is produced.
//!
//! The exchange ends with the last frame of the response body. Its duration, its access log record
//! and its metrics therefore include the streaming of the body. The end is when the HTTP server
//! takes the last frame, which may be shortly before the client receives it. An upgraded connection,
//! such as a websocket, ends with its handshake.
//!
//! Put layers with a timeout or a limit of load inside this layer. If an outer layer drops the
//! request, it is recorded as cancelled, as if its client had closed the connection.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>.

mod active;
pub(crate) mod exchange;
mod forwarded;
mod instruments;
pub(crate) mod options;
mod origin;
mod parent;
pub(crate) mod upload;

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{ObservedBody, ObservedFuture};
pub use options::{AccessLog, ClientAddress, ParentTrace, RequestHead};
use options::{Options, Start};
pub(crate) use parent::decides_anew;
pub use upload::RequestBody;

/// Returns the layer for HTTP services.
pub fn layer() -> ServerLayer {
    ServerLayer::new(exchange::HttpExchange::start)
}

/// The layer that observes the requests of a service. [`layer`] creates it.
#[derive(Clone, Debug)]
pub struct ServerLayer(Arc<Options>);

impl ServerLayer {
    /// Returns a layer that records by the conventions of `start`.
    pub(crate) fn new(start: Start) -> Self {
        Self(Arc::new(Options::new(start)))
    }

    /// Skips the requests for which `predicate` returns true, such as health checks: they have no
    /// span, measurement, log record or request id.
    #[must_use]
    pub fn skip(
        mut self,
        predicate: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.options().skip = Some(Arc::new(predicate));
        self
    }

    /// Sets the function that returns the route of a request, such as `/books/{id}`. It must return
    /// a low-cardinality value, or `None` if no route matches.
    ///
    /// With axum, the default is the matched path.
    #[must_use]
    pub fn route(
        mut self,
        route: impl Fn(&RequestHead<'_>) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Self {
        self.options().route = Some(Arc::new(route));
        self
    }

    /// Sets the function that returns the address of the peer of the connection, usually from an
    /// extension that the server adds.
    ///
    /// With axum, the default is that of `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub fn peer(
        mut self,
        peer: impl Fn(&RequestHead<'_>) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        self.options().peer = Some(Arc::new(peer));
        self
    }

    /// Sets what happens with the trace of the caller. The default is to continue it. At the edge
    /// of a system, where anyone can call, link to it or ignore it.
    #[must_use]
    pub fn parent(mut self, parent: ParentTrace) -> Self {
        self.options().parent = parent;
        self
    }

    /// Sets whether the sampling decision of the caller counts, which is the default. Otherwise the
    /// sampler decides as for a new trace.
    #[must_use]
    pub fn trust_sampling(mut self, trusted: bool) -> Self {
        self.options().trusts_sampling = trusted;
        self
    }

    /// Sets whether the baggage of the caller is kept, which is the default.
    #[must_use]
    pub fn trust_baggage(mut self, trusted: bool) -> Self {
        self.options().trusts_baggage = trusted;
        self
    }

    /// Sets where the address of the client is read. The default is the peer of the connection.
    #[must_use]
    pub fn client_address(mut self, source: ClientAddress) -> Self {
        self.options().client_address = source;
        self
    }

    /// Sets the level of the access log. The default is INFO.
    #[must_use]
    pub fn access_log(mut self, level: AccessLog) -> Self {
        self.options().access_log = level;
        self
    }

    /// Logs requests that are faster than `slow` only if their trace is sampled. By default, all requests
    /// are logged.
    ///
    /// Failed requests, among them those with a status from 400 on, and requests without a trace are logged
    /// in any case.
    #[must_use]
    pub fn sample_access_log_below(mut self, slow: Duration) -> Self {
        self.options().sampled_below = Some(slow);
        self
    }

    /// Sets whether the sizes of the bodies are recorded as metrics, which is the default.
    #[must_use]
    pub fn body_sizes(mut self, recorded: bool) -> Self {
        self.options().body_sizes = recorded;
        self
    }

    /// Declares that the service terminates TLS itself: `url.scheme` is `https`, unless a trusted
    /// proxy sends another one. Without this declaration, it is the scheme of the URI, which only
    /// HTTP/2 always has, or else `http`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.options().scheme = Some("https");
        self
    }

    fn options(&mut self) -> &mut Options {
        Arc::make_mut(&mut self.0)
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService {
            inner,
            options: Arc::clone(&self.0),
        }
    }
}

/// A service whose requests are observed. [`ServerLayer`] creates it.
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
    options: Arc<Options>,
}

impl<S, B, R> Service<Request<B>> for ServerService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>, Error: Display>,
    B: Body,
    R: Body,
{
    type Response = Response<ObservedBody<R>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let head = RequestHead::of(&request);
        if self.options.skip.as_ref().is_some_and(|skip| skip(&head)) {
            let request = request.map(RequestBody::unobserved);
            return ObservedFuture::new(self.inner.call(request), None);
        }
        let upload = upload::Upload::of(request.body());
        let mut running = exchange::start(&self.options, &head, upload.clone());
        let request = request.map(|body| RequestBody::new(body, upload));
        let response = running.run(|_| self.inner.call(request));
        ObservedFuture::new(response, Some(running))
    }
}
