//! The worker is ready if the database and the coordinator of the consumer group respond.

use service_common::health::Readiness;
use telemetry_common::db::Database;

use crate::consumer::Liveness;

pub(crate) struct Ready {
    pub(crate) db: Database,
    pub(crate) consumer: Liveness,
}

impl Readiness for Ready {
    fn alive(&self) -> Result<(), String> {
        if self.consumer.is_polling() {
            Ok(())
        } else {
            Err("the consumer loop has stopped polling".to_owned())
        }
    }

    async fn ready(&self) -> Result<(), String> {
        if sqlx::raw_sql("select 1")
            .execute(self.db.untraced())
            .await
            .is_err()
        {
            return Err("the database does not respond".to_owned());
        }
        if !self.consumer.has_joined() {
            return Err("the coordinator of the consumer group does not respond".to_owned());
        }
        Ok(())
    }
}
