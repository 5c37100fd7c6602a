//! Refuses phrases that the project has replaced by standard terms, in code, documents and
//! dashboards.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

const LIST: &str = "tools/xtask/banned-phrases.txt";
/// Text of others, text that must not change, and this check itself.
const NOT_OURS: [&str; 8] = [
    "LICENSE",
    "Cargo.lock",
    ".sqlx/",
    "otel-collector/build/",
    "openapi.json",
    "migrations/", // their checksums are stored in every database
    "xtask/src/phrases.rs",
    LIST,
];

pub(crate) fn check() -> Result<()> {
    let list = fs::read_to_string(LIST)?;
    let phrases = list.lines().filter(|line| !line.starts_with('#'));
    let phrases: Vec<_> = phrases.filter(|line| !line.is_empty()).collect();
    let files = Command::new("git").args(["ls-files"]).output();
    let files = String::from_utf8(files.context("could not run git")?.stdout)?;
    let mut found = Vec::new();
    for file in files.lines().filter(|file| !is_of_others(file)) {
        // Not a text file, or deleted and not yet committed.
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let text = text.to_lowercase();
        for (number, line) in text.lines().enumerate() {
            let used = phrases.iter().filter(|phrase| contains(line, phrase));
            found.extend(used.map(|phrase| format!("{file}:{}: {phrase:?}", number + 1)));
        }
    }
    ensure!(
        found.is_empty(),
        "these phrases have a standard term ({LIST}):\n{}",
        found.join("\n")
    );
    Ok(())
}

fn is_of_others(file: &str) -> bool {
    NOT_OURS.iter().any(|other| file.contains(other))
}

/// Whether `line` has `phrase` as whole words.
fn contains(line: &str, phrase: &str) -> bool {
    let is_inside_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(phrase).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + phrase.len()..]);
        !is_inside_word(before.chars().next_back()) && !is_inside_word(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_found_as_whole_words_only() {
        assert!(contains("whatever whoever wrote", "whoever"));
        assert!(!contains("a caretaker", "taker"));
        assert!(contains("(taker)", "taker"));
    }
}
