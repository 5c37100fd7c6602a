//! The views of a file.

use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, Stream};
use serde::Deserialize;

use super::Empty;

/// A view: which instruments it changes, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    selector: Selector,
    stream: StreamModel,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Selector {
    /// `*` at the end matches any suffix.
    instrument_name: Option<String>,
    instrument_type: Option<InstrumentType>,
    unit: Option<String>,
    meter_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InstrumentType {
    Counter,
    Gauge,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StreamModel {
    name: Option<String>,
    description: Option<String>,
    aggregation: Option<AggregationModel>,
    aggregation_cardinality_limit: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "some variants have no settings")]
#[serde(rename_all = "snake_case")]
enum AggregationModel {
    Default(Option<Empty>),
    Drop(Option<Empty>),
    Sum(Option<Empty>),
    LastValue(Option<Empty>),
    ExplicitBucketHistogram(Buckets),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Buckets {
    boundaries: Vec<f64>,
    #[serde(default = "yes")]
    record_min_max: bool,
}

fn yes() -> bool {
    true
}

impl View {
    /// Returns the stream of an instrument that the view selects.
    pub(crate) fn stream(&self, instrument: &Instrument) -> Option<Stream> {
        if !self.selector.matches(instrument) {
            return None;
        }
        let model = &self.stream;
        let mut stream = Stream::builder();
        if let Some(name) = &model.name {
            stream = stream.with_name(name.clone());
        }
        if let Some(description) = &model.description {
            stream = stream.with_description(description.clone());
        }
        if let Some(limit) = model.aggregation_cardinality_limit {
            stream = stream.with_cardinality_limit(limit);
        }
        if let Some(aggregation) = &model.aggregation {
            stream = stream.with_aggregation(match aggregation {
                AggregationModel::Default(_) => Aggregation::Default,
                AggregationModel::Drop(_) => Aggregation::Drop,
                AggregationModel::Sum(_) => Aggregation::Sum,
                AggregationModel::LastValue(_) => Aggregation::LastValue,
                AggregationModel::ExplicitBucketHistogram(buckets) => {
                    Aggregation::ExplicitBucketHistogram {
                        boundaries: buckets.boundaries.clone(),
                        record_min_max: buckets.record_min_max,
                    }
                }
            });
        }
        stream.build().ok()
    }
}

impl Selector {
    fn matches(&self, instrument: &Instrument) -> bool {
        let name =
            self.instrument_name
                .as_deref()
                .is_none_or(|name| match name.strip_suffix('*') {
                    Some(prefix) => instrument.name().starts_with(prefix),
                    None => instrument.name() == name,
                });
        let kind = self.instrument_type.is_none_or(|kind| {
            instrument.kind()
                == match kind {
                    InstrumentType::Counter => InstrumentKind::Counter,
                    InstrumentType::Gauge => InstrumentKind::Gauge,
                    InstrumentType::Histogram => InstrumentKind::Histogram,
                    InstrumentType::ObservableCounter => InstrumentKind::ObservableCounter,
                    InstrumentType::ObservableGauge => InstrumentKind::ObservableGauge,
                    InstrumentType::ObservableUpDownCounter => {
                        InstrumentKind::ObservableUpDownCounter
                    }
                    InstrumentType::UpDownCounter => InstrumentKind::UpDownCounter,
                }
        });
        let unit = self
            .unit
            .as_deref()
            .is_none_or(|unit| unit == instrument.unit());
        let meter = self.meter_name.as_deref();
        name && kind && unit && meter.is_none_or(|meter| meter == instrument.scope().name())
    }
}
