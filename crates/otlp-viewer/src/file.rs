//! Files of OTLP JSON, as the collector's file exporter writes them.
//!
//! A file contains any number of export requests, each a JSON object with `resourceSpans`, `resourceLogs` or
//! `resourceMetrics`.

use std::{fs::File, io::BufReader, path::Path};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};

use crate::Store;

/// Adds the telemetry in a file to `store`. Returns the number of export requests. What stands before an
/// invalid one is added.
pub fn load(store: &Store, path: &Path) -> Result<usize> {
    let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let requests = Deserializer::from_reader(BufReader::new(file)).into_iter::<Value>();
    let mut count = 0;
    for request in requests {
        count += 1;
        request
            .map_err(Into::into)
            .and_then(|request| add(store, request))
            .with_context(|| format!("{}: request {count} is invalid", path.display()))?;
    }
    Ok(count)
}

fn add(store: &Store, request: Value) -> Result<()> {
    if request.get("resourceSpans").is_some() {
        if let Some(partial) = store.add_traces(&decode(request)?).partial_success {
            bail!(
                "{} spans: {}",
                partial.rejected_spans,
                partial.error_message
            );
        }
    } else if request.get("resourceLogs").is_some() {
        store.add_logs(&decode(request)?);
    } else if request.get("resourceMetrics").is_some() {
        if let Some(partial) = store.add_metrics(&decode(request)?).partial_success {
            bail!(
                "{} points: {}",
                partial.rejected_data_points,
                partial.error_message
            );
        }
    } else {
        bail!("it has neither resourceSpans, resourceLogs nor resourceMetrics");
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(request: Value) -> Result<T> {
    Ok(serde_json::from_value(request)?)
}
