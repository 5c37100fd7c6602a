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
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_server::{Handle, Server, accept::Accept};
use clap::Args;
use hyper_util::rt::TokioTimer;
use telemetry_common::{connection::MeasuredConnection, http::server::ClientAddress};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{lifecycle::TASKS_SHARE, problem::Problem};

/// The time limit for receiving the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of the headers of a request, in bytes.
const HEADER_SIZE: usize = 64 * 1024;

/// The limits of one instance.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Time limit for a request. After that, the response is 503.
    #[arg(long, env, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub request_timeout: Duration,

    /// Maximum number of concurrent requests. The response to further requests is 503.
    #[arg(long, env, default_value_t = 512, value_name = "N")]
    pub max_concurrent_requests: usize,

    /// Number of proxies in front of the service. Each appends the address of its client to the header
    /// X-Forwarded-For. 0: the header is ignored, because any client can send it.
    #[arg(long, env, default_value_t = 0, value_name = "N")]
    pub trusted_hops: usize,
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
    request_timeout: Duration,
}

impl From<ServerConfig> for Limits {
    fn from(config: ServerConfig) -> Self {
        let slots = Arc::new(Semaphore::new(config.max_concurrent_requests));
        Self {
            slots,
            request_timeout: config.request_timeout,
        }
    }
}

/// Middleware: rejects a request if there are too many concurrent ones, and cancels a request at
/// its time limit.
pub(crate) async fn limit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let unavailable =
        |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    let Ok(_slot) = limits.slots.try_acquire() else {
        return unavailable("too many concurrent requests");
    };
    let response = timeout(limits.request_timeout, next.run(request)).await;
    response.unwrap_or_else(|_| unavailable("the request timed out"))
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

/// Serves until `stop` is cancelled. Then completes the current requests within the share of
/// `grace` that the tasks get.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> Result<()> {
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
