//! Measures the throughput of relay and worker with a backlog.
//!
//! The benchmark adds books while Kafka and the worker are down, then starts one after the other.
//! The database columns `published_at` and `processed_at` contain the times.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use testbed::{
    eventually,
    postgres::{Postgres, execute, query_number},
    process::Signal,
    system::http,
};
use tokio::time::sleep;

use super::{
    Args,
    program::{Program, cpu_time},
    report::{Relayed, per, to_f64},
    setting::{FULL, OFF, Setting},
};

/// The number of books that one request adds.
const BULK: usize = 1000;
/// The maximum time for sending the backlog, and for processing it.
const TIMEOUT: Duration = Duration::from_mins(5);

const UNSENT: &str = "select count(*) from outbox where published_at is null";

/// Returns the statement that inserts old rows: sent messages and ids of processed events.
fn fill(rows: usize) -> String {
    format!(
        "insert into outbox (event_id, topic, key, payload, headers, created_at, published_at)
         select 'old-' || n, 'book.events.v1', n::text, '{{}}', '{{}}', old, old
         from generate_series(1, {rows}) n, (select now() - interval '1 h' as old) t;
         insert into ledger (event_id, processed_at)
         select 'old-' || n, now() - interval '1 h' from generate_series(1, {rows}) n;
         vacuum analyze"
    )
}

/// Queries about the messages of the benchmark, without those of [`fill`].
struct Queries {
    unprocessed: String,
    /// The duration of sending all messages, in microseconds.
    sending: String,
    /// The duration of processing all messages, in microseconds.
    processing: String,
}

impl Queries {
    fn new(old_rows: usize) -> Self {
        let sent = format!("outbox where id > {old_rows}");
        let processed = "ledger where processed_at > now() - interval '30 min'";
        let duration = |column: &str, rows: &str| {
            format!(
                "select (1e6 * extract(epoch from max({column}) - min({column})))::int8 from {rows}"
            )
        };
        Self {
            unprocessed: format!(
                "select (select count(*) from {sent}) - (select count(*) from {processed})"
            ),
            sending: duration("published_at", &sent),
            processing: duration("processed_at", processed),
        }
    }
}

/// Measures the throughput without telemetry and with full telemetry.
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
    for statement in fill(args.rows).split(';') {
        execute(&url, statement).await?;
    }
    let queries = Queries::new(args.rows);
    program.backend().process.signal(Signal::SIGTERM);
    let timeout = Duration::from_secs(15);
    program.backend().process.wait(timeout).await?;
    program.kafka()?.stop_broker(1)?;
    add(program.url(), messages).await?;
    sleep(Duration::from_secs(1)).await;

    let is_zero = async |count: &str| (query_number(&url, count).await.ok()? == 0).then_some(());
    let time = cpu_time(program.bookapp())?;
    program.kafka()?.restart_broker(1)?;
    eventually(TIMEOUT, "all messages are sent", || is_zero(UNSENT)).await?;
    sleep(Duration::from_secs(2)).await;
    let relay_time = cpu_time(program.bookapp())? - time;

    program.backend().restart().await?;
    let mut others = Vec::new();
    for _ in 1..args.workers {
        others.push(program.backend().start_another().await?);
    }
    eventually(TIMEOUT, "all messages are processed", || {
        is_zero(&queries.unprocessed)
    })
    .await?;
    sleep(Duration::from_secs(2)).await;
    let mut worker_time = cpu_time(program.backend())?;
    for other in &others {
        worker_time += cpu_time(other)?;
    }

    let rate = async |duration: &str| {
        let microseconds = to_f64(query_number(&url, duration).await?);
        anyhow::Ok(per(messages, microseconds / 1e6))
    };
    let (relay_rate, worker_rate) = (
        rate(&queries.sending).await?,
        rate(&queries.processing).await?,
    );
    program.stop().await?;
    Ok(Relayed {
        setting: setting.name,
        relay_rate,
        relay_time: relay_time * 1e6 / to_f64(messages),
        worker_rate,
        worker_time: worker_time * 1e6 / to_f64(messages),
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
