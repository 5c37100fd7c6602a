//! A program to measure: the baseline, or both services with one telemetry setting.

use std::{
    collections::HashMap,
    ops::Add,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use procfs::{WithCurrentSystemInfo, process::Stat};
use reqwest::Client;
use testbed::system::{Dependencies, Service};
use testbed::{
    eventually,
    kafka::Kafka,
    number::to_f64,
    postgres::{Postgres, execute, query_number},
    process::Signal,
    sink::{Sink, Sizes},
};
use tokio::time::sleep;

use super::{
    load::{Call, closed_loop},
    report::{BASELINE, OTHER_BUILD, Sample, per},
    setting::{FULL, Setting},
};

/// The time until a program has exported the telemetry of its last request: the export delay of 1 s
/// and a margin.
const TAIL: Duration = Duration::from_millis(1200);
/// The time for which the idle programs are measured.
const IDLE: Duration = Duration::from_secs(10);
/// The maximum time until all messages are processed.
const TIMEOUT: Duration = Duration::from_mins(3);

/// Creates 100 books with details. The 92 books of the migrations have no details.
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
    /// Whether only `GET /books/1` is measured.
    only_get: bool,
    /// bookapp and backend, or the baseline.
    processes: Vec<Service>,
    dependencies: Dependencies,
    sink: Sink,
    /// The CPU time of each idle process, in seconds per second.
    idle: Vec<f64>,
}

impl Program {
    /// Starts the baseline.
    pub(super) async fn baseline(
        binaries: &HashMap<String, PathBuf>,
        postgres: &Postgres,
    ) -> Result<Self> {
        let dependencies = Dependencies::with_postgres(postgres).await?;
        let sink = Sink::start().await?;
        execute(dependencies.database_url(), FILL).await?;
        let baseline = dependencies.service_spec(BASELINE, binary(binaries, "baseline")?, &sink);
        Ok(Self {
            name: BASELINE,
            only_get: false,
            processes: vec![Service::start_without_admin(&baseline).await?],
            dependencies,
            sink,
            idle: Vec::new(),
        })
    }

    /// Starts both services of another build.
    pub(super) async fn other_build(folder: &Path, postgres: &Postgres) -> Result<Self> {
        let mut program = Self::services(FULL, &Self::binaries_in(folder), postgres).await?;
        program.name = OTHER_BUILD;
        Ok(program)
    }

    /// Returns the binaries of both services in a folder.
    pub(super) fn binaries_in(folder: &Path) -> HashMap<String, PathBuf> {
        ["bookapp", "backend"]
            .map(|name| (name.to_owned(), folder.join(name)))
            .into()
    }

    /// Starts both services.
    pub(super) async fn services(
        setting: &Setting,
        binaries: &HashMap<String, PathBuf>,
        postgres: &Postgres,
    ) -> Result<Self> {
        let dependencies = Dependencies::with_postgres(postgres).await?;
        Self::start(setting, &[], binaries, dependencies).await
    }

    /// Starts both services with further environment variables.
    pub(super) async fn start(
        setting: &Setting,
        further: &[(&str, &str)],
        binaries: &HashMap<String, PathBuf>,
        dependencies: Dependencies,
    ) -> Result<Self> {
        let mut sink = Sink::start().await?;
        execute(dependencies.database_url(), FILL).await?;
        let spec = |name| -> Result<_> {
            let spec = dependencies
                .service_spec(name, binary(binaries, name)?, &sink)
                .env("OTEL_BSP_SCHEDULE_DELAY", "1000")
                .env("OTEL_BLRP_SCHEDULE_DELAY", "1000")
                .env("OTEL_METRIC_EXPORT_INTERVAL", "60000")
                .env("RUST_LOG", "warn");
            let variables = setting.env.iter().chain(further);
            Ok(variables.fold(spec, |spec, (name, value)| spec.env(name, *value)))
        };
        let backend = Service::start(&spec("backend")?).await?;
        let bookapp = spec("bookapp")?.env("BACKEND_URL", &backend.url);
        let bookapp = Service::start(&bookapp).await?;
        bookapp.wait_until_ready().await?;
        backend.wait_until_ready().await?;
        if !setting.collector {
            sink.stop();
        }
        Ok(Self {
            name: setting.name,
            only_get: setting.only_get,
            processes: vec![bookapp, backend],
            dependencies,
            sink,
            idle: Vec::new(),
        })
    }

    /// Returns whether `call` is measured for this program.
    pub(super) fn handles(&self, call: Call) -> bool {
        call == Call::Get || !self.only_get
    }

