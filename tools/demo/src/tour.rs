//! The tour: adds one book, waits for the worker and reads the book back, then collects its
//! telemetry: three linked traces, the logs of both services, and metrics.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{
    System, eventually,
    sink::{Log, Point, Sink, Span},
    system::http,
    trace::Trace,
};
use ulid::Ulid;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The telemetry of one book.
#[derive(Debug)]
pub struct Tour {
    /// The id of the request that added the book.
    pub request_id: String,
    /// The id of the book.
    pub book_id: i64,
    /// The book as `GET /books` returns it, with its details.
    pub book: Value,
    /// The trace of `POST /books/add`, in bookapp.
    pub adding: Trace,
    /// The trace of `send book.events.v1`, in bookapp.
    pub sending: Trace,
    /// The trace of `process book.events.v1`, in backend.
    pub processing: Trace,
    /// The trace of `GET /books`, in both services.
    pub listing: Trace,
    /// The log records with the request id, oldest first.
    pub logs: Vec<Log>,
    /// The newest data point of every time series.
    pub points: Vec<Point>,
}

impl Tour {
    /// Adds one book and collects its telemetry.
    pub async fn take(system: &System, title: &str, author: &str) -> Result<Self> {
        let client = http()?;
        let request_id = Ulid::generate().to_string();
        let added = client
            .post(format!("{}/books/add", system.bookapp.url))
            .header("x-request-id", &request_id)
            .json(&json!({"title": title, "author": author}))
            .send()
            .await?;
        ensure!(
            added.status() == 201,
            "the book was not added: {}",
            added.status()
        );
        let adding = trace_id(&added)?;
        let book_id: i64 = added.json().await?;

        let details = format!("{}/books/{book_id}/details", system.bookapp.url);
        let has_details = || async {
            client
                .get(&details)
                .send()
                .await
                .ok()?
                .error_for_status()
                .ok()
                .map(drop)
        };
        eventually(TIMEOUT, "the worker stores the details", has_details).await?;

        let page = format!("{}/books?limit=1&after={}", system.bookapp.url, book_id - 1);
        let listed = client.get(page).send().await?.error_for_status()?;
        let listing = trace_id(&listed)?;
        let book = listed.json::<Value>().await?[0].clone();

        let sink = &system.sink;
        let (sending, processing) = eventually(TIMEOUT, "the linked traces arrive", || async {
            let spans = sink.spans();
            let create = span(&spans, &adding, "create book.events.v1")?;
            let linked = |name: &str| linked_to(&spans, create, name);
            let (send, process) = (
                linked("send book.events.v1")?,
                linked("process book.events.v1")?,
            );
            // The last span to end in each trace: the trace is complete when this span is here.
            span(&spans, &adding, "POST /books/add")?;
            span(&spans, &listing, "GET /books")?;
            spans.iter().find(|span| {
                (&*span.trace_id, span.kind, span.service()) == (&*listing, "SERVER", "backend")
            })?;
            Some((send.trace_id.clone(), process.trace_id.clone()))
        })
        .await?;
        let logs = eventually(TIMEOUT, "both services log the request's id", || async {
            let logs = logs_of(sink, &request_id);
            ["bookapp", "backend"]
                .iter()
                .all(|service| logs.iter().any(|log| log.service() == *service))
                .then_some(logs)
        })
        .await?;
        let points = eventually(TIMEOUT, "the metrics arrive", || async {
            let points = sink.points();
            METRICS
                .iter()
                .all(|metric| highest(&points, metric).is_some())
                .then_some(points)
        })
        .await?;

        let spans = sink.spans();
        Ok(Self {
            request_id,
            book_id,
            book,
            adding: Trace::of(&spans, &adding),
            sending: Trace::of(&spans, &sending),
            processing: Trace::of(&spans, &processing),
            listing: Trace::of(&spans, &listing),
            logs,
            points,
        })
    }

    /// Returns the checks of the tour, each with a description and whether it passes.
    pub fn checks(&self) -> Vec<(String, bool)> {
        let mut checks = Vec::new();
        let mut check = |what: &str, passes: bool| checks.push((what.to_owned(), passes));
        let create = self.adding.named("create book.events.v1");
        let links_to_create = |trace: &Trace, name: &str| {
            create
                .zip(trace.named(name))
                .is_some_and(|(create, span)| links(span, create))
        };
        let services = |trace: &Trace| {
            ["bookapp", "backend"]
                .iter()
                .all(|service| trace.spans().iter().any(|span| span.service() == *service))
        };
        let log_in = |service: &str, trace: &Trace| {
            self.logs.iter().any(|log| {
                log.service() == service
                    && trace.spans().iter().any(|span| {
                        (&span.trace_id, &span.span_id) == (&log.trace_id, &log.span_id)
                    })
            })
        };

        check(
            "the list contains the book with its details",
            self.book["details"].is_object(),
        );
        for (name, trace) in [
            ("POST /books/add", &self.adding),
            ("send book.events.v1", &self.sending),
            ("process book.events.v1", &self.processing),
            ("GET /books", &self.listing),
        ] {
            let is_complete = trace
                .roots()
                .iter()
                .map(|root| &*root.name)
                .collect::<Vec<_>>()
                == [name];
            check(&format!("the trace of {name} is complete"), is_complete);
        }
        check(
            "the send span links to the create span",
            links_to_create(&self.sending, "send book.events.v1"),
        );
        check(
            "the process span links to the create span",
            links_to_create(&self.processing, "process book.events.v1"),
        );
        check(
            "GET /books is one trace through both services",
            services(&self.listing),
        );
        check(
            "bookapp's log record belongs to its trace",
            log_in("bookapp", &self.adding),
        );
        check(
            "backend's log record belongs to its trace",
            log_in("backend", &self.processing),
        );
        for metric in METRICS {
            check(
                &format!("{metric} is recorded"),
                highest(&self.points, metric).is_some(),
            );
        }
        checks
    }
}

/// The metrics that one book changes.
pub const METRICS: [&str; 7] = [
    "bookapp.books.added",
    "http.server.request.duration",
    "http.client.request.duration",
    "db.client.operation.duration",
    "messaging.client.operation.duration",
    "messaging.process.duration",
    "process.cpu.time",
];

/// Returns the time series of `metric` with the highest value, if that is not zero.
pub fn highest<'p>(points: &'p [Point], metric: &str) -> Option<&'p Point> {
    points
        .iter()
        .filter(|point| point.name == metric && point.value > 0.0)
        .max_by(|a, b| a.value.total_cmp(&b.value))
}

fn trace_id(response: &reqwest::Response) -> Result<String> {
    let traceparent = response
        .headers()
        .get("traceparent")
        .context("no traceparent header")?
        .to_str()?;
    Ok(traceparent
        .split('-')
        .nth(1)
        .context("no trace id in traceparent")?
        .to_owned())
}

fn span<'s>(spans: &'s [Span], trace: &str, name: &str) -> Option<&'s Span> {
    spans
        .iter()
        .find(|span| span.trace_id == trace && span.name == name)
}

fn linked_to<'s>(spans: &'s [Span], target: &Span, name: &str) -> Option<&'s Span> {
    spans
        .iter()
        .find(|span| span.name == name && links(span, target))
}

fn links(span: &Span, target: &Span) -> bool {
    span.links
        .iter()
        .any(|link| *link == (target.trace_id.clone(), target.span_id.clone()))
}

fn logs_of(sink: &Sink, request_id: &str) -> Vec<Log> {
    let mut logs = sink.logs();
    logs.retain(|log| {
        log.attributes.get("telemetry_common.request.id") == Some(&json!(request_id))
    });
    logs
}
