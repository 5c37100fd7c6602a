//! Files that a command generates and that are committed.

use std::fs;

use anyhow::{Context, Result, ensure};

const START: &str = "<!-- start of the generated part -->\n";
const END: &str = "<!-- end of the generated part -->\n";

/// Returns the page at `path` with `content` as its generated part.
pub(crate) fn page(path: &str, content: &str) -> Result<String> {
    let page = fs::read_to_string(path)?;
    let parts = page.split_once(START).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{path} has no generated part"))?;
    Ok(format!("{before}{START}\n{content}\n{END}{after}"))
}

/// Fails if the committed file differs from `content`. `command` writes it.
pub(crate) fn check(path: &str, content: &str, command: &str) -> Result<()> {
    let committed = fs::read_to_string(path).unwrap_or_default();
    ensure!(
        committed == content,
        "{path} is stale: run `cargo xtask {command}`"
    );
    Ok(())
}
