//! Trace context in Kafka headers, and the spans of a message: create, send and process.
//!
//! A message carries the context of its *create* span, which is stored with the message. The *send*
//! and *process* spans are in traces of their own and link to the create span, so that the time
//! that a message waits is not part of a trace's duration. [`ConsumerTelemetry::relation`] can
//! change that for the process span.
//!
//! ```no_run
//! # async fn example() -> rdkafka::error::KafkaResult<()> {
//! use rdkafka::{ClientConfig, producer::FutureRecord};
//! use telemetry_common::kafka::Producer;
//!
//! let producer = Producer::create(ClientConfig::new().set("bootstrap.servers", "localhost"))?;
//! let record = FutureRecord::to("sold").key("7").payload("42");
//! producer.send(record, Some("sale-7")).await?; // a create span and a send span
//! # Ok(()) }
//! ```
//!
//! A message that is stored before it is sent, as in an outbox, carries the context of a create span
//! that was made when it was stored:
//!
//! ```
//! use telemetry_common::kafka::{Headers, create_span};
//!
//! let created = create_span("sold", Some("7"), Some("sale-7"));
//! let headers = Headers::carrying(&created); // stored with the message, for `Producer::send_created`
//! let stored = serde_json::to_string(&headers)?;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! A consumer processes each message in a span of its own:
//!
//! ```no_run
//! # async fn example() -> rdkafka::error::KafkaResult<()> {
//! use rdkafka::{ClientConfig, Message, consumer::{Consumer, StreamConsumer}};
//! use telemetry_common::kafka::ConsumerTelemetry;
//!
//! let consumer: StreamConsumer = ClientConfig::new().set("group.id", "billing").create()?;
//! consumer.subscribe(&["sold"])?;
//! let telemetry = ConsumerTelemetry::new("billing", "billing-1");
//! let message = consumer.recv().await?;
//! let work = async { message.payload().ok_or("no payload") };
//! let failed = |output: &Result<_, _>| output.is_err().then_some("no_payload");
//! let outcome = telemetry.process(&message, 1, work, failed).await;
//! # let _ = outcome;
//! # Ok(()) }
//! ```
//!
//! Messages that are processed together have [a span each](ConsumerTelemetry::process_batch), too.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>.

mod batch;
mod client;
mod consumer;
mod delivery;
mod headers;
mod producer;

use opentelemetry::{Value, metrics::Counter};

pub use client::ClientLog;
pub use consumer::{ConsumerTelemetry, TraceRelation};
pub use headers::{Headers, extract};
pub use producer::{Producer, create_span};

use crate::{edge::Attributes, scope, semconv};

/// Adds the attributes that all spans and metrics of messages have.
fn describe(attributes: &mut Attributes, operation: &'static str, topic: impl Into<Value>) {
    attributes.add(semconv::MESSAGING_SYSTEM, "kafka");
    attributes.add(semconv::MESSAGING_OPERATION_NAME, operation);
    attributes.add(semconv::MESSAGING_OPERATION_TYPE, operation);
    attributes.add(semconv::MESSAGING_DESTINATION_NAME, topic);
}

/// Creates a counter of messages.
fn messages(name: &'static str, description: &'static str) -> Counter<u64> {
    scope::meter()
        .u64_counter(name)
        .with_unit("{message}")
        .with_description(description)
        .build()
}

fn integer(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
