//! Trace context in Kafka headers, and the spans of a message's life: create, send, process.
//!
//! A message carries the context of its *create* span from the moment it is written down; *send*
//! and *process* link to it and are traces of their own work, so that durations stay honest when
//! a message waits. [`process_span`] is the one place where that can be changed.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>.

mod consumer;
mod headers;
mod producer;

use opentelemetry::{KeyValue, global, metrics::Histogram};

pub use consumer::{TraceRelation, process_span, processed};
pub use headers::{Headers, extract};
pub use producer::{create_span, send};

use crate::semconv;

/// The attributes that both metrics share.
fn labels(operation: &'static str, topic: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new(semconv::MESSAGING_SYSTEM, "kafka"),
        KeyValue::new(semconv::MESSAGING_OPERATION_NAME, operation),
        KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, operation),
        KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, topic.to_owned()),
    ]
}

fn seconds(name: &'static str, description: &'static str) -> Histogram<f64> {
    global::meter("telemetry-common")
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
        .build()
}

fn integer(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
