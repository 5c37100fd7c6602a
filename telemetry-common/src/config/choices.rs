//! Settings that have one of several values.

use serde::Deserialize;

/// Declares an enum whose variants have names in settings.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(format!("{text:?} is not one of {}", [$($text),*].join(", "))),
                }
            }
        }
    };
}

choices! {
    /// The exporter of a signal.
    Exporter {
        /// OTLP, to `OTEL_EXPORTER_OTLP_ENDPOINT` by `OTEL_EXPORTER_OTLP_PROTOCOL`.
        Otlp = "otlp",
        /// Complete data on stdout, for debugging.
        Console = "console",
        /// Metrics only: [`Telemetry::scrape`](crate::Telemetry::scrape) returns them in the text
        /// format of Prometheus. Needs the feature `prometheus`.
        Prometheus = "prometheus",
    }
}

choices! {
    /// The sampler of spans.
    TracesSampler {
        /// Samples every span.
        AlwaysOn = "always_on",
        /// Samples no span.
        AlwaysOff = "always_off",
        /// Samples a share of the traces, by their ids.
        TraceIdRatio = "traceidratio",
        /// As the parent span; `AlwaysOn` for a span without parent.
        ParentBasedAlwaysOn = "parentbased_always_on",
        /// As the parent span; `AlwaysOff` for a span without parent.
        ParentBasedAlwaysOff = "parentbased_always_off",
        /// As the parent span; `TraceIdRatio` for a span without parent.
        ParentBasedTraceIdRatio = "parentbased_traceidratio",
    }
}

choices! {
    /// The span processor, which passes ended spans to the exporter.
    Processor {
        /// Exports batches of spans on a separate thread.
        Batch = "batch",
        /// Exports each span on the thread that ends it, which waits for the export.
        Simple = "simple",
    }
}

choices! {
    /// A format in which context is propagated between processes.
    Propagator {
        /// W3C Trace Context: `traceparent`, `tracestate`.
        TraceContext = "tracecontext",
        /// W3C Baggage.
        Baggage = "baggage",
        /// Zipkin's B3 in one header: `b3`.
        B3 = "b3",
        /// Zipkin's B3 in multiple headers: `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled`.
        B3Multi = "b3multi",
        /// Jaeger: `uber-trace-id`.
        Jaeger = "jaeger",
    }
}

choices! {
    /// The format of the console logs.
    LogFormat {
        /// Human-readable text, one line per log record.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
        /// `name=value` pairs.
        Logfmt = "logfmt",
    }
}

choices! {
    /// An output of log records.
    LogOutput {
        /// The console logs.
        Console = "console",
        /// The exported log records.
        Otlp = "otlp",
    }
}
