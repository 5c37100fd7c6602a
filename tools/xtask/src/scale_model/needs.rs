//! What a rate of requests needs, from the measured figures.

use super::measured::{
    CPU, DERIVED, GATEWAY_CORES, GATEWAY_IDLE, GATEWAY_SPANS, GRAPH, MESSAGE_CPU, METRICS,
    Measured, RECORD_BYTES, RECORDS, RELAY, SERIES, SPAN_BYTES, SPANS, TRACES, WAITING_SPAN,
    WORKER,
};

/// The shares of reads, lists and additions, as in the load of `cargo xtask bench`.
const SHARES: [f64; 3] = [0.8, 0.1, 0.1];
/// The share of its capacity that a part uses, so that there is room for peaks.
const UTILISATION: f64 = 0.6;
/// The time until a gateway decides about a trace, `TAIL_SAMPLING_DECISION_WAIT`, in seconds.
const DECISION_WAIT: f64 = 15.0;
/// The cores of a machine.
const CORES: f64 = 8.0;
/// The maximum number of connections of a worker: `DATABASE_MAX_CONNECTIONS`, and one for readiness.
const CONNECTIONS: f64 = 10.0 + 1.0;
/// The share of a container's memory that its gateway uses at most: it refuses data beyond 80 % of `OTELCOL_MEMORY_MIB`,
/// which is 80 % of the container's.
const USABLE_MEMORY: f64 = 0.8 * 0.8;
/// The time between two exports of a metric, `OTEL_METRIC_EXPORT_INTERVAL` and `OTELCOL_FLUSH_INTERVAL`, in seconds.
const EXPORT_INTERVAL: f64 = 15.0;
const DAY: f64 = 86_400.0;

/// What a rate of requests needs.
pub(super) struct Needs {
    /// Reads, lists and additions per second.
    pub(super) requests: [f64; 3],
}

impl Needs {
    pub(super) fn of(rate: f64) -> Self {
        Self {
            requests: SHARES.map(|share| rate * share),
        }
    }

    /// Returns the sum of a figure over the requests of a second.
    fn sum(&self, figures: [Measured; 3]) -> f64 {
        let pairs = self.requests.iter().zip(figures);
        pairs.map(|(rate, figure)| rate * figure.value).sum()
    }

    /// The messages of a second: one for each addition.
    pub(super) fn messages(&self) -> f64 {
        self.requests[2]
    }

    pub(super) fn service_cores(&self) -> f64 {
        (self.sum(CPU) + self.messages() * MESSAGE_CPU.value) / 1e6
    }

    /// Instances of both services, of one core each: at least two of bookapp and the workers.
    pub(super) fn instances(&self) -> f64 {
        let for_cores = (self.service_cores() / UTILISATION).ceil();
        for_cores.max(2.0 + self.workers())
    }

    pub(super) fn relays(&self) -> f64 {
        (self.messages() / RELAY.value / UTILISATION).ceil()
    }

    /// At least two, so that one may fail.
    pub(super) fn workers(&self) -> f64 {
        (self.messages() / WORKER.value / UTILISATION)
            .ceil()
            .max(2.0)
    }

    /// The relay of each bookapp has one more.
    pub(super) fn connections(&self) -> f64 {
        self.instances() * CONNECTIONS + self.instances() - self.workers()
    }

    pub(super) fn spans(&self) -> f64 {
        self.sum(SPANS)
    }

    pub(super) fn gateway_cores(&self) -> f64 {
        self.spans() / GATEWAY_SPANS.value * GATEWAY_CORES.value
    }

    /// Gateways of two cores each, at least two.
    pub(super) fn gateways(&self) -> f64 {
        (self.gateway_cores() / 2.0 / UTILISATION).ceil().max(2.0)
    }

    fn waiting(&self) -> f64 {
        self.spans() / self.gateways() * DECISION_WAIT
    }

    pub(super) fn gateway_memory(&self) -> f64 {
        GATEWAY_IDLE.value + self.waiting() * WAITING_SPAN.value / 1e6
    }

    pub(super) fn gateway_limit(&self) -> f64 {
        self.gateway_memory() / USABLE_MEMORY
    }

    /// Twice the traces that wait, because they do not arrive evenly.
    pub(super) fn num_traces(&self) -> f64 {
        2.0 * self.sum(TRACES) / self.gateways() * DECISION_WAIT
    }

    pub(super) fn machines(&self) -> f64 {
        ((self.service_cores() + self.gateway_cores()) / CORES / UTILISATION)
            .ceil()
            .max(2.0)
    }

    pub(super) fn series(&self) -> f64 {
        let of_gateway = GRAPH.value + self.instances() * DERIVED.value;
        self.instances() * SERIES.value + self.gateways() * of_gateway
    }

    pub(super) fn samples(&self) -> f64 {
        self.series() / EXPORT_INTERVAL
    }

    pub(super) fn span_bytes(&self) -> f64 {
        self.spans() * SPAN_BYTES.value * DAY
    }

    pub(super) fn log_bytes(&self) -> f64 {
        self.sum(RECORDS) * RECORD_BYTES.value * DAY
    }

    pub(super) fn metric_bytes(&self) -> f64 {
        self.instances() * METRICS.value * DAY / EXPORT_INTERVAL
    }
}
