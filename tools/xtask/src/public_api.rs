//! Writes the public API of telemetry-common to `telemetry-common/public-api.txt`, so that each
//! change of it is visible in a diff.
//!
//! cargo-semver-checks compares with a published version, and there is none. rustdoc's JSON output
//! is unstable; `RUSTC_BOOTSTRAP` enables it, and `rust-toolchain.toml` pins its format.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use anyhow::Result;

use crate::{cargo, generated};

const PAGE: &str = "telemetry-common/public-api.txt";

/// Writes the file.
pub(crate) fn write() -> Result<()> {
    Ok(fs::write(PAGE, items()?)?)
}

/// Fails if the file is stale.
pub(crate) fn check() -> Result<()> {
    generated::check(PAGE, &items()?, "public-api")
}

/// Returns one line for each public item.
fn items() -> Result<String> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let target = target.join("public-api");
    let directory = format!("--target-dir={}", target.display());
    let rustdoc = ["rustdoc", "--quiet", "--package", "telemetry-common"];
    let options = ["--all-features", "--lib", &directory, "--"];
    let json = [
        "-Z",
        "unstable-options",
        "--output-format",
        "json",
        "--cap-lints",
        "allow",
    ];
    cargo::run(
        &[&rustdoc[..], &options[..], &json[..]].concat(),
        &[("RUSTC_BOOTSTRAP", "1")],
    )?;
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/telemetry_common.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    let mut items = String::new();
    for item in api.items() {
        writeln!(items, "{item}")?;
    }
    Ok(items)
}
