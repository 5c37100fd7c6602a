//! The API is ready if the database responds. It does not need Kafka, because the outbox stores the
//! messages.

use service_common::health::Readiness;
use telemetry_common::db::Database;

pub(crate) struct Ready {
    pub(crate) db: Database,
}

impl Readiness for Ready {
    async fn ready(&self) -> Result<(), String> {
        match sqlx::raw_sql("select 1").execute(self.db.untraced()).await {
            Ok(_) => Ok(()),
            Err(_) => Err("the database does not respond".to_owned()),
        }
    }
}
