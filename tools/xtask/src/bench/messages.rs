//! Measures the throughput of relay and worker with a backlog, and the latency of a single book.
//!
//! For the throughput, the benchmark adds books while Kafka and the worker are down, then starts one after the other.
//! The database columns `published_at` and `processed_at` contain the times.

use std::{
    collections::HashMap,
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    broker::Broker,
    eventually,
    number::to_f64,
    postgres::{Postgres, execute, query_number},
    process::Signal,
    system::{Dependencies, http},
};
use tokio::time::sleep;

use crate::step;

use super::{
    Args,
    program::{Program, cpu_time},
    report::{Latency, Relayed, per},
    setting::{FULL, OFF, Setting},
};

/// The number of books that one request adds.
const BULK: usize = 1000;
/// The number of books that are added one after the other, to measure the latency.
const SINGLE_BOOKS: usize = 200;
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

/// One line of the table.
struct Case {
    build: &'static str,
    setting: &'static Setting,
    /// The maximum number of messages that the worker processes together.
    max_batch: &'static str,
    binaries: HashMap<String, PathBuf>,
}

/// Measures the throughput without telemetry and with full telemetry, and with smaller batches.
pub(super) async fn measure(
    args: &Args,
    binaries: &HashMap<String, PathBuf>,
    postgres: &Postgres,
) -> Result<Vec<Relayed>> {
    let case = |setting, max_batch| Case {
        build: "this",
        setting,
        max_batch,
        binaries: binaries.clone(),
    };
    let mut cases = vec![case(OFF, "512")];
    cases.extend(["512", "100", "10", "1"].map(|max_batch| case(FULL, max_batch)));
    if let Some(folder) = &args.beside {
        cases.extend([OFF, FULL].map(|setting| Case {
            build: "other",
            binaries: Program::binaries_in(folder),
            ..case(setting, "512")
        }));
    }
    let mut relayed = Vec::new();
    for case in cases {
        step(&format!(
            "{}, batches of {}, {} build",
            case.setting.name, case.max_batch, case.build
        ));
        relayed.push(relay(&case, args, postgres).await?);
    }
    Ok(relayed)
}

async fn relay(case: &Case, args: &Args, postgres: &Postgres) -> Result<Relayed> {
    let batch = [("KAFKA_MAX_BATCH", case.max_batch)];
    let dependencies = Dependencies::with_postgres(postgres).await?;
    let mut program = Program::start(case.setting, &batch, &case.binaries, dependencies).await?;
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
        build: case.build,
        setting: case.setting.name,
        max_batch: case.max_batch,
        relay_rate,
        relay_time: relay_time * 1e6 / to_f64(messages),
        worker_rate,
        worker_time: worker_time * 1e6 / to_f64(messages),
        dropped: program.dropped(),
    })
}

/// Measures the time from the request until one book has details, in an idle system with a real Kafka: the
/// mock cluster answers a worker that waits for messages only after half a second.
pub(super) async fn latency(
    args: &Args,
    binaries: &HashMap<String, PathBuf>,
    postgres: &Postgres,
) -> Result<Vec<Latency>> {
    let data = TempDir::new()?;
    let (root, files) = (env::current_dir()?, data.path().join("kafka"));
    let kafka = Broker::start(&root, &args.programs.kafka_jars()?, &files).await?;
    let mut builds = vec![("this", binaries.clone())];
    builds.extend(
        args.beside
            .iter()
            .map(|folder| ("other", Program::binaries_in(folder))),
    );
    let mut latency = Vec::new();
    for (build, binaries) in builds {
        step(&format!("latency of one book, {build} build"));
        let kafka = kafka.address.clone();
        let dependencies = Dependencies::with_kafka(postgres, kafka).await?;
        let mut program = Program::start(FULL, &[], &binaries, dependencies).await?;
        single_books(&program).await?; // warms up Kafka
        let times = single_books(&program).await?;
        program.stop().await?;
        latency.push(Latency { build, times });
    }
    Ok(latency)
}

/// Adds books one after the other. Returns the times from the request until the book has details, sorted.
async fn single_books(program: &Program) -> Result<Vec<Duration>> {
    let (client, url) = (http()?, program.url());
    let mut times = Vec::new();
    for _ in 0..SINGLE_BOOKS {
        let book = json!({"title": "Latency", "author": "A. Meter"});
        let started = Instant::now();
        let added = client.post(format!("{url}/books/add")).json(&book);
        let id: i64 = added.send().await?.error_for_status()?.json().await?;
        let details = format!("{url}/books/{id}/details");
        while !client.get(&details).send().await?.status().is_success() {
            ensure!(started.elapsed() < TIMEOUT, "book {id} has no details");
            sleep(Duration::from_millis(1)).await;
        }
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times)
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
