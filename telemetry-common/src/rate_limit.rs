//! Limits the number of log events of each call site, so that one failing loop cannot fill the logs.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    slice,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, metrics::Counter};
use tracing::{Event, Metadata, callsite::Identifier, level_filters::LevelFilter};
use tracing_subscriber::layer::{Context, Filter};

use crate::{scope, semconv};

/// A filter that rejects an event if its call site has logged too many events within the current
/// second. Each output has its own.
pub(crate) struct RateLimit {
    /// Maximum number of events per second and call site. `None`: no limit.
    limit: Option<NonZeroU32>,
    /// The current second of each call site, and the number of its events. A process has a fixed
    /// number of call sites.
    seconds: Mutex<HashMap<Identifier, (Instant, u32)>>,
    /// Created at the first dropped event, because instruments must be created after telemetry is
    /// installed.
    dropped: OnceLock<Counter<u64>>,
    output: KeyValue,
}

impl RateLimit {
    /// `output` is a low-cardinality name: the value of `telemetry_common.log.output`.
    pub(crate) fn new(limit: Option<NonZeroU32>, output: &'static str) -> Self {
        Self {
            limit,
            seconds: Mutex::default(),
            dropped: OnceLock::new(),
            output: KeyValue::new(semconv::LOG_OUTPUT, output),
        }
    }

    fn count(&self) {
        let dropped = self.dropped.get_or_init(|| {
            scope::meter()
                .u64_counter(semconv::LOG_RATE_LIMITED)
                .with_unit("{log_record}")
                .with_description("Number of log events that the rate limit dropped")
                .build()
        });
        dropped.add(1, slice::from_ref(&self.output));
    }

    fn admits(&self, limit: NonZeroU32, callsite: Identifier, now: Instant) -> bool {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let (started, count) = seconds.entry(callsite).or_insert((now, 0));
        if now.duration_since(*started) >= Duration::from_secs(1) {
            (*started, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= limit.get()
    }
}

impl<S> Filter<S> for RateLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    /// Is called only for events that the other filters of the output accept.
    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        let admits = self.admits(limit, event.metadata().callsite(), Instant::now());
        if !admits {
            self.count();
        }
        admits
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

#[cfg(test)]
mod tests {
    use tracing::{callsite, metadata::Kind};

    use super::*;

    #[test]
    fn each_call_site_has_a_limit_per_second() {
        let two = NonZeroU32::new(2).unwrap();
        let limit = RateLimit::new(Some(two), "test");
        let [first, second] = [
            callsite! { name: "a", kind: Kind::EVENT, fields: message },
            callsite! { name: "b", kind: Kind::EVENT, fields: message },
        ];
        let now = Instant::now();
        let admitted = |site: &'static dyn callsite::Callsite, millis| {
            let now = now + Duration::from_millis(millis);
            limit.admits(two, site.metadata().callsite(), now)
        };
        assert!(admitted(first, 0) && admitted(first, 500));
        assert!(!admitted(first, 999) && admitted(second, 999));
        assert!(admitted(first, 1_001));
    }
}
