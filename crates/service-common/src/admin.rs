//! The admin listener: what an operator asks a running process, on an address of its own. Nothing it
//! does leaves a trace.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use telemetry_common::{ConsoleFilter, LogFormat, Scrape, Telemetry, net::Measured};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{lifecycle::print, problem::Problem};

/// Who may change a running process.
#[derive(Args, Clone, Debug)]
pub struct AdminConfig {
    /// What writes must bring as bearer token; without it anyone who reaches the address may write.
    #[arg(long, env, hide_env_values = true, value_name = "TOKEN")]
    pub admin_token: Option<SecretString>,
}

/// The admin listener's address and its token.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Who may write.
    pub config: AdminConfig,
}

#[derive(Clone)]
struct Operated {
    scrape: Scrape,
    console: ConsoleFilter,
}

impl Admin {
    /// Binds the address; the answer is what serves until `stop`.
    pub(crate) async fn open(
        self,
        telemetry: &Telemetry,
        format: LogFormat,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = io::Result<()>> + Send + 'static> {
        let listener = TcpListener::bind(self.address).await;
        let listener = listener
            .with_context(|| format!("could not listen on {} (ADMIN_ADDR)", self.address))?;
        announce(listener.local_addr()?, format);
        let operated = Operated {
            scrape: telemetry.scrape(),
            console: telemetry.console_filter(),
        };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/log-filter", get(log_filter).put(set_log_filter))
            .with_state(operated)
            .layer(from_fn_with_state(Arc::new(self.config), authorize));
        let serving = axum::serve(Measuring(listener), router);
        Ok(serving
            .with_graceful_shutdown(stop.cancelled_owned())
            .into_future())
    }
}

/// Measures what is accepted.
struct Measuring(TcpListener);

impl Listener for Measuring {
    type Io = Measured<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        (Measured::accepted(stream, "admin"), peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// Lets reads pass, and writes that bring the token.
pub async fn authorize(
    State(config): State<Arc<AdminConfig>>,
    request: Request,
    next: Next,
) -> Response {
    // An empty one is what a compose file hands on where nothing is set.
    let token = config.admin_token.as_ref().map(ExposeSecret::expose_secret);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return next.run(request).await;
    };
    let brought = request.headers().get(header::AUTHORIZATION);
    let brought = brought.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let is_read = request.method().is_safe();
    if is_read || brought.is_some_and(|brought| is_equal(brought, token)) {
        return next.run(request).await;
    }
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "this call needs ADMIN_TOKEN as bearer token",
    );
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, problem).into_response()
}

/// Takes as long for a wrong text as for the right one of that length.
fn is_equal(a: &str, b: &str) -> bool {
    let differing = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && differing == 0
}

async fn metrics(State(operated): State<Operated>) -> Response {
    match operated.scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, Scrape::MEDIA_TYPE)], text).into_response(),
        Err(error) => unavailable(&error).into_response(),
    }
}

async fn log_filter(State(operated): State<Operated>) -> Result<String, Problem> {
    operated.console.get().map_err(|error| unavailable(&error))
}

async fn set_log_filter(
    State(operated): State<Operated>,
    filter: String,
) -> Result<String, Problem> {
    let set = operated.console.set(filter.trim());
    set.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    log_filter(State(operated)).await
}

fn unavailable(error: &dyn std::error::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// Prints and logs where it listens, as the API does.
fn announce(address: SocketAddr, format: LogFormat) {
    print(&format!("admin on {address}"), format);
    info!(name: "bookapp.admin.listening", "admin listens on {address}");
}
