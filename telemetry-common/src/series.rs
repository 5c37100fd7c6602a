//! The series of metrics: the values of each combination of attributes.
//!
//! A series is looked up by a few labels, once for a request or message. By attributes, the SDK would look it up
//! for each measurement, and hash and compare all of them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

/// The maximum number of series that are kept. It is the number from which on the SDK adds all further ones
/// to one series.
const MAX_SERIES: usize = 2000;

/// The series `S` of each combination of labels `L`.
pub(crate) struct SeriesOf<L, S>(LazyLock<RwLock<HashMap<L, Arc<S>>>>);

impl<L: Eq + Hash, S> SeriesOf<L, S> {
    /// Creates an empty collection.
    pub(crate) const fn new() -> Self {
        Self(LazyLock::new(RwLock::default))
    }

    /// Returns the series with these labels. `create` creates it the first time, and each time if there are too
    /// many.
    pub(crate) fn get(&self, labels: L, create: impl FnOnce(&L) -> S) -> Arc<S> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get(&labels) {
            return Arc::clone(series);
        }
        drop(all);
        let series = Arc::new(create(&labels));
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_SERIES {
            return Arc::clone(all.entry(labels).or_insert(series));
        }
        series
    }
}
