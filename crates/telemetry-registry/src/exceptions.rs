//! What the judge does not require, each with a reason: `exceptions.txt`.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// The exceptions: pairs of a kind and a name.
#[derive(Debug)]
pub(crate) struct Exceptions(Vec<(String, String)>);

impl Exceptions {
    /// Reads the file of this checkout.
    pub(crate) fn of_checkout() -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("exceptions.txt");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let exception = |line: &str| {
            let (what, reason) = line.split_once(": ")?;
            let (kind, name) = what.split_once(' ')?;
            (!reason.is_empty()).then(|| (kind.to_owned(), name.to_owned()))
        };
        let lines = lines.filter(|line| !line.is_empty());
        let exceptions = lines.map(|line| {
            exception(line).with_context(|| format!("{line:?} is not `KIND NAME: REASON`"))
        });
        Ok(Self(exceptions.collect::<Result<_>>()?))
    }

    pub(crate) fn allows(&self, kind: &str, name: &str) -> bool {
        let mut exceptions = self.0.iter();
        exceptions.any(|(of_kind, of_name)| of_kind == kind && of_name == name)
    }
}
