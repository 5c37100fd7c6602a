//! The state that the handlers share.

use std::sync::Arc;

use anyhow::{Context, Result};
use service_common::background::Background;
use telemetry_common::db::Database;

use crate::{config::Config, metrics::Metrics, outbox::RelayNotifier};

/// The state that the handlers share. axum clones it several times for a request.
pub(crate) type AppState = Arc<Shared>;

/// The database, the clients and the instruments.
pub(crate) struct Shared {
    pub(crate) db: Database,
    pub(crate) outbox: RelayNotifier,
    pub(crate) backend: backend_client::Client,
    pub(crate) metrics: Metrics,
    pub(crate) background: Background,
}

impl Shared {
    pub(crate) fn new(config: &Config, db: Database) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(config.backend_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("could not build the HTTP client")?;
        let base_url = config.backend_url.as_str().trim_end_matches('/');
        Ok(Self {
            db,
            outbox: RelayNotifier::default(),
            backend: backend_client::new(base_url, http),
            metrics: Metrics::new(),
            background: Background::new(),
        })
    }
}
