//! Sampling: which traces are recorded.
//!
//! A trace that begins with a link is sampled as the trace that it links to ([`LinkBased`]): a message and
//! the request that created it are kept or dropped together. A ratio is applied by
//! [`ConsistentProbability`], so that each later stage, such as the collector, keeps a subset of the same
//! traces.

mod count;
mod links;
mod probability;
mod state;

use opentelemetry_sdk::trace::{Sampler, ShouldSample};

use crate::{TelemetryConfig, TracesSampler};
#[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
pub(crate) use count::count_dropped_child;
pub(crate) use count::{CountingSampler, observe};
pub use links::LinkBased;
#[cfg(feature = "kafka")]
pub(crate) use links::without_threshold;
pub use probability::{ConsistentProbability, Randomness, Threshold};

/// Returns the configured sampler.
pub(crate) fn configured(config: &TelemetryConfig) -> Box<dyn ShouldSample> {
    let ratio = || ConsistentProbability::new(config.traces_sampler_ratio);
    match config.traces_sampler {
        TracesSampler::AlwaysOn => Box::new(Sampler::AlwaysOn),
        TracesSampler::AlwaysOff => Box::new(Sampler::AlwaysOff),
        TracesSampler::TraceIdRatio => Box::new(ratio()),
        TracesSampler::ParentBasedAlwaysOn => parent_based(Sampler::AlwaysOn),
        TracesSampler::ParentBasedAlwaysOff => parent_based(Sampler::AlwaysOff),
        TracesSampler::ParentBasedTraceIdRatio => parent_based(ratio()),
    }
}

/// Returns a sampler that asks `root` about a trace that begins without a parent and without a link.
fn parent_based(root: impl ShouldSample + 'static) -> Box<dyn ShouldSample> {
    Box::new(Sampler::parent_based(LinkBased::new(root)))
}
