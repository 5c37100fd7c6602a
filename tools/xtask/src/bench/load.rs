//! The load generator of the benchmark. It has two modes: a closed loop, in which each connection
//! sends the next request after a response, and a paced load with a fixed request rate.
//!
//! The benchmark needs a fixed number of requests between two readings of a process's CPU time. No
//! published load generator fits: rewrk-core measures for a fixed time, goose takes over the
//! command line, and rlt takes over the terminal.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use reqwest::Client;
use serde_json::json;
use testbed::{postgres::Postgres, system::http};
use tokio::time::{MissedTickBehavior, interval};

use super::{program::Program, setting::FULL};

/// The request rate of the paced load, in requests per second.
const PACE: usize = 1000;
/// The number of connections of the paced load.
const CONNECTIONS: usize = 50;

/// A request of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Get,
    List,
    Add,
}

impl Call {
    pub(super) const ALL: [Self; 3] = [Self::Get, Self::List, Self::Add];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET /books/1",
            Self::List => "GET /books?limit=100",
            Self::Add => "POST /books/add",
        }
    }

    /// Returns how many of these requests take about as long as `requests` of the cheapest ones.
    pub(super) fn share(self, requests: usize) -> usize {
        match self {
            Self::Get => requests,
            Self::List | Self::Add => requests / 4,
        }
    }

    /// Returns how many processes of a program handle the request. Both services handle a list
    /// request.
    pub(super) fn processes(self) -> usize {
        match self {
            Self::Get | Self::Add => 1,
            Self::List => 2,
        }
    }

    async fn send(self, client: &Client, url: &str) -> Result<()> {
        let request = match self {
            Self::Get => client.get(format!("{url}/books/1")),
            Self::List => client.get(format!("{url}/books?limit=100")),
            Self::Add => client
                .post(format!("{url}/books/add"))
                .json(&json!({"title": "The Price of Light", "author": "A. Meter"})),
        };
        let response = request.send().await?.error_for_status()?;
        let body = response.bytes().await?;
        ensure!(!body.is_empty(), "the response body is empty");
        Ok(())
    }
}

/// Sends `requests`, each connection the next one after the response to the last one. Returns the
/// total duration.
pub(super) async fn closed_loop(
    client: &Client,
    url: &str,
    call: Call,
    requests: usize,
    connections: usize,
) -> Result<Duration> {
    let started = Instant::now();
    let users = (0..connections).map(async |_| {
        for _ in 0..requests / connections {
            call.send(client, url).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(users).await?;
    Ok(started.elapsed())
}

/// The result of the paced load.
#[derive(Debug)]
pub(super) struct Paced {
    pub(super) requests: usize,
    pub(super) rate: f64,
    pub(super) slowest: Duration,
    /// The number of spans and log records that the exporter queues dropped.
    pub(super) dropped: f64,
}

/// Sends [`PACE`] requests per second: of ten requests, eight read a book, one lists books and one
/// adds a book. A missed tick is made up later, so that slow responses do not lower the rate.
pub(super) async fn paced(
    seconds: usize,
    binaries: &HashMap<String, PathBuf>,
    postgres: &Postgres,
) -> Result<Paced> {
    let mut program = Program::services(FULL, binaries, postgres).await?;
    let (url, client) = (program.url().to_owned(), http()?);
    let each = PACE * seconds / CONNECTIONS;
    let started = Instant::now();
    let users = (0..CONNECTIONS).map(async |user| {
        let mut clock =
            interval(Duration::from_secs(1) * u32::try_from(CONNECTIONS)? / u32::try_from(PACE)?);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut slowest = Duration::ZERO;
        for iteration in 0..each {
            let due = clock.tick().await;
            let call = match (user + iteration) % 10 {
                0 => Call::List,
                1 => Call::Add,
                _ => Call::Get,
            };
            call.send(&client, &url)
                .await
                .context("the paced load failed")?;
            slowest = slowest.max(due.elapsed());
        }
        anyhow::Ok(slowest)
    });
    let slowest = try_join_all(users).await?.into_iter().max();
    let requests = each * CONNECTIONS;
    let rate = super::report::per(requests, started.elapsed().as_secs_f64());
    program.stop().await?;
    Ok(Paced {
        requests,
        rate,
        slowest: slowest.unwrap_or_default(),
        dropped: program.dropped(),
    })
}
