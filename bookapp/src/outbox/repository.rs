//! The table `outbox`.

use std::time::Duration;

use serde_json::Value;
use service_common::pruning::PRUNE_LIMIT;
use sqlx::{PgConnection, query, query_as, query_scalar, types::Json};
use telemetry_common::{
    db::{Database, Session},
    kafka::Headers,
};

/// A row to insert.
pub(super) struct NewRow {
    pub(super) event_id: String,
    pub(super) topic: &'static str,
    pub(super) key: String,
    pub(super) payload: Value,
    pub(super) headers: Headers,
}

/// A row to send.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) event_id: String,
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) payload: Value,
    pub(super) headers: Json<Headers>,
}

/// Inserts rows in the given order.
pub(super) async fn insert<'c>(db: impl Session<'c>, rows: &[NewRow]) -> sqlx::Result<()> {
    let event_ids: Vec<_> = rows.iter().map(|row| row.event_id.clone()).collect();
    let topics: Vec<_> = rows.iter().map(|row| row.topic.to_owned()).collect();
    let keys: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
    let payloads: Vec<_> = rows.iter().map(|row| row.payload.clone()).collect();
    let headers: Vec<_> = rows.iter().map(|row| Json(row.headers.clone())).collect();
    query!(
        "
        insert into outbox (event_id, topic, key, payload, headers)
        select event_id, topic, key, payload, headers
        from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[])
            with ordinality as row (event_id, topic, key, payload, headers, position)
        order by position
        ",
        &event_ids,
        &topics,
        &keys,
        &payloads,
        &headers as &[Json<Headers>]
    )
    .execute(db.on("INSERT", "outbox"))
    .await?;
    Ok(())
}

/// Returns whether a row is pending whose key is not in `held_keys`. It runs several times per second,
/// so it creates no span.
pub(super) async fn is_pending(
    connection: &mut PgConnection,
    held_keys: &[String],
) -> sqlx::Result<bool> {
    let is_pending = query_scalar!(
        r#"
        select exists(
            select
            from outbox
            where published_at is null and set_aside_at is null and key <> all($1)
        ) as "is_pending!"
        "#,
        held_keys
    );
    is_pending.fetch_one(connection).await
}

/// Returns the oldest pending rows whose keys are not in `held_keys`.
pub(super) async fn pending<'c>(
    db: impl Session<'c>,
    held_keys: &[String],
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    query_as!(
        Row,
        r#"
        select id, event_id, topic, key, payload, headers as "headers: Json<Headers>"
        from outbox
        where published_at is null and set_aside_at is null and key <> all($1)
        order by id
        limit $2
        "#,
        held_keys,
        limit
    )
    .fetch_all(db.on("SELECT", "outbox"))
    .await
}

/// Marks rows as sent.
pub(super) async fn mark_published<'c>(db: impl Session<'c>, ids: &[i64]) -> sqlx::Result<()> {
    query!(
        "
        update outbox
        set published_at = now()
        where id = any($1)
        ",
        ids
    )
    .execute(db.on("UPDATE", "outbox"))
    .await?;
    Ok(())
}

/// Quarantines a row that can never be sent, with the reason.
pub(super) async fn quarantine<'c>(
    db: impl Session<'c>,
    id: i64,
    reason: &str,
) -> sqlx::Result<()> {
    query!(
        "
        update outbox
        set set_aside_at = now(), set_aside_reason = $2
        where id = $1
        ",
        id,
        reason
    )
    .execute(db.on("UPDATE", "outbox"))
    .await?;
    Ok(())
}

/// The backlog of the outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    /// The number of pending rows.
    pub(super) rows: i64,
    /// The age of the oldest pending row, in seconds.
    pub(super) age: f64,
}

/// Measures the backlog. It creates no span, because it runs once per second.
pub(super) async fn backlog(connection: &mut PgConnection) -> sqlx::Result<Backlog> {
    let backlog = query_as!(
        Backlog,
        r#"
        select
            (
                select count(*)
                from outbox
                where published_at is null and set_aside_at is null
            ) as "rows!",
            coalesce(
                (
                    select extract(epoch from now() - created_at)
                    from outbox
                    where published_at is null and set_aside_at is null
                    order by id
                    limit 1
                ),
                0
            )::float8 as "age!"
        "#
    );
    backlog.fetch_one(connection).await
}

/// Deletes rows that were sent more than `retention` ago, at most [`PRUNE_LIMIT`] and none that another
/// instance is deleting. Returns the number of deleted rows.
pub(super) async fn prune_sent(db: &Database, retention: Duration) -> sqlx::Result<u64> {
    let pruned = query!(
        "
        delete from outbox
        where ctid = any(array(
            select ctid
            from outbox
            where published_at < now() - make_interval(secs => $1)
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

/// Tries to acquire the advisory lock of the relay until `connection` ends. Returns `false` while
/// another instance holds it.
pub(super) async fn try_lock(connection: &mut PgConnection, lock: i64) -> sqlx::Result<bool> {
    query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, lock)
        .fetch_one(connection)
        .await
}

/// Releases the advisory lock of the relay.
pub(super) async fn unlock(connection: &mut PgConnection, lock: i64) -> sqlx::Result<()> {
    query_scalar!("select pg_advisory_unlock($1)", lock)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// Returns whether the last leader has settled.
pub(super) async fn has_settled(connection: &mut PgConnection) -> sqlx::Result<bool> {
    query_scalar!("select has_settled from outbox_leadership")
        .fetch_one(connection)
        .await
}

/// Stores whether the leader has settled.
pub(super) async fn set_settled(
    connection: &mut PgConnection,
    has_settled: bool,
) -> sqlx::Result<()> {
    query!("update outbox_leadership set has_settled = $1", has_settled)
        .execute(connection)
        .await?;
    Ok(())
}
