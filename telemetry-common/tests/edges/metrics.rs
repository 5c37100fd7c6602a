//! What a metric must not become.

use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::logs::in_memory_exporter::LogDataWithResource;
use telemetry_common::{semconv, testing};

/// More than the SDK keeps of one instrument.
const SERIES: i64 = 2_100;

// proves: L29
#[tokio::test]
async fn an_attribute_without_bounds_is_capped_and_that_is_said_once() {
    testing::install();
    let counter = global::meter("careless").u64_counter("visits").build();
    for visitor in 0..SERIES {
        counter.add(1, &[KeyValue::new("visitor", visitor)]);
    }
    let rest = KeyValue::new("otel.metric.overflow", true);
    assert!(
        testing::sum("visits", &rest) > 0.0,
        "what exceeds the cap is counted"
    );
    let said = || {
        let events = testing::events("telemetry.metric.capped");
        let of_visits = |log: &&LogDataWithResource| {
            let mut attributes = log.record.attributes_iter();
            attributes.any(|(key, value)| {
                key.as_str() == semconv::METRIC_NAME && format!("{value:?}").contains("visits")
            })
        };
        events.iter().filter(of_visits).count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while said() == 0 {
        assert!(Instant::now() < deadline, "it is never said");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    testing::metrics();
    assert_eq!(said(), 1, "another export says nothing new");
}
