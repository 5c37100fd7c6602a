//! What is measured: the baseline, or both services with one setting of telemetry.

use std::{
    collections::HashMap,
    ops::Add,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use procfs::{WithCurrentSystemInfo, process::Stat};
use reqwest::Client;
use testbed::system::{Parts, Service};
use testbed::{
    eventually,
    kafka::Kafka,
    postgres::{Postgres, execute, number},
    process::Signal,
    sink::{Sink, Sizes},
};
use tokio::time::sleep;

use super::{
    load::{Call, closed},
    report::{BASELINE, BESIDE, Sample, per, real},
    setting::{FULL, Setting},
};

/// How long after its last request a program has exported what that left: the queues' delay and
/// a little more.
const TAIL: Duration = Duration::from_millis(1200);
/// How long programs are watched while nobody asks.
const IDLE: Duration = Duration::from_secs(10);
/// How long messages may take to get through.
const PATIENCE: Duration = Duration::from_mins(3);

/// 100 books to list, each with its details: of the 92 of the migrations, none has any.
const FILL: &str = "
    insert into books (title, author)
    select 'Book ' || n, 'Author ' || n from generate_series(93, 100) n;
    insert into book_details (book_id, slug, initials, sort_title, checksum)
    select id, lower(replace(title, ' ', '-')), left(author, 1), title, md5(title) || md5(author)
    from books;
    analyze;";

/// A running program.
pub(super) struct Program {
    pub(super) name: &'static str,
    books_alone: bool,
    /// The one that is asked, and for services the one that it asks.
    processes: Vec<Service>,
    parts: Parts,
    sink: Sink,
    /// What each process takes while nobody asks, of each second.
    idle: Vec<f64>,
}

impl Program {
    /// The baseline.
    pub(super) async fn baseline(
        binaries: &HashMap<String, PathBuf>,
        postgres: &Postgres,
    ) -> Result<Self> {
        let (parts, sink) = (Parts::on(postgres).await?, Sink::start().await?);
        execute(parts.database_url(), FILL).await?;
        let baseline = parts.spec(BASELINE, binary(binaries, "baseline")?, &sink);
        Ok(Self {
            name: BASELINE,
            books_alone: false,
            processes: vec![Service::start_bare(&baseline).await?],
            parts,
            sink,
            idle: Vec::new(),
        })
    }

    /// Both services of another build.
    pub(super) async fn beside(folder: &Path, postgres: &Postgres) -> Result<Self> {
        let binary = |name: &str| (name.to_owned(), folder.join(name));
        let binaries = HashMap::from(["bookapp", "backend"].map(binary));
        let mut program = Self::services(FULL, &binaries, postgres).await?;
        program.name = BESIDE;
        Ok(program)
    }

    /// Both services.
    pub(super) async fn services(
        setting: &Setting,
        binaries: &HashMap<String, PathBuf>,
        postgres: &Postgres,
    ) -> Result<Self> {
        let (parts, mut sink) = (Parts::on(postgres).await?, Sink::start().await?);
        execute(parts.database_url(), FILL).await?;
        let spec = |name| -> Result<_> {
            let spec = parts
                .spec(name, binary(binaries, name)?, &sink)
                .env("OTEL_BSP_SCHEDULE_DELAY", "1000")
                .env("OTEL_BLRP_SCHEDULE_DELAY", "1000")
                .env("OTEL_METRIC_EXPORT_INTERVAL", "60000")
                .env("RUST_LOG", "warn");
            let given = setting.env.iter();
            Ok(given.fold(spec, |spec, (name, value)| spec.env(name, *value)))
        };
        let backend = Service::start(&spec("backend")?).await?;
        let bookapp = spec("bookapp")?.env("BACKEND_URL", &backend.url);
        let bookapp = Service::start(&bookapp).await?;
        bookapp.ready().await?;
        backend.ready().await?;
        if !setting.collector {
            sink.take_away();
        }
        Ok(Self {
            name: setting.name,
            books_alone: setting.books_alone,
            processes: vec![bookapp, backend],
            parts,
            sink,
            idle: Vec::new(),
        })
    }

    pub(super) fn takes(&self, call: Call) -> bool {
        call == Call::Get || !self.books_alone
    }

    /// Where requests go.
    pub(super) fn url(&self) -> &str {
        &self.processes[0].url
    }

    pub(super) fn bookapp(&self) -> &Service {
        &self.processes[0]
    }

    pub(super) fn backend(&mut self) -> &mut Service {
        &mut self.processes[1]
    }

    pub(super) fn database_url(&self) -> &str {
        self.parts.database_url()
    }

    pub(super) fn kafka(&self) -> Result<&Kafka> {
        self.parts.mock_kafka().context("it is a mock cluster")
    }

    /// Looks for a while at what a program takes while nobody asks.
    pub(super) async fn watch_idle(programs: &mut [Self]) -> Result<()> {
        sleep(TAIL).await;
        let now = |program: &Self| program.processes.iter().map(processor_time).collect();
        let before: Vec<Vec<f64>> = programs.iter().map(now).collect::<Result<_>>()?;
        sleep(IDLE).await;
        for (program, before) in programs.iter_mut().zip(before) {
            let after = now(program)?.into_iter().zip(before);
            let share = |(after, before): (f64, f64)| (after - before) / IDLE.as_secs_f64();
            program.idle = after.map(share).collect();
        }
        Ok(())
    }

    /// What each process takes while nobody asks, of each second.
    pub(super) fn idle(&self) -> &[f64] {
        &self.idle
    }

    /// Sends the requests, waits until all that they caused is done, and says what it took beside
    /// what it takes anyway.
    pub(super) async fn measure(
        &self,
        client: &Client,
        call: Call,
        requests: usize,
        connections: usize,
    ) -> Result<Sample> {
        let (started, bytes, time) = (Instant::now(), self.exported(), self.time(call)?);
        let took = closed(client, self.url(), call, requests, connections).await?;
        if self.name != BASELINE {
            self.settled().await?;
        }
        sleep(TAIL).await;
        let idle: f64 = self.idle.iter().take(call.processes()).sum();
        let idle = started.elapsed().as_secs_f64() * idle;
        let time = self.time(call)? - time - idle;
        Ok(Sample {
            time: time * 1e6 / real(requests),
            rate: per(requests, took.as_secs_f64()),
            bytes: per(self.exported() - bytes, real(requests)),
        })
    }

    /// Waits until every message is sent and processed.
    pub(super) async fn settled(&self) -> Result<()> {
        let left = "select (select count(*) from outbox where published_at is null)
            + (select count(*) from outbox) - (select count(*) from ledger)";
        let none = || async { (number(self.database_url(), left).await.ok()? == 0).then_some(()) };
        eventually(PATIENCE, "all messages are processed", none).await
    }

    /// Processor time so far of the processes that work for `call`, in seconds.
    fn time(&self, call: Call) -> Result<f64> {
        let working = self.processes.iter().take(call.processes());
        working.map(processor_time).sum()
    }

    /// Resident memory of each process, in bytes.
    pub(super) fn memory(&self) -> Result<Vec<u64>> {
        let bytes = |service| Ok(stat(service)?.rss_bytes().get());
        self.processes.iter().map(bytes).collect()
    }

    /// Bytes of spans and log records so far.
    fn exported(&self) -> usize {
        let Sizes { spans, logs, .. } = self.sink.sizes();
        spans + logs
    }

    /// Bytes of metrics so far, and in how many exports.
    pub(super) fn metrics(&self) -> (usize, usize) {
        let Sizes {
            metrics,
            metric_exports,
            ..
        } = self.sink.sizes();
        (metrics, metric_exports)
    }

    /// Ends the services; what they hold is exported first.
    pub(super) async fn stop(&mut self) -> Result<()> {
        for service in &self.processes {
            service.process.signal(Signal::SIGTERM);
            service.process.exited(Duration::from_secs(15)).await?;
        }
        Ok(())
    }

    /// Spans and log records that left a queue unsent; known once the program has stopped.
    pub(super) fn dropped(&self) -> f64 {
        let processed = [
            "otel.sdk.processor.span.processed",
            "otel.sdk.processor.log.processed",
        ];
        let points = self.sink.points();
        let unsent = points.iter().filter(|point| {
            processed.contains(&&*point.name) && point.attributes.contains_key("error.type")
        });
        unsent.map(|point| point.value).fold(0.0, f64::add)
    }
}

/// Processor time of a service so far, in seconds: `utime` and `stime` of `/proc/{pid}/stat`.
pub(super) fn processor_time(service: &Service) -> Result<f64> {
    let Stat { utime, stime, .. } = stat(service)?;
    Ok(real(utime + stime) / real(procfs::ticks_per_second()))
}

fn stat(service: &Service) -> Result<Stat> {
    Ok(procfs::process::Process::new(service.process.id())?.stat()?)
}

fn binary<'b>(binaries: &'b HashMap<String, PathBuf>, name: &str) -> Result<&'b Path> {
    let binary = binaries.get(name).map(PathBuf::as_path);
    binary.with_context(|| format!("no {name}"))
}
