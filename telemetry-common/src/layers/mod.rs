//! Layers for any subscriber of `tracing`: context on inner spans, and metrics out of spans.
//!
//! Each layer works alone and together with the others, with a filter of its own:
//!
//! ```
//! use telemetry_common::layers;
//! use tracing::{info_span, instrument, subscriber::with_default};
//! use tracing_subscriber::{layer::SubscriberExt, registry};
//!
//! #[instrument(name = "record.save", skip_all, fields(metric_label_table = "books"))]
//! fn save() {} // measured by `save` and `save.duration`, with the attributes `table` and `tenant`
//!
//! let subscriber = registry().with(layers::context()).with(layers::metrics());
//! with_default(subscriber, || info_span!("request", metric_label_tenant = 7).in_scope(save));
//! ```
//!
//! With [`Builder::with_layer`](crate::Builder::with_layer), they run beside those of this crate.
//! Add the context layer first: the others read what it keeps.

mod context;
mod field;
mod metrics;

use tracing::Metadata;

pub use context::{SpanFields, context};
pub use field::FieldValue;
pub use metrics::metrics;

/// The field of an event that marks its span as failed.
const ERROR: &str = "error";

/// Whether `metadata` is that of an event with a field `error`.
fn is_error(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.fields().field(ERROR).is_some()
}
