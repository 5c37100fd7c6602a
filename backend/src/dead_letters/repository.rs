//! The table `handled_dead_letters`: the dead letters that were replayed or discarded. It remembers each
//! one by its id, so it does not matter how long the offsets of a consumer group are kept.

use std::{collections::HashMap, time::Duration};

use service_common::pruning::PRUNE_LIMIT;
use sqlx::query;
use telemetry_common::db::{Database, Session};

/// What was done with a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type, serde::Serialize)]
#[sqlx(type_name = "dead_letter_outcome", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Replayed,
    Discarded,
}

/// Returns what was done with those of these dead letters that were handled, by their ids.
pub(super) async fn outcomes(
    db: &Database,
    ids: &[String],
) -> sqlx::Result<HashMap<String, Outcome>> {
    let handled = query!(
        r#"
        select id, outcome as "outcome: Outcome"
        from handled_dead_letters
        where id = any($1)
        "#,
        ids
    );
    let handled = handled
        .fetch_all(db.on("SELECT", "handled_dead_letters"))
        .await?;
    let outcomes = handled.into_iter().map(|row| (row.id, row.outcome));
    Ok(outcomes.collect())
}

/// Stores what was done with a dead letter.
pub(super) async fn handle(db: &Database, id: &str, outcome: Outcome) -> sqlx::Result<()> {
    query!(
        "
        insert into handled_dead_letters (id, outcome)
        values ($1, $2)
        on conflict (id) do nothing
        ",
        id,
        outcome as Outcome
    )
    .execute(db.on("INSERT", "handled_dead_letters"))
    .await?;
    Ok(())
}

/// Deletes the rows that are older than `retention`, at most [`PRUNE_LIMIT`] and none that another
/// instance is deleting. Returns the number of deleted rows.
pub(super) async fn prune(db: &Database, retention: Duration) -> sqlx::Result<u64> {
    let pruned = query!(
        "
        delete from handled_dead_letters
        where ctid = any(array(
            select ctid
            from handled_dead_letters
            where handled_at < now() - make_interval(secs => $1)
            limit $2
            for update skip locked
        ))
        ",
        retention.as_secs_f64(),
        PRUNE_LIMIT.cast_signed()
    );
    let mut connection = db.untraced().await?;
    Ok(pruned.execute(&mut *connection).await?.rows_affected())
}
