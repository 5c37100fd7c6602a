//! Chaos test: injects faults into the system under load, in a seeded order, and counts lost and
//! duplicate effects.
//!
//! A book is lost if it was acknowledged and has no details at the end. A book is duplicated if its
//! details were written more than once: a database trigger counts every write.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use serde_json::{Value, json};
use testbed::{
    System, eventually,
    postgres::{execute, query_number},
    process::Signal,
    system::{Binaries, Dependencies, Service, http},
};
use tokio::{join, runtime::Runtime, time::sleep};

use crate::step;

/// The number of users that add books concurrently.
const USERS: u64 = 4;
/// The range of outage durations, in milliseconds.
const OUTAGE_MS: std::ops::Range<u64> = 100..1500;
/// The maximum time until all messages are processed. Kafka reassigns the partitions of a killed
/// worker after 45 seconds.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seed of the faults and the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Number of books that must be acknowledged.
    #[arg(long, default_value_t = 5000)]
    books: usize,

    /// Number of faults, evenly distributed over the load.
    #[arg(long, default_value_t = 20)]
    faults: usize,

    /// A real Kafka broker, which gets no faults [default: librdkafka's mock cluster].
    #[arg(long, env, value_name = "HOST:PORT")]
    kafka_bootstrap_servers: Option<String>,
}

/// A fault to inject.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Bookapp(Signal),
    Backend(Signal),
    Postgres(Signal),
    Kafka,
}

const FAULTS: [Fault; 7] = [
    Fault::Bookapp(Signal::SIGKILL),
    Fault::Bookapp(Signal::SIGTERM),
    Fault::Backend(Signal::SIGKILL),
    Fault::Backend(Signal::SIGTERM),
    Fault::Postgres(Signal::SIGKILL),
    Fault::Postgres(Signal::SIGINT),
    Fault::Kafka,
];

pub(crate) fn run(args: &Args) -> Result<()> {
    Runtime::new()?.block_on(async {
        step("starting the system");
        let binaries = Binaries::build().await?;
        let dependencies = Dependencies::start(args.kafka_bootstrap_servers.clone()).await?;
        let mut system = System::start(&binaries, dependencies).await?;
        let audit = "create table effect (book_id int4);
            create function note() returns trigger language plpgsql as
            $$ begin insert into effect values (new.book_id); return new; end $$;
            create trigger note after insert or update on book_details
            for each row execute function note();";
        execute(&system.database_url, audit).await?;
        let started = Instant::now();
        let load = Load::new(args, &system);
        let (ids, injected) = join!(load.run(), inject_faults(args, &load, &mut system));
        injected?;
        let ids = ids?;
        step("waiting until all messages are processed");
        let unsent = "select count(*) from outbox where published_at is null";
        let unprocessed = "select count(*) from books b where id > 92
            and not exists (select from book_details d where d.book_id = b.id)";
        let is_idle = async || -> Option<()> {
            let left = query_number(&system.database_url, unsent).await.ok()?
                + query_number(&system.database_url, unprocessed).await.ok()?;
            (left == 0).then_some(())
        };
        let idle = eventually(IDLE_TIMEOUT, "all messages are processed", is_idle).await;
        let result = report(args, &system, &ids, started).await.and(idle);
        if result.is_err() {
            for service in [&system.bookapp, &system.backend] {
                let lines = service.process.lines();
                let last = lines.len().saturating_sub(20);
                println!(
                    "last output of {}:\n{}",
                    service.url,
                    lines[last..].join("\n")
                );
            }
        }
        result
    })
}

/// The load: its users, and the book ids that they received.
struct Load {
    url: String,
    seed: u64,
    books: usize,
    acknowledged: Mutex<Vec<i64>>,
    stop: AtomicBool,
}

