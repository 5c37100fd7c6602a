//! Tests of the limit of a metric's series.

use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global};
use telemetry_common::{semconv, testing};

/// More series than the SDK keeps of one instrument.
const SERIES: i64 = 2_100;

// proves: L29
#[tokio::test]
async fn an_unbounded_attribute_is_capped_and_the_cap_is_logged_once() {
    testing::install();
    flood("visits");
    let overflow = KeyValue::new("otel.metric.overflow", true);
    assert!(
        testing::sum("visits", &overflow) > 0.0,
        "values beyond the cap are counted"
    );
    wait_for_warning("visits").await;
    // When the second metric is logged, a repeated warning for the first one would be there too.
    flood("clicks");
    testing::metrics();
    wait_for_warning("clicks").await;
    assert_eq!(count_warnings("visits"), 1);
}

/// Adds more series to a counter than the SDK keeps.
fn flood(name: &'static str) {
    let counter = global::meter("unbounded").u64_counter(name).build();
    for visitor in 0..SERIES {
        counter.add(1, &[KeyValue::new("visitor", visitor)]);
    }
}

/// Returns how often the cap of the metric `name` was logged.
fn count_warnings(name: &str) -> usize {
    let events = testing::events("telemetry_common.metric.capped");
    let warnings = events.iter().filter(|log| {
        let mut attributes = log.record.attributes_iter();
        attributes.any(|(key, value)| {
            key.as_str() == semconv::METRIC_NAME && format!("{value:?}").contains(name)
        })
    });
    warnings.count()
}

async fn wait_for_warning(name: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while count_warnings(name) == 0 {
        assert!(
            Instant::now() < deadline,
            "the cap of {name} was not logged"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
