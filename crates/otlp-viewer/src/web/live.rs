//! Tells the page that something arrived.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_stream::stream;
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use tokio::time::sleep;

use crate::Store;

/// The minimum time between two events.
const INTERVAL: Duration = Duration::from_millis(500);

/// Sends an event when something arrived, at most two a second.
pub(super) async fn stream(
    State(store): State<Arc<Store>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut arrivals = store.arrivals();
    let events = stream! {
        while arrivals.changed().await.is_ok() {
            yield Ok(Event::default().data("arrived"));
            sleep(INTERVAL).await;
        }
    };
    Sse::new(events).keep_alive(KeepAlive::default())
}
