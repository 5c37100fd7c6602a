//! The visits of the start page, which are stored after the response.

use service_common::background::Background;
use sqlx::query;
use telemetry_common::{
    db::{Database, Session},
    exception, record_failure, semconv,
};
use tracing::{info, info_span};

/// Stores a visit in the background. It has a trace of its own, which links to the request.
pub(super) fn store(background: &Background, db: &Database) {
    let span = info_span!(
        parent: None,
        "visits.store",
        subject = "visits.async",
        category = "visits",
        { semconv::HTTP_ROUTE } = "/",
    );
    let db = db.clone();
    background.spawn(span, async move {
        match count(&db).await {
            Ok(()) => info!(name: "bookapp.visit.stored", "visit stored"),
            Err(error) => {
                record_failure("database", &error);
                exception!(
                    warn,
                    "bookapp.visit.lost",
                    &error,
                    "the visit was not stored"
                );
            }
        }
    });
}

async fn count<'c>(db: impl Session<'c>) -> sqlx::Result<()> {
    query!(
        r#"
        with pruned as (delete from visits where day < current_date - 400)
        insert into visits (day, count)
        values (current_date, 1)
        on conflict (day) do update set count = visits.count + 1
        "#
    )
    .execute(db.on("INSERT", "visits"))
    .await?;
    Ok(())
}
