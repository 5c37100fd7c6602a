//! Writes the OpenAPI documents from the code. Client generators and fuzzers read them.

use std::fs;

use anyhow::Result;

use crate::{cargo, generated};

const SERVICES: [&str; 2] = ["backend", "bookapp"];

pub(crate) fn write() -> Result<()> {
    for service in SERVICES {
        fs::write(path(service), document(service)?)?;
    }
    Ok(())
}

pub(crate) fn check() -> Result<()> {
    for service in SERVICES {
        generated::check(&path(service), &document(service)?, "openapi")?;
    }
    Ok(())
}

fn path(service: &str) -> String {
    format!("{service}/openapi.json")
}

fn document(service: &str) -> Result<String> {
    cargo::output(&["run", "--quiet", "--package", service, "--", "openapi"])
}