impl Load {
    fn new(args: &Args, system: &System) -> Self {
        Self {
            url: system.bookapp.url.clone(),
            seed: args.seed,
            books: args.books,
            acknowledged: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    fn count(&self) -> usize {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Adds books until enough are acknowledged. Returns their ids.
    async fn run(&self) -> Result<Vec<i64>> {
        let users = (0..USERS).map(|user| self.add_books(Rng::with_seed(self.seed * USERS + user)));
        for user in futures::future::join_all(users).await {
            user?;
        }
        Ok(self
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    async fn add_books(&self, mut rng: Rng) -> Result<()> {
        let client = http()?;
        while self.count() < self.books && !self.stop.load(Ordering::Relaxed) {
            let book = json!({"title": format!("Chaos {}", rng.u32(..)), "author": "Eris"});
            let response = if rng.u8(..5) == 0 {
                let books: Vec<Value> = vec![book; rng.usize(2..30)];
                client
                    .post(format!("{}/books/bulk_add", self.url))
                    .json(&books)
                    .send()
                    .await
            } else {
                client
                    .post(format!("{}/books/add", self.url))
                    .json(&book)
                    .send()
                    .await
            };
            let Ok(response) = response else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            if response.status() != 201 {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            // Only a complete response is an acknowledgement.
            let ids = match response.json::<Value>().await {
                Ok(Value::Array(ids)) => ids.iter().filter_map(Value::as_i64).collect(),
                Ok(id) => id.as_i64().into_iter().collect(),
                Err(_) => Vec::new(),
            };
            self.acknowledged
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(ids);
        }
        Ok(())
    }
}

/// Injects the faults, evenly distributed over the load.
async fn inject_faults(args: &Args, load: &Load, system: &mut System) -> Result<()> {
    let mut rng = Rng::with_seed(args.seed);
    for index in 0..args.faults {
        let due = (index + 1) * args.books / (args.faults + 1);
        let reached = || async { (load.count() >= due).then_some(()) };
        eventually(IDLE_TIMEOUT, "the load continues", reached).await?;
        let fault = FAULTS[rng.usize(..FAULTS.len())];
        let outage = Duration::from_millis(rng.u64(OUTAGE_MS));
        step(&format!(
            "{:>5} acknowledged: {fault:?} for {outage:?}",
            load.count()
        ));
        match fault {
            Fault::Bookapp(signal) => restart(&mut system.bookapp, signal, outage).await?,
            Fault::Backend(signal) => restart(&mut system.backend, signal, outage).await?,
            Fault::Postgres(signal) => {
                if let Some(postgres) = &mut system.postgres {
                    postgres.stop(signal).await?;
                    sleep(outage).await;
                    postgres.restart().await?;
                }
            }
            Fault::Kafka => {
                if let Some(kafka) = system.mock_kafka() {
                    kafka.stop_broker(1)?;
                    sleep(outage).await;
                    kafka.restart_broker(1)?;
                }
            }
        }
    }
    Ok(())
}

async fn restart(service: &mut Service, signal: Signal, outage: Duration) -> Result<()> {
    service.process.signal(signal);
    service.process.wait(Duration::from_secs(15)).await?;
    sleep(outage).await;
    service.restart().await
}

/// Prints the table. Fails if a book was lost or duplicated.
async fn report(args: &Args, system: &System, ids: &[i64], started: Instant) -> Result<()> {
    let url = &system.database_url;
    let acknowledged = ids
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let published = "select count(*) from outbox where published_at is not null";
    let published = query_number(url, published).await?;
    let processed = query_number(url, "select count(*) from book_details").await?;
    let lost = format!(
        "select count(*) from unnest(array[{acknowledged}]::int4[]) id
         where not exists (select from book_details d where d.book_id = id)"
    );
    let lost = query_number(url, &lost).await?;
    let duplicated = "select count(*) from
        (select from effect group by book_id having count(*) > 1) twice";
    let duplicated = query_number(url, duplicated).await?;
    let dead = match system.mock_kafka() {
        Some(kafka) => kafka.count("book.added.v1.dead-letter", 3)?.to_string(),
        None => "?".to_owned(),
    };
    println!(
        "| seed | acknowledged | published | processed | lost | duplicated | dead-lettered | faults | seconds |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {} | {} | {published} | {processed} | {lost} | {duplicated} | {dead} | {} | {} |",
        args.seed,
        ids.len(),
        args.faults,
        started.elapsed().as_secs(),
    );
    ensure!(
        lost == 0 && duplicated == 0,
        "{lost} lost, {duplicated} duplicated"
    );
    Ok(())
}
