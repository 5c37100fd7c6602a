//! Layers for any subscriber of `tracing`: context on inner spans, lines with it, and metrics out of
//! spans. A fourth layer, for traces, is that of the crate tracing-opentelemetry.
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
//! Add the context layer first: the others read what it keeps.
//!
//! [`Builder`](crate::Builder) already adds the layers for context and lines: `LOG_FORMAT` sets the
//! format, `LOG_SPAN_FIELDS` and `LOG_SPANS` what a line has. Add the metrics layer by
//! [`Builder::with_layer`](crate::Builder::with_layer).

mod context;
mod field;
mod metrics;

use tracing::Metadata;

pub use crate::console::{LinesGuard, lines};
pub(crate) use context::{ContextLayer, is_inherited};
pub use context::{SpanFields, context};
pub use field::FieldValue;
pub(crate) use field::{Value, for_each};
pub use metrics::metrics;

/// The field of an event that marks its span as failed.
const ERROR: &str = "error";

/// Whether `metadata` is that of an event with a field `error`.
fn is_error(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.fields().field(ERROR).is_some()
}
