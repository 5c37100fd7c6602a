//! What the process costs: CPU, memory, threads, files, disk, and tokio's workers.

use crate::InitError;

pub(crate) fn observe() -> Result<(), InitError> {
    opentelemetry_instrumentation_process::init()?;
    opentelemetry_instrumentation_tokio::observe_current_runtime();
    Ok(())
}
