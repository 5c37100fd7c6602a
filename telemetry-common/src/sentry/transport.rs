//! The transport that sends events to Sentry on a separate thread, and counts them.
//!
//! The transports of the sentry crate have two problems. They wait without a limit, even at
//! shutdown, for a server that accepts a connection and does not respond. And they do not report
//! the events that they drop.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use opentelemetry::Context;
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

use crate::pipeline_stats::{Components, PipelineStats, SENTRY_EVENTS};

/// The maximum number of events in the queue.
const CAPACITY: usize = 100;
/// The time limit for sending one event.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A bounded queue in front of the thread that sends.
pub(super) struct ThreadTransport {
    jobs: Sender<Job>,
    stats: Arc<PipelineStats>,
}

enum Job {
    Send(Box<Envelope>),
    /// Notifies the sender when all earlier jobs are done.
    Flush(Sender<()>),
}

impl ThreadTransport {
    /// Starts the thread. Returns the transport and its statistics.
    pub(super) fn start(dsn: &Dsn) -> io::Result<(Arc<Self>, Arc<PipelineStats>)> {
        let stats = PipelineStats::new(&SENTRY_EVENTS, CAPACITY, Components::default());
        let (jobs, queue) = channel();
        let (endpoint, counted) = (Endpoint::new(dsn), Arc::clone(&stats));
        thread::Builder::new()
            .name("sentry".to_owned())
            .spawn(move || run(&queue, endpoint, &counted))?;
        let transport = Self {
            jobs,
            stats: Arc::clone(&stats),
        };
        Ok((Arc::new(transport), stats))
    }
}

/// Processes jobs until the transport is dropped.
fn run(queue: &Receiver<Job>, mut endpoint: Endpoint, stats: &PipelineStats) {
    let _suppressed = Context::enter_telemetry_suppressed_scope();
    for job in queue {
        match job {
            Job::Send(envelope) => {
                stats.count_dequeued(1);
                stats.count_exported(1, 0, &endpoint.send(&envelope));
            }
            // The receiver is gone if the flush has timed out.
            Job::Flush(done) => drop(done.send(())),
        }
    }
}

impl Transport for ThreadTransport {
    fn send_envelope(&self, envelope: Envelope) {
        if self.stats.admit() {
            // The thread runs as long as this sender exists.
            let _ = self.jobs.send(Job::Send(Box::new(envelope)));
        }
    }

    fn flush(&self, budget: Duration) -> bool {
        let (done, finished) = channel();
        self.jobs.send(Job::Flush(done)).is_ok() && finished.recv_timeout(budget).is_ok()
    }
}

/// The server that receives the events, and its rate limits.
struct Endpoint {
    agent: Agent,
    url: String,
    auth: String,
    limits: RateLimiter,
}

impl Endpoint {
    fn new(dsn: &Dsn) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(SEND_TIMEOUT))
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
        let response = request.header("x-sentry-auth", &self.auth).send(&body);
        let response = response.map_err(|error| failed(error.to_string()))?;
        self.apply_rate_limits(&response);
        if response.status().is_success() {
            Ok(())
        } else {
            Err(failed(response.status().as_str()))
        }
    }

    /// Stores the rate limits of the response, which apply to later events.
    fn apply_rate_limits<B>(&mut self, response: &Response<B>) {
        let header = |name| response.headers().get(name)?.to_str().ok();
        if let Some(limits) = header("x-sentry-rate-limits") {
            self.limits.update_from_sentry_header(limits);
        } else if let Some(pause) = header("retry-after") {
            self.limits.update_from_retry_after(pause);
        } else if response.status() == StatusCode::TOO_MANY_REQUESTS {
            self.limits.update_from_429();
        }
    }
}

fn failed(reason: impl Into<String>) -> OTelSdkError {
    OTelSdkError::InternalFailure(reason.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
    };

    use sentry::protocol::Event;

    use super::*;

    const SOON: Duration = Duration::from_mins(1);

    /// Starts a server that gives one of these responses to each request. Returns its DSN.
    fn server(responses: &'static [&'static str]) -> Dsn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dsn = format!("http://key@{}/1", listener.local_addr().unwrap());
        thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    request.read_line(&mut line).unwrap();
                    let header = line.to_ascii_lowercase();
                    if let Some(value) = header.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                request.read_exact(&mut vec![0; length]).unwrap();
                let head = format!("HTTP/1.1 {response}\r\nconnection: close\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(b"content-length: 0\r\n\r\n").unwrap();
            }
        });
        dsn.parse().unwrap()
    }

    fn sent(responses: &'static [&'static str], events: usize) -> (u64, u64) {
        let (transport, stats) = ThreadTransport::start(&server(responses)).unwrap();
        for _ in 0..events {
            transport.send_envelope(Event::default().into());
        }
        // Not on the `Arc`, whose `flush` does nothing.
        assert!((*transport).flush(SOON));
        stats.created_and_lost()
    }

    #[test]
    fn events_that_the_server_rejects_are_lost() {
        assert_eq!(sent(&["200 OK", "500 Internal Server Error"], 2), (2, 1));
    }

    #[test]
    fn a_rate_limit_applies_to_later_events() {
        // The server would not respond to a second request.
        assert_eq!(
            sent(
                &["200 OK\r\nx-sentry-rate-limits: 60:error:organization"],
                3
            ),
            (3, 2)
        );
    }
}
