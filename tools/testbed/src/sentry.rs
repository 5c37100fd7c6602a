//! A Sentry sink: takes envelopes as sentry.io does, keeps their events, and can be asked for them.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use crate::tls;

/// A running sink; gone on drop.
#[derive(Debug)]
pub struct SentrySink {
    address: SocketAddr,
    scheme: &'static str,
    envelopes: Envelopes,
    _server: JoinSet<()>,
}

type Envelopes = Arc<Mutex<Vec<String>>>;

/// How a sink answers.
enum Manner {
    Taking,
    Refusing,
    /// Whether it has yet to hang.
    Hanging(AtomicBool),
}

impl SentrySink {
    /// Starts a sink on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::serve("http", |listener| listener, Manner::Taking).await
    }

    /// Starts one that never answers the first request, which it does not keep.
    pub async fn start_hanging() -> Result<Self> {
        let manner = Manner::Hanging(AtomicBool::new(true));
        Self::serve("http", |listener| listener, manner).await
    }

    /// Starts one that answers 429: not again within a minute. It keeps what it refuses.
    pub async fn start_refusing() -> Result<Self> {
        Self::serve("http", |listener| listener, Manner::Refusing).await
    }

    /// Starts one behind TLS; its certificate's authority as PEM.
    pub async fn start_tls() -> Result<(Self, String)> {
        let (acceptor, authority) = tls::self_signed()?;
        let secure = |listener| tls::Listener::new(listener, acceptor);
        Ok((
            Self::serve("https", secure, Manner::Taking).await?,
            authority,
        ))
    }

    async fn serve<L>(
        scheme: &'static str,
        wrap: impl FnOnce(TcpListener) -> L,
        manner: Manner,
    ) -> Result<Self>
    where
        L: Listener<Addr = SocketAddr>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let envelopes = Envelopes::default();
        let router = Router::new()
            .route("/api/{project}/envelope/", post(take))
            .with_state((Arc::clone(&envelopes), Arc::new(manner)));
        let listener = wrap(listener);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let ended = axum::serve(listener, router).await;
            ended.expect("a bound listener serves until it is dropped");
        });
        Ok(Self {
            address,
            scheme,
            envelopes,
            _server: server,
        })
    }

    /// The value for `SENTRY_DSN`.
    pub fn dsn(&self) -> String {
        format!("{}://public@{}/42", self.scheme, self.address)
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        let envelopes = self.envelopes();
        envelopes.iter().flat_map(|text| events(text)).collect()
    }

    /// Everything that arrived, as it arrived.
    pub fn envelopes(&self) -> Vec<String> {
        self.envelopes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn take(
    State((envelopes, manner)): State<(Envelopes, Arc<Manner>)>,
    body: Bytes,
) -> Response {
    if let Manner::Hanging(first) = &*manner
        && first.swap(false, Ordering::Relaxed)
    {
        pending::<()>().await;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    envelopes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(text);
    match *manner {
        Manner::Taking | Manner::Hanging(_) => StatusCode::OK.into_response(),
        Manner::Refusing => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "60")]).into_response(),
    }
}

/// An envelope is lines of JSON: its header, then for each item a header and the item.
fn events(envelope: &str) -> Vec<Value> {
    let lines: Vec<Value> = envelope
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let items = lines.windows(2).filter(|pair| pair[0]["type"] == "event");
    items.map(|pair| pair[1].clone()).collect()
}
