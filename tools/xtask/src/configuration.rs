//! Writes the tables of environment variables in `docs/configuration.md`.

use std::fs;

use anyhow::Result;

use crate::{cargo, generated};

const PAGE: &str = "docs/configuration.md";

/// Writes the tables into the page.
pub(crate) fn write() -> Result<()> {
    Ok(fs::write(PAGE, page()?)?)
}

/// Fails if the tables are stale.
pub(crate) fn check() -> Result<()> {
    generated::check(PAGE, &page()?, "configuration")
}

/// Returns the page with the current tables.
fn page() -> Result<String> {
    let example = ["run", "--quiet", "--package", "telemetry-common"];
    let tables = cargo::output(
        &[
            &example[..],
            &["--features", "sentry", "--example", "variables"],
        ]
        .concat(),
    )?;
    generated::page(PAGE, &tables)
}
