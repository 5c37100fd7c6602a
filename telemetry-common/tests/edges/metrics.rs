//! What a metric must not become.

use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global};
use telemetry_common::{semconv, testing};

/// More than the SDK keeps of one instrument.
const SERIES: i64 = 2_100;

// proves: L29
#[tokio::test]
async fn an_attribute_without_bounds_is_capped_and_that_is_said_once() {
    testing::install();
    flood("visits");
    let rest = KeyValue::new("otel.metric.overflow", true);
    assert!(
        testing::sum("visits", &rest) > 0.0,
        "what exceeds the cap is counted"
    );
    once_said("visits").await;
    // By the time the next one is said, the first would have been said again.
    flood("clicks");
    testing::metrics();
    once_said("clicks").await;
    assert_eq!(said("visits"), 1);
}

fn flood(name: &'static str) {
    let counter = global::meter("careless").u64_counter(name).build();
    for visitor in 0..SERIES {
        counter.add(1, &[KeyValue::new("visitor", visitor)]);
    }
}

fn said(name: &str) -> usize {
    let events = testing::events("telemetry.metric.capped");
    let told = events.iter().filter(|log| {
        let mut attributes = log.record.attributes_iter();
        attributes.any(|(key, value)| {
            key.as_str() == semconv::METRIC_NAME && format!("{value:?}").contains(name)
        })
    });
    told.count()
}

async fn once_said(name: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while said(name) == 0 {
        assert!(Instant::now() < deadline, "{name} is never said");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
