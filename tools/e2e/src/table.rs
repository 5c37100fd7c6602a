//! What a run answers: a line for each check, in words.

use std::fmt;

use anyhow::{Error, Result};

/// All checks of a run.
#[derive(Debug, Default)]
pub struct Table(Vec<Check>);

#[derive(Debug)]
struct Check {
    part: &'static str,
    what: String,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Held(String),
    Failed(Error),
    NotRun(&'static str),
}

impl Table {
    /// What was found, or why not.
    pub(crate) fn check(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        found: Result<String>,
    ) {
        let outcome = match found {
            Ok(found) => Outcome::Held(found),
            Err(why) => Outcome::Failed(why),
        };
        self.line(part, what.into(), outcome);
    }

    /// What could not be asked here, and why.
    pub(crate) fn not_run(&mut self, part: &'static str, what: &str, why: &'static str) {
        self.line(part, what.to_owned(), Outcome::NotRun(why));
    }

    fn line(&mut self, part: &'static str, what: String, outcome: Outcome) {
        self.0.push(Check {
            part,
            what,
            outcome,
        });
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        let failed = |check: &&Check| matches!(check.outcome, Outcome::Failed(_));
        self.0.iter().filter(failed).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| part | check | outcome |\n|---|---|---|")?;
        for Check {
            part,
            what,
            outcome,
        } in &self.0
        {
            match outcome {
                Outcome::Held(found) => writeln!(f, "| {part} | {what} | ✓ {found} |")?,
                Outcome::Failed(why) => writeln!(f, "| {part} | {what} | ✗ {why:#} |")?,
                Outcome::NotRun(why) => writeln!(f, "| {part} | {what} | not run: {why} |")?,
            }
        }
        Ok(())
    }
}
