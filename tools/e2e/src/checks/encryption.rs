//! Checks that the services encrypt their connections to PostgreSQL.

use anyhow::{Result, ensure};
use testbed::postgres::query_number;

use crate::{Stack, table::Table};

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let what = "the services' connections are encrypted";
    if stack.is_compose() {
        table.not_run("PostgreSQL", what, "its image has no certificate");
    } else {
        table.check("PostgreSQL", what, encrypted(stack).await);
    }
}

async fn encrypted(stack: &Stack) -> Result<String> {
    let count = async |condition: &str| {
        let query = format!(
            "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
            where datname = current_database() and application_name ~ '^(bookapp|backend)' and {condition}"
        );
        query_number(&stack.database_url, &query).await
    };
    let (encrypted, plain) = (count("ssl").await?, count("not ssl").await?);
    ensure!(
        encrypted > 0 && plain == 0,
        "{encrypted} encrypted, {plain} not"
    );
    Ok(format!("{encrypted} connections"))
}
