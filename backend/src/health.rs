//! The worker is ready if the database and the coordinator of the consumer group respond.

use service_common::health::{DatabaseCheck, Readiness};

use crate::consumer::Liveness;

pub(crate) struct Ready {
    pub(crate) database: DatabaseCheck,
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
        self.database.responds().await?;
        if self.consumer.has_joined() {
            Ok(())
        } else {
            Err("the coordinator of the consumer group does not respond".to_owned())
        }
    }
}
