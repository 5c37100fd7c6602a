//! Limits the number of log events of each call site, so that one failing loop cannot fill the logs.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::metrics::Counter;
use tracing::{Event, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

use crate::{scope, semconv};

/// A layer that disables an event for all layers if its call site has logged too many events within
/// the current second.
pub(crate) struct RateLimit {
    /// Maximum number of events per second and call site.
    limit: u32,
    /// The current second of each call site, and the number of its events. A process has a fixed
    /// number of call sites.
    seconds: Mutex<HashMap<Identifier, (Instant, u32)>>,
    dropped: Counter<u64>,
}

impl RateLimit {
    /// Call it after the meter provider is set.
    pub(crate) fn new(limit: NonZeroU32) -> Self {
        let dropped = scope::meter()
            .u64_counter(semconv::LOG_RATE_LIMITED)
            .with_unit("{log_record}")
            .with_description("Number of log events that the rate limit dropped")
            .build();
        dropped.add(0, &[]);
        Self {
            limit: limit.get(),
            seconds: Mutex::default(),
            dropped,
        }
    }

    fn admits(&self, callsite: Identifier, now: Instant) -> bool {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let (started, count) = seconds.entry(callsite).or_insert((now, 0));
        if now.duration_since(*started) >= Duration::from_secs(1) {
            (*started, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= self.limit
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let admits = self.admits(event.metadata().callsite(), Instant::now());
        if !admits {
            self.dropped.add(1, &[]);
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tracing::{callsite, info, metadata::Kind, subscriber::with_default};
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    struct CountingLayer(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for CountingLayer {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_call_site_has_a_limit_per_second() {
        let limit = RateLimit::new(NonZeroU32::new(2).unwrap());
        let [first, second] = [
            callsite! { name: "a", kind: Kind::EVENT, fields: message },
            callsite! { name: "b", kind: Kind::EVENT, fields: message },
        ];
        let now = Instant::now();
        let admitted = |site: &'static dyn callsite::Callsite, millis| {
            let now = now + Duration::from_millis(millis);
            limit.admits(site.metadata().callsite(), now)
        };
        assert!(admitted(first, 0) && admitted(first, 500));
        assert!(!admitted(first, 999) && admitted(second, 999));
        assert!(admitted(first, 1_001));
    }

    #[test]
    fn no_layer_receives_an_event_beyond_the_limit() {
        let received = Arc::default();
        let layers: Vec<Box<dyn Layer<_> + Send + Sync>> = vec![
            CountingLayer(Arc::clone(&received)).boxed(),
            RateLimit::new(NonZeroU32::new(3).unwrap()).boxed(),
        ];
        with_default(registry().with(layers), || {
            for _ in 0..100 {
                info!("a loop that fails");
            }
        });
        // The loop may run across the end of one second.
        let received = received.load(Ordering::Relaxed);
        assert!((3..=6).contains(&received), "{received}");
    }
}
