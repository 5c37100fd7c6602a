//! Error events of Sentry's protocol, so that one program shows them beside their traces.
//!
//! An envelope consists of lines: its header, then a header and a payload for each item. See
//! <https://develop.sentry.dev/sdk/data-model/envelopes/>.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::post,
};
use serde_json::{Value, json};
use tower_http::decompression::RequestDecompressionLayer;

use crate::Store;

pub(crate) fn router(store: Arc<Store>, limit: usize) -> Router {
    Router::new()
        .route("/api/{project}/envelope/", post(receive))
        .layer(DefaultBodyLimit::max(limit))
        .layer(RequestDecompressionLayer::new())
        .with_state(store)
}

async fn receive(
    State(store): State<Arc<Store>>,
    body: Bytes,
) -> Result<Json<Value>, (StatusCode, String)> {
    let invalid = |reason: String| (StatusCode::BAD_REQUEST, format!("no envelope: {reason}\n"));
    let events = events(&body).map_err(invalid)?;
    for event in events {
        store.add_error(event);
    }
    Ok(Json(json!({})))
}

/// Returns the events of an envelope, or why it is none.
fn events(envelope: &[u8]) -> Result<Vec<Value>, String> {
    let parse =
        |line: &[u8]| serde_json::from_slice::<Value>(line).map_err(|error| error.to_string());
    let mut rest = envelope;
    parse(next_line(&mut rest))?;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let header = next_line(&mut rest);
        if header.is_empty() {
            continue;
        }
        let header = parse(header)?;
        // A payload with a length may contain line breaks.
        let payload = match header["length"].as_u64().map(usize::try_from) {
            Some(Ok(length)) if length <= rest.len() => {
                let (payload, after) = rest.split_at(length);
                rest = after.strip_prefix(b"\n").unwrap_or(after);
                payload
            }
            Some(_) => return Err("an item is longer than the envelope".to_owned()),
            None => next_line(&mut rest),
        };
        if header["type"] == "event" {
            events.push(parse(payload)?);
        }
    }
    Ok(events)
}

/// Removes the first line from `rest` and returns it.
fn next_line<'e>(rest: &mut &'e [u8]) -> &'e [u8] {
    let end = rest.iter().position(|&byte| byte == b'\n');
    let (line, after) = match end {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (*rest, &[][..]),
    };
    *rest = after;
    line
}
