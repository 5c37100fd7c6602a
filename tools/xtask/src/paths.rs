//! Checks that every path and link in the documents leads to a file of this checkout.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

pub(crate) fn check() -> Result<()> {
    let files = Command::new("git").args(["ls-files", "*.md"]).output();
    let files = String::from_utf8(files.context("could not run git")?.stdout)?;
    let mut missing = Vec::new();
    for file in files.lines() {
        let Ok(text) = fs::read_to_string(file) else {
            continue; // deleted and not yet committed
        };
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        let links = links(&text).map(|link| (link, folder.join(link)));
        let paths = paths(&text).map(|path| (path, Path::new(path).to_owned()));
        let absent = links.chain(paths).filter(|(_, path)| !path.exists());
        missing.extend(absent.map(|(named, _)| format!("{file}: {named}")));
    }
    ensure!(
        missing.is_empty(),
        "paths that do not exist:\n{}",
        missing.join("\n")
    );
    Ok(())
}

/// The targets of relative links, without their fragments.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let targets = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    targets.filter_map(|target| target.split('#').next())
}

/// Paths between backticks that begin with a folder of the checkout.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 13] = [
        ".ci/",
        ".github/",
        "backend/",
        "bookapp/",
        "crates/",
        "docs/",
        "examples/",
        "grafana/",
        "migrations/",
        "otel-collector/",
        "requests/",
        "stack/",
        "tools/",
    ];
    let code = text.split('`').skip(1).step_by(2);
    code.filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| !path.contains(|c: char| c.is_whitespace() || "*{<…:".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_are_found() {
        let text = "see [it](docs/a.md#part), `tools/x.rs`, `cargo run`, [web](https://a.example)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md"]);
        assert_eq!(paths(text).collect::<Vec<_>>(), ["tools/x.rs"]);
    }
}
