//! The stack as `docker compose up` starts it, from a fresh clone on a machine with Docker.

use std::path::Path;

use anyhow::Result;

use super::{
    Stack,
    part::{Part, compose},
};

impl Stack {
    /// Brings it up and waits until every health check is green. It stays up afterwards.
    ///
    /// The checks count from an empty database: `docker compose down --volumes` comes first.
    /// `is_tempo` is false where the image behind Tempo's name is the testbed's stand-in.
    pub async fn compose(root: &Path, locust: &Path, is_tempo: bool) -> Result<Self> {
        compose(&["--profile", "*", "down", "--volumes"], &[]).await?;
        let up = [
            "--profile",
            "containers",
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
            traces: Part::compose("tempo"),
            prometheus: Part::compose("prometheus"),
            loki: Part::compose("loki"),
            collector: Part::compose("otel-collector"),
            received: None,
            locust: locust.to_owned(),
            root: root.to_owned(),
            _processes: None,
        })
    }
}
