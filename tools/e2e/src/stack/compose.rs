//! The stack in containers, as `docker compose up` starts it.

use std::path::Path;

use anyhow::Result;

use super::{
    Stack,
    part::{Part, compose},
};

impl Stack {
    /// Starts the stack and waits until every health check succeeds. The stack keeps running on
    /// drop.
    ///
    /// Runs `docker compose down --volumes` first, because the checks need an empty database.
    /// `is_tempo` is false if the image with Tempo's name contains the testbed's replacement.
    // proves: B19 T17
    pub async fn compose(root: &Path, locust: &Path, is_tempo: bool) -> Result<Self> {
        compose(&["--profile", "*", "down", "--volumes"], &[]).await?;
        let up = [
            "--profile",
            "containers",
            "--profile",
            "uservices",
            "up",
            "--detach",
            "--wait",
            "--build",
        ];
        compose(&up, &[]).await?;
        Ok(Self {
            bookapp: "http://127.0.0.1:8000".to_owned(),
            backend: "http://127.0.0.1:8001".to_owned(),
            database_url: "postgres://bookapp:bookapp@127.0.0.1:5432/books".to_owned(),
            traces_url: "http://127.0.0.1:3200".to_owned(),
            is_tempo,
            trace_store: Part::compose("tempo"),
            prometheus: Part::compose("prometheus"),
            loki: Part::compose("loki"),
            collector: Part::compose("otel-collector"),
            received: None,
            locust: locust.to_owned(),
            root: root.to_owned(),
            processes: None,
        })
    }
}
