//! Writes the OpenAPI documents from the code. Client generators and fuzzers read them.

use std::fs;

use anyhow::{Result, ensure};

use crate::cargo;

const SERVICES: [&str; 2] = ["backend", "bookapp"];

pub(crate) fn write() -> Result<()> {
    for service in SERVICES {
        fs::write(path(service), document(service)?)?;
    }
    Ok(())
}

pub(crate) fn check() -> Result<()> {
    for service in SERVICES {
        let path = path(service);
        let committed = fs::read_to_string(&path)?;
        ensure!(
            committed == document(service)?,
            "{path} is stale: run `cargo xtask openapi`"
        );
    }
    Ok(())
}

fn path(service: &str) -> String {
    format!("{service}/openapi.json")
}

fn document(service: &str) -> Result<String> {
    cargo::output(&["run", "--quiet", "--package", service, "--", "openapi"])
}
