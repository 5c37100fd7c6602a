//! How many messages a second relay and worker manage, when many wait.
//!
//! Books are added while Kafka is away and the worker is down; then one after the other comes
//! back. How long each took, the database's own clock tells: `published_at`, `processed_at`.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use testbed::{
    eventually,
    postgres::{Postgres, number},
    process::Signal,
    system::http,
};
use tokio::time::sleep;

use super::{
    Args,
    program::{Program, processor_time},
    report::{Relayed, per, real},
    setting::{FULL, OFF, Setting},
};

/// How many books one call adds.
const BULK: usize = 1000;
/// How long each half may take.
const PATIENCE: Duration = Duration::from_mins(5);

const UNSENT: &str = "select count(*) from outbox where published_at is null";
const UNPROCESSED: &str = "select (select count(*) from outbox) - (select count(*) from ledger)";
const SENDING: &str =
    "select (1e6 * extract(epoch from max(published_at) - min(published_at)))::int8
    from outbox";
const PROCESSING: &str =
    "select (1e6 * extract(epoch from max(processed_at) - min(processed_at)))::int8
    from ledger";

/// Measures it without telemetry and with all of it.
pub(super) async fn measure(
    args: &Args,
    binaries: &HashMap<String, PathBuf>,
    postgres: &Postgres,
) -> Result<Vec<Relayed>> {
    let mut relayed = Vec::new();
    for setting in [OFF, FULL] {
        relayed.push(relay(setting, args, binaries, postgres).await?);
    }
    Ok(relayed)
}

async fn relay(
    setting: &Setting,
    args: &Args,
    binaries: &HashMap<String, PathBuf>,
    postgres: &Postgres,
) -> Result<Relayed> {
    let mut program = Program::services(setting, binaries, postgres).await?;
    let messages = args.messages / BULK * BULK;
    let url = program.database_url().to_owned();
    program.backend().process.signal(Signal::SIGTERM);
    let left = Duration::from_secs(15);
    program.backend().process.exited(left).await?;
    program.kafka()?.take_away()?;
    add(program.url(), messages).await?;
    sleep(Duration::from_secs(1)).await;

    let none = async |count: &str| (number(&url, count).await.ok()? == 0).then_some(());
    let time = processor_time(program.bookapp())?;
    program.kafka()?.bring_back()?;
    eventually(PATIENCE, "all is sent", || none(UNSENT)).await?;
    sleep(Duration::from_secs(2)).await;
    let relay_time = processor_time(program.bookapp())? - time;

    program.backend().start_again().await?;
    let mut others = Vec::new();
    for _ in 1..args.workers {
        others.push(program.backend().another().await?);
    }
    eventually(PATIENCE, "all is processed", || none(UNPROCESSED)).await?;
    sleep(Duration::from_secs(2)).await;
    let mut worker_time = processor_time(program.backend())?;
    for other in &others {
        worker_time += processor_time(other)?;
    }

    let rate = async |took| anyhow::Ok(per(messages, real(number(&url, took).await?) / 1e6));
    let (relay_rate, worker_rate) = (rate(SENDING).await?, rate(PROCESSING).await?);
    program.stop().await?;
    Ok(Relayed {
        setting: setting.name,
        relay_rate,
        relay_time: relay_time * 1e6 / real(messages),
        worker_rate,
        worker_time: worker_time * 1e6 / real(messages),
        dropped: program.dropped(),
    })
}

async fn add(url: &str, messages: usize) -> Result<()> {
    let client = http()?;
    for call in 0..messages / BULK {
        let books = (0..BULK)
            .map(|book| json!({"title": format!("Bulk {call}.{book}"), "author": "A. Meter"}));
        let request = client.post(format!("{url}/books/bulk_add"));
        let books: Vec<Value> = books.collect();
        request.json(&books).send().await?.error_for_status()?;
    }
    Ok(())
}
