//! Writes `.sqlx/`, the metadata of the queries, so that a build needs no database.

use anyhow::{Context, Result};
use testbed::postgres::Postgres;
use tokio::runtime::Runtime;

use crate::{cargo, tools};

/// Writes `.sqlx/` with a temporary migrated database, or checks that `.sqlx/` is up to date.
// proves: B21
pub(crate) fn prepare(check: bool) -> Result<()> {
    let runtime = Runtime::new()?;
    let postgres = runtime.block_on(Postgres::start())?;
    let database_url = runtime.block_on(postgres.database())?;
    let mut args = vec!["sqlx", "prepare", "--workspace"];
    if check {
        args.push("--check");
    }
    let env = [
        ("DATABASE_URL", &*database_url),
        ("SQLX_OFFLINE", "false"),
        ("PATH", &tools::path()?),
    ];
    cargo::run(&args, &env).context("if .sqlx/ is stale: `cargo xtask sqlx-prepare`")
}
