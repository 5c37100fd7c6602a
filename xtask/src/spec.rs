//! `backend/openapi.json`: written from the code, read by the client's generator.

use std::fs;

use anyhow::{Result, ensure};

use crate::cargo;

const DOCUMENT: &str = "backend/openapi.json";

pub(crate) fn write() -> Result<()> {
    Ok(fs::write(DOCUMENT, document()?)?)
}

pub(crate) fn check() -> Result<()> {
    let committed = fs::read_to_string(DOCUMENT)?;
    ensure!(
        committed == document()?,
        "{DOCUMENT} is stale: run `cargo xtask openapi`"
    );
    Ok(())
}

fn document() -> Result<String> {
    cargo::output(&["run", "--quiet", "--package", "backend", "--", "openapi"])
}
