//! Chaos test: injects faults into the system under load, in a seeded order, and counts lost and
//! duplicate effects.
//!
//! The load adds, changes and removes books. A book is lost if it was acknowledged, and is gone at the end
//! although nobody asked to remove it. Its details are wrong if they are not those of its newest title and
//! author, or if the book is gone. They are duplicated if they were written more often than the book was
//! changed: a database trigger counts every write.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

use std::{
    env,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    System,
    broker::Broker,
    eventually,
    postgres::{execute, query_number},
    process::Signal,
    system::{Binaries, Dependencies, Service, WRONG_DETAILS, http},
};
use tokio::{join, runtime::Runtime, time::sleep};

use crate::{step, tools::Programs};

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

    /// Use a real Kafka broker instead of librdkafka's mock cluster.
    #[arg(long)]
    real_kafka: bool,

    #[command(flatten)]
    programs: Programs,
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
        let data = TempDir::with_prefix("bookapp-chaos-")?;
        let mut broker = None;
        if args.real_kafka {
            let jars = args.programs.kafka_jars()?;
            let (root, data) = (env::current_dir()?, data.path().join("kafka"));
            broker = Some(Broker::start(&root, &jars, &data).await?);
        }
        let address = broker.as_ref().map(|broker| broker.address.clone());
        let dependencies = Dependencies::start(address).await?;
        let mut system = System::start(&binaries, dependencies).await?;
        let audit = "create table effect (book_id int4);
            create function note() returns trigger language plpgsql as
            $$ begin insert into effect values (new.book_id); return new; end $$;
            create trigger note after insert or update on book_details
            for each row execute function note();";
        execute(&system.database_url, audit).await?;
        let started = Instant::now();
        let load = Load::new(args, &system);
        let (used, injected) = join!(
            load.run(),
            inject_faults(args, &load, &mut system, &mut broker)
        );
        injected?;
        used?;
        step("waiting until all messages are processed");
        let unsent = "select count(*) from outbox where published_at is null";
        let unprocessed = "select count(*) from outbox o
            where not exists (select from ledger l where l.event_id = o.event_id)";
        let is_idle = async || -> Option<()> {
            let left = query_number(&system.database_url, unsent).await.ok()?
                + query_number(&system.database_url, unprocessed).await.ok()?;
            (left == 0).then_some(())
        };
        let idle = eventually(IDLE_TIMEOUT, "all messages are processed", is_idle).await;
        let result = report(args, &system, &load, started).await.and(idle);
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

/// The load: its users, and the ids of the books that were acknowledged and not removed.
struct Load {
    url: String,
    seed: u64,
    books: usize,
    added: AtomicUsize,
    left: Mutex<Vec<i64>>,
}

impl Load {
    fn new(args: &Args, system: &System) -> Self {
        Self {
            url: system.bookapp.url.clone(),
            seed: args.seed,
            books: args.books,
            added: AtomicUsize::new(0),
            left: Mutex::default(),
        }
    }

    fn count(&self) -> usize {
        self.added.load(Ordering::Relaxed)
    }

    fn left(&self) -> MutexGuard<'_, Vec<i64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds, changes and removes books until enough additions are acknowledged.
    async fn run(&self) -> Result<()> {
        let users = (0..USERS).map(|user| self.use_api(Rng::with_seed(self.seed * USERS + user)));
        for user in futures::future::join_all(users).await {
            user?;
        }
        Ok(())
    }

    async fn use_api(&self, mut rng: Rng) -> Result<()> {
        let client = http()?;
        while self.count() < self.books {
            let book = json!({"title": format!("Chaos {}", rng.u32(..)), "author": "Eris"});
            let known = rng.choice(&*self.left()).copied();
            let answered = match (rng.u8(..10), known) {
                (0..4, Some(id)) => {
                    let request = client.patch(format!("{}/books/{id}", self.url));
                    is_answered(request.json(&book).send().await)
                }
                (4, Some(id)) => {
                    // From now on, the book may be gone, whatever the response is.
                    self.left().retain(|left| *left != id);
                    let request = client.delete(format!("{}/books/{id}", self.url));
                    is_answered(request.send().await)
                }
                (5, _) => {
                    let books = vec![book; rng.usize(2..30)];
                    self.add(
                        client
                            .post(format!("{}/books/bulk_add", self.url))
                            .json(&books),
                    )
                    .await
                }
                _ => {
                    self.add(client.post(format!("{}/books/add", self.url)).json(&book))
                        .await
                }
            };
            if !answered {
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Sends a request that adds books. Returns whether it was acknowledged.
    async fn add(&self, request: RequestBuilder) -> bool {
        let Ok(response) = request.send().await else {
            return false;
        };
        if response.status() != 201 {
            return false;
        }
        // Only a complete response is an acknowledgement.
        let ids: Vec<_> = match response.json::<Value>().await {
            Ok(Value::Array(ids)) => ids.iter().filter_map(Value::as_i64).collect(),
            Ok(id) => id.as_i64().into_iter().collect(),
            Err(_) => return false,
        };
        self.added.fetch_add(ids.len(), Ordering::Relaxed);
        self.left().extend(ids);
        true
    }
}

/// Returns whether the service has done what the request asks, or there is nothing to do.
fn is_answered(response: reqwest::Result<Response>) -> bool {
    response.is_ok_and(|response| !response.status().is_server_error())
}

/// Injects the faults, evenly distributed over the load.
async fn inject_faults(
    args: &Args,
    load: &Load,
    system: &mut System,
    broker: &mut Option<Broker>,
) -> Result<()> {
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
                if let Some(broker) = broker {
                    broker.kill().await?;
                    sleep(outage).await;
                    broker.restart().await?;
                } else if let Some(kafka) = system.mock_kafka() {
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

/// Prints the table. Fails if a book was lost, or its details are wrong or duplicated.
async fn report(args: &Args, system: &System, load: &Load, started: Instant) -> Result<()> {
    let url = &system.database_url;
    let left: Vec<_> = load.left().iter().map(ToString::to_string).collect();
    let events = query_number(url, "select count(*) from ledger").await?;
    let lost = format!(
        "select count(*) from unnest(array[{}]::int4[]) id
         where not exists (select from books where books.id = id.id)",
        left.join(",")
    );
    let lost = query_number(url, &lost).await?;
    let wrong = query_number(url, &format!("select count(*) from {WRONG_DETAILS}")).await?;
    let duplicated = "select count(*) from
        (select book_id, count(*) writes from effect group by book_id) e
        join (select key::int4, count(*) changes from outbox group by key) o on o.key = e.book_id
        where writes > changes";
    let duplicated = query_number(url, duplicated).await?;
    println!(
        "| seed | books added | events processed | lost | wrong details | duplicated | faults | seconds |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {} | {} | {events} | {lost} | {wrong} | {duplicated} | {} | {} |",
        args.seed,
        load.count(),
        args.faults,
        started.elapsed().as_secs(),
    );
    ensure!(
        lost == 0 && wrong == 0 && duplicated == 0,
        "{lost} lost, {wrong} with wrong details, {duplicated} duplicated"
    );
    Ok(())
}
