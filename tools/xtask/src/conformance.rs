//! `docs/conformance.md`: every behaviour with its state and the tests that prove it.
//!
//! `conformance.txt` has the rows; tests name those they prove on a line above them, as
//! `proves: B1 B4` in a comment. A row whose third column says what is missing is partly proven.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

const ROWS: &str = include_str!("../conformance.txt");
const TABLE: &str = "docs/conformance.md";
const MARK: &str = "// proves: ";

struct Row {
    id: &'static str,
    words: &'static str,
    missing: Option<&'static str>,
}

pub(crate) fn write() -> Result<()> {
    let (table, score) = table()?;
    fs::write(TABLE, table)?;
    eprintln!("{score}");
    Ok(())
}

pub(crate) fn check() -> Result<()> {
    let (table, score) = table()?;
    let committed = fs::read_to_string(TABLE).unwrap_or_default();
    ensure!(
        committed == table,
        "{TABLE} is stale: run `cargo xtask conformance`"
    );
    eprintln!("{score}");
    Ok(())
}

/// The table, and `N of 135`.
fn table() -> Result<(String, String)> {
    let rows = rows()?;
    let proofs = proofs()?;
    for id in proofs.keys() {
        ensure!(rows.iter().any(|row| row.id == id), "no row is called {id}");
    }
    let mut lines = String::new();
    let mut proven = 0;
    for row in &rows {
        let tests = proofs
            .get(row.id)
            .map(|tests| tests.join(", "))
            .unwrap_or_default();
        let state = match (row.missing, tests.is_empty()) {
            (None, false) => "**proven**".to_owned(),
            (Some(missing), false) => missing.to_owned(),
            (Some(missing), true) if missing.starts_with("checked") => missing.to_owned(),
            (_, true) => "open".to_owned(),
        };
        proven += usize::from(state == "**proven**");
        writeln!(lines, "| {} | {} | {state} | {tests} |", row.id, row.words)?;
    }
    let score = format!("{proven} of {}", rows.len());
    let head = format!(
        "# Conformance\n\nWritten by `cargo xtask conformance`. **Proven** is a row whose test would fail if the \
         behaviour broke; *partly* says what is missing.\n\n{score}\n\n\
         | row | what the finished system does | state | tests |\n|---|---|---|---|\n"
    );
    Ok((head + &lines, score))
}

fn rows() -> Result<Vec<Row>> {
    let lines = ROWS.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let mut columns = line.split(" | ");
        let (id, words) = columns
            .next()
            .zip(columns.next())
            .with_context(|| line.to_owned())?;
        Ok(Row {
            id,
            words,
            missing: columns.next(),
        })
    };
    lines.map(row).collect()
}

/// The tests of each row.
fn proofs() -> Result<BTreeMap<String, Vec<String>>> {
    let mut proofs = BTreeMap::<String, Vec<String>>::new();
    let mut files = Vec::new();
    sources(Path::new("."), &mut files)?;
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let Some(ids) = line.strip_prefix(MARK) else {
                continue;
            };
            let name = lines[number..]
                .iter()
                .find_map(|line| line.split_once("fn ").map(|(_, rest)| rest))
                .and_then(|rest| rest.split('(').next())
                .with_context(|| format!("{}: {line} stands above no test", file.display()))?;
            let file = file.strip_prefix(".").unwrap_or(&file).display();
            for id in ids.split_whitespace() {
                let proof = format!("`{file}` {name}");
                proofs.entry(id.to_owned()).or_default().push(proof);
            }
        }
    }
    Ok(proofs)
}

/// Rust files below `folder`.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
