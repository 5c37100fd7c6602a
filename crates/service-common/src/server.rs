//! The HTTP server, with limits against overload and slow clients, and with graceful shutdown.

use std::{
    future::{Ready, pending, ready},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    body::HttpBody,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_server::{Handle, Server, accept::Accept};
use clap::{ArgAction, Args};
use hyper_util::rt::TokioTimer;
use telemetry_common::{connection::MeasuredConnection, http::server::ClientAddress};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{Semaphore, SemaphorePermit, TryAcquireError},
    time::timeout,
};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    lifecycle::{Shutdown, TASKS_SHARE},
    problem::Problem,
};

/// The time limit for receiving the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of the headers of a request, in bytes.
const HEADER_SIZE: usize = 64 * 1024;

/// The maximum size of a body that is always accepted, in bytes.
const SMALL_BODY: u64 = 16 << 10;
/// The maximum total size of the larger bodies of concurrent requests, in bytes. Reading a body takes
/// several times its size.
const LARGE_BODIES: usize = 8 << 20;

/// The limits of one instance.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Time limit for a request. After that, the response is 504.
    #[arg(long, env, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub request_timeout: Duration,

    /// Maximum number of concurrent requests. The response to further requests is 503.
    #[arg(long, env, default_value_t = 512, value_name = "N")]
    pub max_concurrent_requests: usize,

    /// Number of proxies in front of the service. Each appends the address of its client to the header
    /// X-Forwarded-For. 0: the header is ignored, because any client can send it.
    #[arg(long, env, default_value_t = 0, value_name = "N")]
    pub trusted_hops: usize,

    /// Whether callers decide about the sampling of their traces, and their baggage is stored and passed
    /// on. Set it to false where anyone can send requests.
    #[arg(long, env, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub trusted_callers: bool,
}

impl ServerConfig {
    /// Returns where the address of the client is read.
    pub(crate) fn client_address(self) -> ClientAddress {
        match self.trusted_hops {
            0 => ClientAddress::Peer,
            trusted_hops => ClientAddress::XForwardedFor { trusted_hops },
        }
    }
}

/// The state of [`limit`].
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    slots: Arc<Semaphore>,
    /// A permit stands for a byte.
    large_bodies: Arc<Semaphore>,
    max_body: usize,
    request_timeout: Duration,
}

impl Limits {
    pub(crate) fn new(config: ServerConfig, max_body: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(config.max_concurrent_requests)),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
            max_body,
            request_timeout: config.request_timeout,
        }
    }

    /// Reserves memory for the body of a request. Returns an error if there is none.
    fn reserve_memory(
        &self,
        request: &Request,
    ) -> Result<Option<SemaphorePermit<'_>>, TryAcquireError> {
        let max_body = self.max_body as u64;
        let size = request.body().size_hint().upper().unwrap_or(max_body);
        if size <= SMALL_BODY {
            return Ok(None);
        }
        // A larger body is rejected when it is read.
        let size = u32::try_from(size.min(max_body)).unwrap_or(u32::MAX);
        self.large_bodies.try_acquire_many(size).map(Some)
    }
}

/// Middleware: rejects a request if there are too many concurrent ones, or too large ones, and cancels
/// a request at its time limit.
pub(crate) async fn limit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let problem = |status, detail| Problem::new(status, detail).into_response();
    let Ok(_slot) = limits.slots.try_acquire() else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many concurrent requests",
        );
    };
    let Ok(_memory) = limits.reserve_memory(&request) else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many concurrent requests with large bodies",
        );
    };
    let response = timeout(limits.request_timeout, next.run(request)).await;
    // Not 503, which invites a retry: the request may have had its effect.
    response.unwrap_or_else(|_| problem(StatusCode::GATEWAY_TIMEOUT, "the request timed out"))
}

/// Records the metrics of accepted connections.
#[derive(Clone, Copy, Debug)]
struct MeasuredAcceptor;

impl<S> Accept<TcpStream, S> for MeasuredAcceptor {
    type Stream = MeasuredConnection<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(Ok((MeasuredConnection::accepted(stream, "api"), service)))
    }
}

/// Serves until the shutdown stops it. Then completes the current requests within the share of `grace`
/// that the tasks get.
///
/// In the drain time, each response closes its connection, so that no client sends its next request
/// on a connection that is about to close.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
    grace: Duration,
) -> Result<()> {
    let Shutdown { drain, stop } = shutdown;
    let close = move |_: &Response| {
        drain
            .is_cancelled()
            .then_some(HeaderValue::from_static("close"))
    };
    let router = router.layer(SetResponseHeaderLayer::overriding(CONNECTION, close));
    let handle = Handle::<SocketAddr>::new();
    let server = Server::from_listener(listener)
        .handle(handle.clone())
        .acceptor(MeasuredAcceptor);
    // Only HTTP/1, because its header timeout starts with the connection. The one of HTTP/2 does
    // not.
    let mut server = server.http1_only();
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_SIZE);
    let serving = server.serve(router.into_make_service_with_connect_info::<SocketAddr>());
    let ending = async {
        stop.cancelled().await;
        handle.graceful_shutdown(Some(grace.mul_f32(TASKS_SHARE)));
        // The server ends on its own after the last response.
        pending().await
    };
    select! {
        ended = serving => Ok(ended?),
        never = ending => never,
    }
}
