//! Files that a command generates and that are committed.

use std::fs;

use anyhow::{Result, ensure};

/// Fails if the committed file differs from `content`. `command` writes it.
pub(crate) fn check(path: &str, content: &str, command: &str) -> Result<()> {
    let committed = fs::read_to_string(path).unwrap_or_default();
    ensure!(
        committed == content,
        "{path} is stale: run `cargo xtask {command}`"
    );
    Ok(())
}
