//! The HTTP server, with limits against slow clients, and with graceful shutdown.

use std::{
    future::{Ready, pending, ready},
    io,
    net::SocketAddr,
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    http::{HeaderValue, header::CONNECTION},
    response::Response,
};
use axum_server::{Handle, Server, accept::Accept};
use clap::{ArgAction, Args};
use hyper_util::rt::TokioTimer;
use telemetry_common::{connection::MeasuredConnection, http::server::ClientAddress};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::lifecycle::{Shutdown, TASKS_SHARE};

/// The time limit for receiving the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of the headers of a request, in bytes.
const HEADER_SIZE: usize = 64 * 1024;

/// The limits of one instance.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Time limit for a request. After that, the response is 504.
    #[arg(long, env, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub request_timeout: Duration,

    /// Maximum number of concurrent requests. The response to further requests is 503.
    #[arg(long, env, default_value_t = 512, value_name = "N")]
    pub max_concurrent_requests: usize,

    /// Requests that are faster than this are logged only if their trace is sampled. Failed requests are
    /// always logged [default: all requests are logged].
    #[arg(long, env, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub access_log_sampled_below: Option<Duration>,

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