    /// Returns the URL to which requests are sent.
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
        self.dependencies.database_url()
    }

    pub(super) fn kafka(&self) -> Result<&Kafka> {
        self.dependencies
            .mock_kafka()
            .context("the Kafka cluster is not a mock")
    }

    /// Measures the CPU time of the idle programs.
    pub(super) async fn measure_idle(programs: &mut [Self]) -> Result<()> {
        sleep(TAIL).await;
        let cpu_times = |program: &Self| program.processes.iter().map(cpu_time).collect();
        let before: Vec<Vec<f64>> = programs.iter().map(cpu_times).collect::<Result<_>>()?;
        sleep(IDLE).await;
        for (program, before) in programs.iter_mut().zip(before) {
            let after = cpu_times(program)?.into_iter().zip(before);
            let share = |(after, before): (f64, f64)| (after - before) / IDLE.as_secs_f64();
            program.idle = after.map(share).collect();
        }
        Ok(())
    }

    /// Returns the CPU time of each idle process, in seconds per second.
    pub(super) fn idle(&self) -> &[f64] {
        &self.idle
    }

    /// Sends the requests and waits until their messages are processed and their telemetry is
    /// exported. The CPU time in the result excludes that of the idle processes.
    pub(super) async fn measure(
        &self,
        client: &Client,
        call: Call,
        requests: usize,
        connections: usize,
    ) -> Result<Sample> {
        let (started, bytes, time) = (Instant::now(), self.exported(), self.time(call)?);
        let duration = closed_loop(client, self.url(), call, requests, connections).await?;
        if self.name != BASELINE {
            self.wait_until_processed().await?;
        }
        sleep(TAIL).await;
        let idle: f64 = self.idle.iter().take(call.processes()).sum();
        let idle = started.elapsed().as_secs_f64() * idle;
        let time = self.time(call)? - time - idle;
        Ok(Sample {
            time: time * 1e6 / to_f64(requests),
            rate: per(requests, duration.as_secs_f64()),
            bytes: per(self.exported() - bytes, to_f64(requests)),
        })
    }

    /// Waits until every message is sent and processed.
    pub(super) async fn wait_until_processed(&self) -> Result<()> {
        let left = "select (select count(*) from outbox where published_at is null)
            + (select count(*) from outbox) - (select count(*) from ledger)";
        let is_done =
            || async { (query_number(self.database_url(), left).await.ok()? == 0).then_some(()) };
        eventually(TIMEOUT, "all messages are processed", is_done).await
    }

    /// Returns the CPU time so far of the processes that handle `call`, in seconds.
    fn time(&self, call: Call) -> Result<f64> {
        let processes = self.processes.iter().take(call.processes());
        processes.map(cpu_time).sum()
    }

    /// Returns the resident memory of each process, in bytes.
    pub(super) fn memory(&self) -> Result<Vec<u64>> {
        let bytes = |service| Ok(stat(service)?.rss_bytes().get());
        self.processes.iter().map(bytes).collect()
    }

    /// Returns the size of all exported spans and log records so far, in bytes.
    fn exported(&self) -> usize {
        let Sizes { spans, logs, .. } = self.sink.sizes();
        spans + logs
    }

    /// Returns the size of all exported metrics so far in bytes, and the number of exports.
    pub(super) fn metrics(&self) -> (usize, usize) {
        let Sizes {
            metrics,
            metric_exports,
            ..
        } = self.sink.sizes();
        (metrics, metric_exports)
    }

    /// Stops the services gracefully, so that they export their remaining telemetry.
    pub(super) async fn stop(&mut self) -> Result<()> {
        for service in &self.processes {
            service.process.signal(Signal::SIGTERM);
            service.process.wait(Duration::from_secs(15)).await?;
        }
        Ok(())
    }

    /// Returns the number of spans and log records that the exporter queues dropped. The number is
    /// complete after [`stop`](Self::stop).
    pub(super) fn dropped(&self) -> f64 {
        let processed = [
            "otel.sdk.processor.span.processed",
            "otel.sdk.processor.log.processed",
        ];
        let points = self.sink.points();
        let dropped = points.iter().filter(|point| {
            processed.contains(&&*point.name) && point.attributes.contains_key("error.type")
        });
        dropped.map(|point| point.value).fold(0.0, f64::add)
    }
}

/// Returns the CPU time of a service so far, in seconds.
pub(super) fn cpu_time(service: &Service) -> Result<f64> {
    Ok(service.process.cpu_time()?.as_secs_f64())
}

fn stat(service: &Service) -> Result<Stat> {
    Ok(procfs::process::Process::new(service.process.id())?.stat()?)
}

fn binary<'b>(binaries: &'b HashMap<String, PathBuf>, name: &str) -> Result<&'b Path> {
    let binary = binaries.get(name).map(PathBuf::as_path);
    binary.with_context(|| format!("there is no binary {name}"))
}
