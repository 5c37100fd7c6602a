//! Takes events to Sentry from a thread of its own, and keeps an account of them.
//!
//! The transports of the sentry crate wait without end for a server that takes a connection and
//! does not answer, at the end of the process too, and tell nobody here what they drop.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use sentry::{
    Envelope, Transport,
    transports::{RateLimiter, RateLimitingCategory},
    types::Dsn,
};
use ureq::{
    Agent,
    http::{Response, StatusCode},
    tls::{RootCerts, TlsConfig},
};

use crate::ledger::{Ledger, SENTRY_EVENTS};

/// How many events wait at most.
const CAPACITY: usize = 100;
/// How long Sentry may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Courier {
    errands: Sender<Errand>,
    ledger: Arc<Ledger>,
}

enum Errand {
    Take(Box<Envelope>),
    /// Says so when it is done with all before this.
    Report(Sender<()>),
}

impl Courier {
    pub(super) fn start(dsn: &Dsn) -> io::Result<(Arc<Self>, Arc<Ledger>)> {
        let ledger = Ledger::new(&SENTRY_EVENTS, CAPACITY);
        let (errands, to_run) = channel();
        let (mut way, account) = (Way::to(dsn), Arc::clone(&ledger));
        let run = move || {
            for errand in to_run {
                match errand {
                    Errand::Take(envelope) => {
                        account.take(1);
                        account.settle(1, &way.send(&envelope));
                    }
                    // Whoever asked may have stopped waiting.
                    Errand::Report(done) => drop(done.send(())),
                }
            }
        };
        thread::Builder::new()
            .name("sentry".to_owned())
            .spawn(run)?;
        let courier = Self {
            errands,
            ledger: Arc::clone(&ledger),
        };
        Ok((Arc::new(courier), ledger))
    }
}

impl Transport for Courier {
    fn send_envelope(&self, envelope: Envelope) {
        self.ledger.start();
        if self.ledger.admits() {
            // The thread lives as long as this.
            let _ = self.errands.send(Errand::Take(Box::new(envelope)));
        }
    }

    fn flush(&self, budget: Duration) -> bool {
        let (done, told) = channel();
        self.errands.send(Errand::Report(done)).is_ok() && told.recv_timeout(budget).is_ok()
    }
}

/// Where events go, and whether they may.
struct Way {
    agent: Agent,
    url: String,
    auth: String,
    limits: RateLimiter,
}

impl Way {
    fn to(dsn: &Dsn) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        Self {
            agent: agent.into(),
            url: dsn.envelope_api_url().to_string(),
            auth: dsn.to_auth(Some(env!("CARGO_PKG_NAME"))).to_string(),
            limits: RateLimiter::new(),
        }
    }

    fn send(&mut self, envelope: &Envelope) -> OTelSdkResult {
        if !self.limits.is_enabled(RateLimitingCategory::Error) {
            return Err(failed("rate limit"));
        }
        let mut body = Vec::new();
        envelope
            .to_writer(&mut body)
            .map_err(|error| failed(error.to_string()))?;
        let request = self.agent.post(&self.url);
        let answer = request.header("x-sentry-auth", &self.auth).send(&body);
        self.heed(&answer.map_err(|error| failed(error.to_string()))?)
    }

    /// What the answer says of this event, and of those to come.
    fn heed<B>(&mut self, answer: &Response<B>) -> OTelSdkResult {
        let header = |name| answer.headers().get(name)?.to_str().ok();
        if let Some(limits) = header("x-sentry-rate-limits") {
            self.limits.update_from_sentry_header(limits);
        } else if let Some(pause) = header("retry-after") {
            self.limits.update_from_retry_after(pause);
        } else if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            self.limits.update_from_429();
        }
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(failed(answer.status().as_str()))
        }
    }
}

fn failed(reason: impl Into<String>) -> OTelSdkError {
    OTelSdkError::InternalFailure(reason.into())
}
