//! Writes `docs/telemetry.md` from the telemetry registry.

use std::fs;

use anyhow::{Result, ensure};
use telemetry_registry::{Registry, docs};

const PAGE: &str = "docs/telemetry.md";

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    Ok(fs::write(PAGE, docs::page(&Registry::of_checkout()?)?)?)
}

/// Fails if the page is stale.
pub(crate) fn check() -> Result<()> {
    let page = fs::read_to_string(PAGE).unwrap_or_default();
    ensure!(
        page == docs::page(&Registry::of_checkout()?)?,
        "{PAGE} is stale: run `cargo xtask telemetry`"
    );
    Ok(())
}
