//! The HTTP server and its limits: nobody can hold it up, and it finishes what it has begun.

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
use telemetry_common::connection::MeasuredConnection;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{lifecycle::TASKS, problem::Problem};

/// How long a client may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How large a request's headers may be, in bytes.
const HEADER_SIZE: usize = 64 * 1024;

/// How much one instance takes on.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServerConfig {
    /// How long a request may take; then it is answered 503.
    #[arg(long, env, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub request_timeout: Duration,

    /// How many requests may be in hand; one more is answered 503.
    #[arg(long, env, default_value_t = 512, value_name = "N")]
    pub max_concurrent_requests: usize,
}

/// What [`limit`] keeps.
#[derive(Clone, Debug)]
pub struct Limits {
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

/// Refuses a request when too many are in hand, and gives one up that takes too long.
pub async fn limit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let unavailable =
        |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    let Ok(_slot) = limits.slots.try_acquire() else {
        return unavailable("too many requests at once");
    };
    let answer = timeout(limits.request_timeout, next.run(request)).await;
    answer.unwrap_or_else(|_| unavailable("the request took too long"))
}

/// Measures what is accepted.
#[derive(Clone, Copy, Debug)]
struct Measuring;

impl<S> Accept<TcpStream, S> for Measuring {
    type Stream = MeasuredConnection<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(Ok((MeasuredConnection::accepted(stream, "api"), service)))
    }
}

/// Serves until told to stop, then finishes the requests in hand within the tasks' share of `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> Result<()> {
    let handle = Handle::<SocketAddr>::new();
    let server = Server::from_listener(listener)
        .handle(handle.clone())
        .acceptor(Measuring);
    // HTTP/1 alone: its header timeout runs from the first moment of a connection, HTTP/2's does not.
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
        handle.graceful_shutdown(Some(grace.mul_f32(TASKS)));
        // The server returns by itself when the last request is answered.
        pending().await
    };
    select! {
        ended = serving => Ok(ended?),
        never = ending => never,
    }
}
