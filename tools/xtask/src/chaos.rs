//! Kills and cuts off parts of the system under load, in a seeded order, and counts.
//!
//! Lost is a book that was acknowledged and has no details in the end; doubled is one whose
//! details were written more than once: a trigger in the database counts every write.
#![expect(clippy::print_stdout, reason = "the table is what the command answers")]

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
    postgres::{execute, number},
    process::Signal,
    system::{Binaries, Parts, Service, http},
};
use tokio::{join, runtime::Runtime, time::sleep};

use crate::step;

/// How many add books at the same time.
const USERS: u64 = 4;
/// How long a part is gone.
const GONE_MS: std::ops::Range<u64> = 100..1500;
/// How long the system may take to come to rest: Kafka gives a killed worker's partitions away
/// after 45 seconds.
const REST: Duration = Duration::from_mins(2);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seed of the faults and the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many books are to be acknowledged.
    #[arg(long, default_value_t = 5000)]
    books: usize,

    /// How many faults are spread over them.
    #[arg(long, default_value_t = 20)]
    faults: usize,

    /// A real broker; without it, librdkafka's mock cluster, which can be taken away too.
    #[arg(long, env, value_name = "HOST:PORT")]
    kafka_bootstrap_servers: Option<String>,
}

/// What can happen to the system.
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
        let parts = Parts::start(args.kafka_bootstrap_servers.clone()).await?;
        let mut system = System::start(&binaries, parts).await?;
        let audit = "create table effect (book_id int4);
            create function note() returns trigger language plpgsql as
            $$ begin insert into effect values (new.book_id); return new; end $$;
            create trigger note after insert or update on book_details
            for each row execute function note();";
        execute(&system.database_url, audit).await?;
        let started = Instant::now();
        let load = Load::new(args, &system);
        let (ids, done) = join!(load.run(), disturb(args, &load, &mut system));
        done?;
        let ids = ids?;
        step("waiting for rest");
        let sent = "select count(*) from outbox where published_at is null";
        let derived = "select count(*) from books b where id > 92
            and not exists (select from book_details d where d.book_id = b.id)";
        let at_rest = async || -> Option<()> {
            let left = number(&system.database_url, sent).await.ok()?
                + number(&system.database_url, derived).await.ok()?;
            (left == 0).then_some(())
        };
        let rest = eventually(REST, "the system comes to rest", at_rest).await;
        let told = report(args, &system, &ids, started).await.and(rest);
        if told.is_err() {
            for service in [&system.bookapp, &system.backend] {
                let lines = service.process.lines();
                let last = lines.len().saturating_sub(20);
                println!("{} said last:\n{}", service.url, lines[last..].join("\n"));
            }
        }
        told
    })
}

/// The users, and what they were told.
struct Load {
    url: String,
    seed: u64,
    books: usize,
    acknowledged: Mutex<Vec<i64>>,
    enough: AtomicBool,
}

impl Load {
    fn new(args: &Args, system: &System) -> Self {
        Self {
            url: system.bookapp.url.clone(),
            seed: args.seed,
            books: args.books,
            acknowledged: Mutex::default(),
            enough: AtomicBool::new(false),
        }
    }

    fn count(&self) -> usize {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Adds books until enough are acknowledged; answers their ids.
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
        while self.count() < self.books && !self.enough.load(Ordering::Relaxed) {
            let book = json!({"title": format!("Chaos {}", rng.u32(..)), "author": "Eris"});
            let answer = if rng.u8(..5) == 0 {
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
            let Ok(answer) = answer else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            if answer.status() != 201 {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            // Acknowledged is what arrived whole.
            let ids = match answer.json::<Value>().await {
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

/// Lets the faults happen, spread evenly over the load.
async fn disturb(args: &Args, load: &Load, system: &mut System) -> Result<()> {
    let mut rng = Rng::with_seed(args.seed);
    for number in 0..args.faults {
        let due = (number + 1) * args.books / (args.faults + 1);
        let reached = || async { (load.count() >= due).then_some(()) };
        eventually(REST, "the load goes on", reached).await?;
        let fault = FAULTS[rng.usize(..FAULTS.len())];
        let gone = Duration::from_millis(rng.u64(GONE_MS));
        step(&format!(
            "{:>5} acknowledged: {fault:?} for {gone:?}",
            load.count()
        ));
        match fault {
            Fault::Bookapp(signal) => restart(&mut system.bookapp, signal, gone).await?,
            Fault::Backend(signal) => restart(&mut system.backend, signal, gone).await?,
            Fault::Postgres(signal) => {
                if let Some(postgres) = &mut system.postgres {
                    postgres.end(signal).await?;
                    sleep(gone).await;
                    postgres.start_again().await?;
                }
            }
            Fault::Kafka => {
                if let Some(kafka) = system.mock_kafka() {
                    kafka.take_away()?;
                    sleep(gone).await;
                    kafka.bring_back()?;
                }
            }
        }
    }
    Ok(())
}

async fn restart(service: &mut Service, signal: Signal, gone: Duration) -> Result<()> {
    service.process.signal(signal);
    service.process.exited(Duration::from_secs(15)).await?;
    sleep(gone).await;
    service.start_again().await
}

/// Prints the table; an error unless nothing was lost and nothing doubled.
async fn report(args: &Args, system: &System, ids: &[i64], started: Instant) -> Result<()> {
    let url = &system.database_url;
    let acknowledged = ids
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let announced = "select count(*) from outbox where published_at is not null";
    let announced = number(url, announced).await?;
    let processed = number(url, "select count(*) from book_details").await?;
    let lost = format!(
        "select count(*) from unnest(array[{acknowledged}]::int4[]) id
         where not exists (select from book_details d where d.book_id = id)"
    );
    let lost = number(url, &lost).await?;
    let doubled = "select count(*) from
        (select from effect group by book_id having count(*) > 1) twice";
    let doubled = number(url, doubled).await?;
    let dead = match system.mock_kafka() {
        Some(kafka) => kafka.count("book.added.v1.dead-letter", 3)?.to_string(),
        None => "?".to_owned(),
    };
    println!(
        "| seed | acknowledged | announced | processed | lost | doubled | dead-lettered | faults | seconds |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {} | {} | {announced} | {processed} | {lost} | {doubled} | {dead} | {} | {} |",
        args.seed,
        ids.len(),
        args.faults,
        started.elapsed().as_secs(),
    );
    ensure!(lost == 0 && doubled == 0, "{lost} lost, {doubled} doubled");
    Ok(())
}
