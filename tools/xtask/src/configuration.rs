//! Writes the tables of environment variables in `docs/configuration.md`.

use std::fs;

use anyhow::{Context, Result};

use crate::{cargo, generated};

const PAGE: &str = "docs/configuration.md";
const START: &str = "<!-- start of the generated part -->\n";
const END: &str = "<!-- end of the generated part -->\n";

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
    let page = fs::read_to_string(PAGE)?;
    let (before, rest) = page.split_once(START).context("no start of the tables")?;
    let (_, after) = rest.split_once(END).context("no end of the tables")?;
    let example = ["run", "--quiet", "--package", "telemetry-common"];
    let tables = cargo::output(
        &[
            &example[..],
            &["--features", "sentry", "--example", "variables"],
        ]
        .concat(),
    )?;
    Ok(format!("{before}{START}\n{tables}\n{END}{after}"))
}
