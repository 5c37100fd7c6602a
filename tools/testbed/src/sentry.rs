//! A Sentry sink: receives envelopes as sentry.io does, stores them and returns their events.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
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

/// A running sink. It stops on drop.
pub struct SentrySink {
    address: SocketAddr,
    scheme: &'static str,
    received: Arc<Received>,
    _server: JoinSet<()>,
}

/// The envelopes so far.
#[derive(Default)]
struct Received {
    envelopes: Mutex<Vec<String>>,
    /// Who receives the events, too.
    copy: OnceLock<Box<dyn Fn(Value) + Send + Sync>>,
}

impl Received {
    fn envelopes(&self) -> MutexGuard<'_, Vec<String>> {
        self.envelopes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a sink responds.
enum Behaviour {
    /// Stores the envelope and responds 200.
    Accept,
    /// Stores the envelope and responds 429.
    RateLimit,
    /// Never responds to the first request. The flag is true until the first request.
    HangOnce(AtomicBool),
}

impl SentrySink {
    /// Starts a sink on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::serve("http", |listener| listener, Behaviour::Accept).await
    }

    /// Starts a sink that never responds to the first request and does not store it.
    pub async fn start_hanging() -> Result<Self> {
        let behaviour = Behaviour::HangOnce(AtomicBool::new(true));
        Self::serve("http", |listener| listener, behaviour).await
    }

    /// Starts a sink that responds 429 with `Retry-After: 60`. It stores the rejected envelopes.
    pub async fn start_rate_limiting() -> Result<Self> {
        Self::serve("http", |listener| listener, Behaviour::RateLimit).await
    }

    /// Starts a sink with TLS. Also returns the certificate authority as PEM.
    pub async fn start_tls() -> Result<(Self, String)> {
        let (acceptor, authority) = tls::self_signed()?;
        let secure = |listener| tls::Listener::new(listener, acceptor);
        Ok((
            Self::serve("https", secure, Behaviour::Accept).await?,
            authority,
        ))
    }

    async fn serve<L>(
        scheme: &'static str,
        wrap: impl FnOnce(TcpListener) -> L,
        behaviour: Behaviour,
    ) -> Result<Self>
    where
        L: Listener<Addr = SocketAddr>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let received = Arc::<Received>::default();
        let router = Router::new()
            .route("/api/{project}/envelope/", post(receive))
            .with_state((Arc::clone(&received), Arc::new(behaviour)));
        let listener = wrap(listener);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let result = axum::serve(listener, router).await;
            result.expect("axum serves a bound listener until it is dropped");
        });
        Ok(Self {
            address,
            scheme,
            received,
            _server: server,
        })
    }

    /// The value for `SENTRY_DSN`.
    pub fn dsn(&self) -> String {
        format!("{}://public@{}/42", self.scheme, self.address)
    }

    /// Returns all events so far.
    pub fn events(&self) -> Vec<Value> {
        let envelopes = self.envelopes();
        envelopes.iter().flat_map(|text| events(text)).collect()
    }

    /// Returns all envelopes so far, unparsed.
    pub fn envelopes(&self) -> Vec<String> {
        self.received.envelopes().clone()
    }

    /// Passes the events so far on to `copy`, and all that are received from now on. A second call has no
    /// effect.
    pub fn copy_to(&self, copy: impl Fn(Value) + Send + Sync + 'static) {
        let envelopes = self.received.envelopes();
        envelopes
            .iter()
            .flat_map(|text| events(text))
            .for_each(&copy);
        let _ = self.received.copy.set(Box::new(copy));
    }
}

async fn receive(
    State((received, behaviour)): State<(Arc<Received>, Arc<Behaviour>)>,
    body: Bytes,
) -> Response {
    if let Behaviour::HangOnce(first) = &*behaviour
        && first.swap(false, Ordering::Relaxed)
    {
        pending::<()>().await;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    {
        let mut envelopes = received.envelopes();
        if let Some(copy) = received.copy.get() {
            events(&text).into_iter().for_each(copy);
        }
        envelopes.push(text);
    }
    match *behaviour {
        Behaviour::Accept | Behaviour::HangOnce(_) => StatusCode::OK.into_response(),
        Behaviour::RateLimit => {
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "60")]).into_response()
        }
    }
}

/// Returns the events of an envelope. An envelope consists of JSON lines: the envelope header, then
/// a header and a payload for each item.
fn events(envelope: &str) -> Vec<Value> {
    let lines: Vec<Value> = envelope
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let items = lines.windows(2).filter(|pair| pair[0]["type"] == "event");
    items.map(|pair| pair[1].clone()).collect()
}
