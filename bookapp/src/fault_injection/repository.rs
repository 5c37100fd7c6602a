//! The table `fault_rules`.

use jiff_sqlx::{Timestamp, ToSqlx};
use service_common::fault_injection::FaultKind;
use sqlx::query;
use telemetry_common::db::Session;

use super::{Fault, FaultRule};

macro_rules! rule {
    ($row:expr) => {{
        let row = $row;
        FaultRule {
            id: row.id,
            fault: Fault {
                endpoint_pattern: row.endpoint_pattern,
                http_method: row.http_method,
                error_rate: row.error_rate,
                error_code: row.error_code,
                error_message: row.error_message,
                kind: row.kind,
                latency_ms: row.latency_ms,
                ends_at: row.ends_at.map(Timestamp::to_jiff),
                service: row.service,
            },
        }
    }};
}

/// Returns all rules, in the order of their ids.
pub(super) async fn all<'c>(db: impl Session<'c>) -> sqlx::Result<Vec<FaultRule>> {
    let rows = query!(
        r#"
        select id, service, endpoint_pattern, http_method, kind as "kind: FaultKind", error_rate,
            error_code, error_message, latency_ms, ends_at as "ends_at: Timestamp"
        from fault_rules
        order by id
        "#
    )
    .fetch_all(db.on("SELECT", "fault_rules"))
    .await?;
    Ok(rows.into_iter().map(|row| rule!(row)).collect())
}

/// The maximum number of rules. Each request compares them with its route.
pub(super) const MAX_RULES: i64 = 100;

/// Inserts a rule. Returns the stored rule, or `None` if there are already [`MAX_RULES`].
pub(super) async fn insert<'c>(
    db: impl Session<'c>,
    fault: &Fault,
) -> sqlx::Result<Option<FaultRule>> {
    let row = query!(
        r#"
        insert into fault_rules (service, endpoint_pattern, http_method, kind, error_rate,
            error_code, error_message, latency_ms, ends_at)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9
        where (select count(*) from fault_rules) < $10
        returning id, service, endpoint_pattern, http_method, kind as "kind: FaultKind", error_rate,
            error_code, error_message, latency_ms, ends_at as "ends_at: Timestamp"
        "#,
        fault.service,
        fault.endpoint_pattern,
        fault.http_method,
        fault.kind as FaultKind,
        fault.error_rate,
        fault.error_code,
        fault.error_message,
        fault.latency_ms,
        fault.ends_at.map(ToSqlx::to_sqlx) as Option<Timestamp>,
        MAX_RULES
    )
    .fetch_optional(db.on("INSERT", "fault_rules"))
    .await?;
    Ok(row.map(|row| rule!(row)))
}

/// Updates a rule. Returns the stored rule, or `None` if the rule does not exist.
pub(super) async fn update<'c>(
    db: impl Session<'c>,
    id: i32,
    fault: &Fault,
) -> sqlx::Result<Option<FaultRule>> {
    let row = query!(
        r#"
        update fault_rules
        set service = $2, endpoint_pattern = $3, http_method = $4, kind = $5, error_rate = $6,
            error_code = $7, error_message = $8, latency_ms = $9, ends_at = $10
        where id = $1
        returning id, service, endpoint_pattern, http_method, kind as "kind: FaultKind", error_rate,
            error_code, error_message, latency_ms, ends_at as "ends_at: Timestamp"
        "#,
        id,
        fault.service,
        fault.endpoint_pattern,
        fault.http_method,
        fault.kind as FaultKind,
        fault.error_rate,
        fault.error_code,
        fault.error_message,
        fault.latency_ms,
        fault.ends_at.map(ToSqlx::to_sqlx) as Option<Timestamp>
    )
    .fetch_optional(db.on("UPDATE", "fault_rules"))
    .await?;
    Ok(row.map(|row| rule!(row)))
}

/// Deletes a rule. Returns the number of deleted rules.
pub(super) async fn delete<'c>(db: impl Session<'c>, id: i32) -> sqlx::Result<u64> {
    let removed = query!("delete from fault_rules where id = $1", id)
        .execute(db.on("DELETE", "fault_rules"))
        .await?;
    Ok(removed.rows_affected())
}

/// Deletes all rules. Returns the number of deleted rules.
pub(super) async fn clear<'c>(db: impl Session<'c>) -> sqlx::Result<u64> {
    let removed = query!("delete from fault_rules")
        .execute(db.on("DELETE", "fault_rules"))
        .await?;
    Ok(removed.rows_affected())
}
