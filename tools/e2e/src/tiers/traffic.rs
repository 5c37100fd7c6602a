//! Synthetic traces of four spans. The second half of a trace is sent one second after the first one.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind},
};
use prost::Message;
use reqwest::{Client, header::CONTENT_TYPE};
use testbed::system::http;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The number of spans of each trace.
pub(super) const SPANS: u64 = 4;
/// The time between two requests.
const TICK: Duration = Duration::from_millis(100);
/// The number of requests between the halves of a trace.
const HALVES: usize = 10;

/// A sender of traces at a steady rate.
pub(super) struct Traffic {
    client: Client,
    url: String,
    ticks: Interval,
    per_tick: u64,
    /// The number of traces that began.
    pub(super) begun: u64,
    /// The numbers of the traces of each request whose second half is not sent yet.
    halves: VecDeque<Range<u64>>,
}

impl Traffic {
    /// Creates a sender to the collector at `address`.
    pub(super) fn to(address: &str, spans_per_second: u64) -> Result<Self> {
        let mut ticks = interval(TICK);
        // What happens between two runs does not add to the rate.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            ticks,
            client: http()?,
            url: format!("http://{address}:4318/v1/traces"),
            per_tick: spans_per_second / SPANS / 10,
            begun: 0,
            halves: VecDeque::new(),
        })
    }

    /// Begins traces for this long. Returns the numbers of these traces.
    pub(super) async fn run(&mut self, duration: Duration) -> Result<Range<u64>> {
        let first = self.begun;
        let count = duration.as_millis() / TICK.as_millis();
        for _ in 0..count {
            self.ticks.tick().await;
            let new = self.begun..self.begun + self.per_tick;
            self.begun = new.end;
            self.halves.push_back(new);
            self.send_tick().await?;
        }
        Ok(first..self.begun)
    }

    /// Sends the halves that are left.
    pub(super) async fn finish(&mut self) -> Result<()> {
        while let Some(numbers) = self.halves.pop_front() {
            self.send(numbers.flat_map(second_half).collect()).await?;
        }
        Ok(())
    }

    async fn send_tick(&mut self) -> Result<()> {
        let new = self.halves.back().cloned().into_iter().flatten();
        let mut spans: Vec<_> = new.flat_map(first_half).collect();
        if self.halves.len() > HALVES {
            let old = self.halves.pop_front().into_iter().flatten();
            spans.extend(old.flat_map(second_half));
        }
        self.send(spans).await
    }

    async fn send(&self, spans: Vec<Span>) -> Result<()> {
        let group = ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "synthetic")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![group],
        };
        let request = self.client.post(&self.url).body(request.encode_to_vec());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

/// Returns the id of a trace. The ids of successive numbers differ in all their bits.
pub(super) fn trace_id(number: u64) -> u128 {
    u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn first_half(number: u64) -> [Span; 2] {
    [span(number, 1), span(number, 2)]
}

fn second_half(number: u64) -> [Span; 2] {
    [span(number, 3), span(number, 4)]
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// Builds a span of the size and with the attributes that are usual in this project.
fn span(number: u64, id: u64) -> Span {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or_default();
    let is_root = id == 1;
    let (kind, attributes) = if is_root {
        let attributes = vec![
            text("http.request.method", "GET"),
            text("http.route", "/books/{id}"),
            text("url.path", "/books/17"),
            text("server.address", "bookapp"),
            text("client.address", "203.0.113.7"),
            text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
        ];
        (SpanKind::Server, attributes)
    } else {
        let attributes = vec![
            text("db.system.name", "postgresql"),
            text("db.namespace", "books"),
            text("db.operation.name", "SELECT"),
            text("db.collection.name", "books"),
            text(
                "db.query.text",
                "SELECT id, title, author FROM books WHERE id = $1",
            ),
            text("server.address", "postgres"),
        ];
        (SpanKind::Client, attributes)
    };
    Span {
        trace_id: trace_id(number).to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if is_root {
            Vec::new()
        } else {
            1_u64.to_be_bytes().to_vec()
        },
        name: if is_root {
            "GET /books/{id}"
        } else {
            "SELECT books"
        }
        .to_owned(),
        kind: kind.into(),
        start_time_unix_nano: now - 1_000_000,
        end_time_unix_nano: now,
        attributes,
        ..Span::default()
    }
}
