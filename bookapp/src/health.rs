//! The API is ready if the database responds and the relay of the outbox turns. It does not need Kafka,
//! because the outbox stores the messages.

use std::time::Duration;

use service_common::health::{DatabaseCheck, Heartbeat, Readiness};

/// The maximum time between two turns of the relay. It is longer than any of its time limits.
const MAX_TURN: Duration = Duration::from_secs(30);

pub(crate) struct Ready {
    pub(crate) database: DatabaseCheck,
    pub(crate) relay: Heartbeat,
}

impl Readiness for Ready {
    fn alive(&self) -> Result<(), String> {
        if self.relay.age() < MAX_TURN * 2 {
            Ok(())
        } else {
            Err("the outbox relay has stopped".to_owned())
        }
    }

    async fn ready(&self) -> Result<(), String> {
        self.database.responds().await?;
        if self.relay.age() < MAX_TURN {
            Ok(())
        } else {
            Err("the outbox relay does not progress".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry_common::db::{Database, Limits};
    use testbed::postgres::Postgres;

    use super::*;

    #[tokio::test]
    async fn a_relay_that_does_not_turn_makes_the_service_unready_and_then_dead() {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        let db = Database::new(url.parse().unwrap(), Limits::default(), "health");
        let ready = Ready {
            database: DatabaseCheck::new(db),
            relay: Heartbeat::new(),
        };
        assert_eq!(ready.ready().await, Ok(()));
        later(MAX_TURN).await;
        let reason = ready.ready().await.unwrap_err();
        assert_eq!(reason, "the outbox relay does not progress");
        assert_eq!(ready.alive(), Ok(()));
        later(MAX_TURN).await;
        ready.alive().unwrap_err();
        ready.relay.beat();
        assert_eq!((ready.alive(), ready.ready().await), (Ok(()), Ok(())));
    }

    async fn later(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }
}
