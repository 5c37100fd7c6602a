//! The set-up of the SDK: resource, sampler, processor, propagators.

use anyhow::Result;
use clap::ValueEnum;
use opentelemetry::{global, propagation::TextMapCompositePropagator};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{Sampler, SdkTracerProvider},
};

/// How ended spans are exported.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Processor {
    /// In batches over OTLP, on a thread of its own.
    Batch,
    /// One by one to stdout, while the request waits. For debugging.
    Simple,
}

/// Installs the global tracer provider and propagators. Without this call, the API does nothing, and
/// the code that uses it stays the same.
pub(crate) fn install(name: &str, processor: Processor, ratio: f64) -> Result<SdkTracerProvider> {
    global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]));
    let resource = Resource::builder()
        .with_service_name(name.to_owned())
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    let builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler);
    let provider = match processor {
        Processor::Batch => {
            builder.with_batch_exporter(SpanExporter::builder().with_tonic().build()?)
        }
        Processor::Simple => {
            builder.with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        }
    };
    let provider = provider.build();
    global::set_tracer_provider(provider.clone());
    Ok(provider)
}
