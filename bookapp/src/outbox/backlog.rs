//! How much waits in the outbox, and for how long: told by whichever instance relays.

use std::sync::{Arc, Mutex, PoisonError};

use telemetry_common::{meter_of, service};

use super::repository::Backlog;

/// The newest backlog; `None` while another instance relays.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges(Arc<Mutex<Option<Backlog>>>);

impl Gauges {
    /// Gauges that are read whenever metrics are exported.
    pub(super) fn observed() -> Self {
        let gauges = Self::default();
        let meter = meter_of(service!());
        let shown = gauges.clone();
        meter
            .i64_observable_gauge("bookapp.outbox.pending")
            .with_unit("{message}")
            .with_description("Messages that wait to be sent")
            .with_callback(move |gauge| {
                if let Some(backlog) = shown.get() {
                    gauge.observe(backlog.rows, &[]);
                }
            })
            .build();
        let shown = gauges.clone();
        meter
            .f64_observable_gauge("bookapp.outbox.oldest.age")
            .with_unit("s")
            .with_description("For how long the oldest message has waited to be sent")
            .with_callback(move |gauge| {
                if let Some(backlog) = shown.get() {
                    gauge.observe(backlog.age, &[]);
                }
            })
            .build();
        gauges
    }

    pub(super) fn show(&self, backlog: Backlog) {
        self.set(Some(backlog));
    }

    pub(super) fn clear(&self) {
        self.set(None);
    }

    fn set(&self, backlog: Option<Backlog>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
    }

    fn get(&self) -> Option<Backlog> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
