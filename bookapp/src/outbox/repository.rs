//! The table `outbox`.

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

/// The oldest rows that are not sent.
pub(super) async fn unpublished<'c>(db: impl Session<'c>, limit: i64) -> sqlx::Result<Vec<Row>> {
    query_as!(
        Row,
        r#"
        select id, topic, key, payload, headers as "headers: Json<Headers>"
        from outbox
        where published_at is null
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

/// Whether there is anything to send. Asked many times a second: it leaves no trace.
pub(super) async fn any_unpublished(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let any = query_scalar!(
        r#"
        select exists (select from outbox where published_at is null) as "any!"
        "#
    );
    any.fetch_one(connection).await
}

/// Takes the relay's lock for as long as `connection` lives; `false` while another holds it.
pub(super) async fn try_lead(connection: &mut PgConnection, lock: i64) -> sqlx::Result<bool> {
    query_scalar!(r#"select pg_try_advisory_lock($1) as "leads!""#, lock)
        .fetch_one(connection)
        .await
}
