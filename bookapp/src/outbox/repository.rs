//! The table `outbox`.

use std::time::Duration;

use serde_json::Value;
use sqlx::{PgConnection, query, query_as, query_scalar, types::Json};
use telemetry_common::{db::Session, kafka::Headers};

/// A row to be written.
pub(super) struct NewRow {
    pub(super) event_id: String,
    pub(super) topic: &'static str,
    pub(super) key: String,
    pub(super) payload: Value,
    pub(super) headers: Headers,
}

/// A row to be sent.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) event_id: String,
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) payload: Value,
    pub(super) headers: Json<Headers>,
}

/// Writes rows, in their order.
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

/// The oldest rows that wait to be sent.
pub(super) async fn waiting<'c>(db: impl Session<'c>, limit: i64) -> sqlx::Result<Vec<Row>> {
    query_as!(
        Row,
        r#"
        select id, event_id, topic, key, payload, headers as "headers: Json<Headers>"
        from outbox
        where published_at is null and set_aside_at is null
        order by id
        limit $1
        "#,
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

/// Sets a row aside that can never be sent, with the reason.
pub(super) async fn set_aside<'c>(db: impl Session<'c>, id: i64, reason: &str) -> sqlx::Result<()> {
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

/// How much waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) rows: i64,
    /// For how long the oldest row has waited, in seconds.
    pub(super) age: f64,
}

/// How much waits to be sent, counted up to ten thousand. Asked many times a second: it leaves no
/// trace, and costs the same however much waits.
pub(super) async fn backlog(connection: &mut PgConnection) -> sqlx::Result<Backlog> {
    let backlog = query_as!(
        Backlog,
        r#"
        with waiting as (
            select created_at
            from outbox
            where published_at is null and set_aside_at is null
            order by id
            limit 10000
        )
        select count(*) as "rows!",
               coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "age!"
        from waiting
        "#
    );
    backlog.fetch_one(connection).await
}

/// Removes rows that were sent more than `retention` ago, ten thousand at most; answers how many.
pub(super) async fn remove_published(
    connection: &mut PgConnection,
    retention: Duration,
) -> sqlx::Result<u64> {
    let removed = query!(
        "
        delete from outbox
        where id in (
            select id
            from outbox
            where published_at < now() - make_interval(secs => $1)
            limit 10000
        )
        ",
        retention.as_secs_f64()
    );
    Ok(removed.execute(connection).await?.rows_affected())
}

/// Takes the relay's lock for as long as `connection` lives; `false` while another holds it.
pub(super) async fn try_lead(connection: &mut PgConnection, lock: i64) -> sqlx::Result<bool> {
    query_scalar!(r#"select pg_try_advisory_lock($1) as "leads!""#, lock)
        .fetch_one(connection)
        .await
}
