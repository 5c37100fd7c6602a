//! Checks that every path and link in the documents leads to a file of this checkout, and to a
//! heading that exists.

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
        let broken_links = links(&text).filter(|link| !leads_somewhere(link, file, folder));
        let missing_paths = paths(&text).filter(|path| !Path::new(path).exists());
        let named = broken_links.chain(missing_paths);
        missing.extend(named.map(|named| format!("{file}: {named}")));
    }
    ensure!(
        missing.is_empty(),
        "paths and headings that do not exist:\n{}",
        missing.join("\n")
    );
    Ok(())
}

/// Returns whether the target of a link in `file` exists: the file, and its heading if one is named.
fn leads_somewhere(link: &str, file: &str, folder: &Path) -> bool {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        file.into()
    } else {
        folder.join(path)
    };
    if heading.is_empty() {
        return target.exists();
    }
    fs::read_to_string(target).is_ok_and(|text| headings(&text).any(|slug| slug == heading))
}

/// The fragments by which GitHub addresses the headings of a document.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The targets of relative links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
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
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md#part"]);
        assert_eq!(paths(text).collect::<Vec<_>>(), ["tools/x.rs"]);
    }

    #[test]
    fn a_heading_is_addressed_as_on_github() {
        let text = "# `http/protobuf` by default\ntext\n### The subscriber, and its layers";
        let expected = ["httpprotobuf-by-default", "the-subscriber-and-its-layers"];
        assert_eq!(headings(text).collect::<Vec<_>>(), expected);
    }
}
