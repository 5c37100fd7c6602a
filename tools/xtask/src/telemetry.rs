//! Writes `docs/telemetry.md` from the telemetry registry.

use std::fs;

use anyhow::Result;
use telemetry_registry::{Registry, docs};

use crate::generated;

const PAGE: &str = "docs/telemetry.md";

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    Ok(fs::write(PAGE, docs::page(&Registry::of_checkout()?)?)?)
}

/// Fails if the page is stale.
pub(crate) fn check() -> Result<()> {
    let page = docs::page(&Registry::of_checkout()?)?;
    generated::check(PAGE, &page, "telemetry")
}
