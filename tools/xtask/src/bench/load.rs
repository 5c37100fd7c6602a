//! The load: some connections, each sending the next request when the last one is answered.
//!
//! No published generator is used. What is wanted is a fixed number of requests between two looks
//! at a process's clock: rewrk-core measures for a time, goose owns the command line and keeps
//! users, rlt a terminal. This is a loop over a client that is there anyway.

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

/// How many requests a second the paced load sends, and over how many connections.
const PACE: usize = 1000;
const CONNECTIONS: usize = 50;

/// What is asked for.
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

    /// How many of these take about as long as `requests` of the cheapest.
    pub(super) fn share(self, requests: usize) -> usize {
        match self {
            Self::Get => requests,
            Self::List | Self::Add => requests / 4,
        }
    }

    /// How many of a program's processes work for the answer: a list is made by both services.
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
        let answer = request.send().await?.error_for_status()?;
        let body = answer.bytes().await?;
        ensure!(!body.is_empty(), "an empty answer");
        Ok(())
    }
}

/// Sends `requests` as fast as they are answered; answers how long that took.
pub(super) async fn closed(
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

/// What became of the paced load.
#[derive(Debug)]
pub(super) struct Paced {
    pub(super) requests: usize,
    pub(super) rate: f64,
    pub(super) slowest: Duration,
    /// Spans and log records that left a queue unsent.
    pub(super) dropped: f64,
}

/// Sends [`PACE`] requests a second whether they are answered or not: of ten, eight books, one
/// list and one addition.
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
        for turn in 0..each {
            let due = clock.tick().await;
            let call = match (user + turn) % 10 {
                0 => Call::List,
                1 => Call::Add,
                _ => Call::Get,
            };
            call.send(&client, &url)
                .await
                .context("at 1,000 a second")?;
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
