//! The worker can work when the database and the group's coordinator answer.

use service_common::health::Readiness;
use telemetry_common::db::Database;

use crate::consumer::Liveness;

pub(crate) struct Ready {
    pub(crate) db: Database,
    pub(crate) consumer: Liveness,
}

impl Readiness for Ready {
    fn alive(&self) -> Result<(), String> {
        if self.consumer.is_turning() {
            Ok(())
        } else {
            Err("the consumer's loop has stopped turning".to_owned())
        }
    }

    async fn ready(&self) -> Result<(), String> {
        if sqlx::raw_sql("select 1")
            .execute(self.db.untraced())
            .await
            .is_err()
        {
            return Err("the database does not answer".to_owned());
        }
        if !self.consumer.has_joined() {
            return Err("the consumer group's coordinator does not answer".to_owned());
        }
        Ok(())
    }
}
