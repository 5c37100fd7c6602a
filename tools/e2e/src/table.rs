//! The result table of a run, with one row for each check.

use std::fmt;

use anyhow::{Error, Result, ensure};

/// The checks of a run with their outcomes.
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
    Passed(String),
    Failed(Error),
    NotRun(&'static str),
}

impl Table {
    /// Adds a check with its result: a description of what was found, or an error.
    pub fn check(&mut self, part: &'static str, what: impl Into<String>, found: Result<String>) {
        let outcome = match found {
            Ok(found) => Outcome::Passed(found),
            Err(reason) => Outcome::Failed(reason),
        };
        self.push(part, what.into(), outcome);
    }

    /// Adds a check that cannot run here, with the reason.
    pub fn not_run(&mut self, part: &'static str, what: &str, reason: &'static str) {
        self.push(part, what.to_owned(), Outcome::NotRun(reason));
    }

    /// Adds a check, and prints it, because a run takes minutes.
    #[expect(clippy::print_stderr, reason = "the progress of the command")]
    fn push(&mut self, part: &'static str, what: String, outcome: Outcome) {
        let check = Check {
            part,
            what,
            outcome,
        };
        eprintln!("{check}");
        self.0.push(check);
    }

    /// Fails if a check failed. The error lists them again, because a log may be kept only in part,
    /// and its last lines are kept.
    pub fn result(&self) -> Result<()> {
        let failed = |check: &&Check| matches!(check.outcome, Outcome::Failed(_));
        let failed: Vec<_> = self.0.iter().filter(failed).map(Check::to_string).collect();
        let count = failed.len();
        ensure!(count == 0, "{count} checks failed:\n{}", failed.join("\n"));
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| component | check | outcome |\n|---|---|---|")?;
        for check in &self.0 {
            writeln!(f, "{check}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            what,
            outcome,
        } = self;
        match outcome {
            Outcome::Passed(found) => write!(f, "| {part} | {what} | ✓ {found} |"),
            Outcome::Failed(reason) => write!(f, "| {part} | {what} | ✗ {reason:#} |"),
            Outcome::NotRun(reason) => write!(f, "| {part} | {what} | not run: {reason} |"),
        }
    }
}
