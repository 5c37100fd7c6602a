//! The options of the server layer.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};
use opentelemetry::{Context, trace::TraceContextExt};

use super::{exchange::IncomingRequest, upload::Upload};
use crate::http::exchange::Running;

/// The head of a request, as the options see it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'r> {
    /// The method.
    pub method: &'r Method,
    /// The URI, which is only a path and a query in HTTP/1.
    pub uri: &'r Uri,
    /// The version of HTTP.
    pub version: Version,
    /// The headers.
    pub headers: &'r HeaderMap,
    /// The extensions that the server and outer layers added.
    pub extensions: &'r Extensions,
}

impl<'r> RequestHead<'r> {
    pub(super) fn of<B>(request: &'r Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

/// What a server does with the trace of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParentTrace {
    /// The server span is a child of the caller's span.
    #[default]
    Continue,
    /// The server span starts a new trace, and links to the caller's span.
    Link,
    /// The server span starts a new trace.
    Ignore,
}

/// Where the server reads the address of its client.
///
/// Any client can send the headers, so read them only behind a proxy that sets them.
/// `trusted_hops` is the number of proxies in front of the server. Each of them appends the address
/// of its own client, so the address of the first client is that many entries from the end. If there
/// are fewer entries, the address is that of the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The peer of the connection.
    #[default]
    Peer,
    /// The header `Forwarded` (RFC 7239). Its `proto` is the scheme of the request.
    Forwarded {
        /// The number of proxies.
        trusted_hops: usize,
    },
    /// The header `X-Forwarded-For`. The last value of `X-Forwarded-Proto` is the scheme.
    XForwardedFor {
        /// The number of proxies.
        trusted_hops: usize,
    },
}

/// The level of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// One log record at level INFO for each request.
    #[default]
    Info,
    /// One log record at level DEBUG for each request.
    Debug,
    /// No log records, except warnings about services and response bodies that failed. Those are
    /// logged at every level.
    Off,
}

/// Logs an event at the level of the access log. The arguments are those of `tracing::info!`.
macro_rules! at_level {
    ($level:expr, $($arguments:tt)+) => {
        match $level {
            AccessLog::Info => ::tracing::info!($($arguments)+),
            AccessLog::Debug => ::tracing::debug!($($arguments)+),
            AccessLog::Off => {}
        }
    };
}
pub(crate) use at_level;

type Predicate = dyn Fn(&RequestHead<'_>) -> bool + Send + Sync;
type Route = dyn Fn(&RequestHead<'_>) -> Option<Arc<str>> + Send + Sync;
type Peer = dyn Fn(&RequestHead<'_>) -> Option<SocketAddr> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Options {
    /// The conventions by which exchanges are recorded.
    pub(super) start: Start,
    pub(super) skip: Option<Arc<Predicate>>,
    pub(crate) route: Option<Arc<Route>>,
    pub(super) peer: Option<Arc<Peer>>,
    pub(super) parent: ParentTrace,
    pub(super) trusts_sampling: bool,
    pub(super) trusts_baggage: bool,
    pub(super) client_address: ClientAddress,
    pub(crate) access_log: AccessLog,
    /// Faster requests are logged only if their trace is sampled.
    pub(super) sampled_below: Option<Duration>,
    pub(super) body_sizes: bool,
    /// The scheme that the service declares.
    pub(super) scheme: Option<&'static str>,
}

/// Starts an exchange by the conventions of one protocol.
pub(crate) type Start = fn(&Arc<Options>, IncomingRequest<'_>, Option<Arc<Upload>>) -> Running;

impl Options {
    pub(super) fn new(start: Start) -> Self {
        Self {
            start,
            skip: None,
            route: None,
            peer: None,
            parent: ParentTrace::default(),
            trusts_sampling: true,
            trusts_baggage: true,
            client_address: ClientAddress::default(),
            access_log: AccessLog::default(),
            sampled_below: None,
            body_sizes: true,
            scheme: None,
        }
    }

    /// Whether the current request, which succeeded within this time, is not logged.
    pub(crate) fn leaves_out(&self, duration: Duration) -> bool {
        let is_fast = self.sampled_below.is_some_and(|slow| duration < slow);
        is_fast
            && Context::map_current(|context| {
                let span = context.span();
                let span = span.span_context();
                span.is_valid() && !span.is_sampled()
            })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("parent", &self.parent)
            .field("client_address", &self.client_address)
            .field("access_log", &self.access_log)
            .finish_non_exhaustive()
    }
}
