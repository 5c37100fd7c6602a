//! The metrics of the outbox backlog. Only the leader of the relay reports them.

use std::sync::{Arc, Mutex, PoisonError};

use telemetry_common::{meter_of, service};

use super::repository::Backlog;

/// The latest backlog; `None` while this instance is not the leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges(Arc<Mutex<Option<Backlog>>>);

impl Gauges {
    /// Registers the gauges. Each export of metrics reads the latest backlog.
    pub(super) fn register() -> Self {
        let gauges = Self::default();
        let meter = meter_of(service!());
        let current = gauges.clone();
        meter
            .i64_observable_gauge("bookapp.outbox.pending")
            .with_unit("{message}")
            .with_description(
                "Number of pending messages in the outbox. Only the relay leader reports it",
            )
            .with_callback(move |gauge| {
                if let Some(backlog) = current.get() {
                    gauge.observe(backlog.rows, &[]);
                }
            })
            .build();
        let current = gauges.clone();
        meter
            .f64_observable_gauge("bookapp.outbox.oldest.age")
            .with_unit("s")
            .with_description(
                "Age of the oldest pending message in the outbox. Only the relay leader reports it",
            )
            .with_callback(move |gauge| {
                if let Some(backlog) = current.get() {
                    gauge.observe(backlog.age, &[]);
                }
            })
            .build();
        gauges
    }

    pub(super) fn set(&self, backlog: Backlog) {
        self.store(Some(backlog));
    }

    pub(super) fn clear(&self) {
        self.store(None);
    }

    fn store(&self, backlog: Option<Backlog>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
    }

    fn get(&self) -> Option<Backlog> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
