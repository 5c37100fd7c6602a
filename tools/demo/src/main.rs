//! `cargo run -p demo`: starts the system, sends one book through it, prints its telemetry, and
//! keeps running so that you can try the API.
#![expect(clippy::print_stdout, reason = "the demo prints for people")]

use std::{pin::pin, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use clap::Parser;
use demo::{
    failure::Failure,
    tour::{METRICS, Tour, highest},
};
use otlp_viewer::{Capacity, Viewer};
use serde_json::Value;
use testbed::{
    System,
    postgres::install_if_missing,
    process::Spec,
    sentry::SentrySink,
    system::{Binaries, Dependencies},
};
use tokio::{select, signal::ctrl_c, time::sleep};

/// Run the complete system on one machine, without Docker.
#[derive(Parser)]
struct Args {
    /// Exit after the tour, with exit code 0 only if every check passes.
    #[arg(long)]
    once: bool,

    /// A real Kafka broker [default: librdkafka's mock cluster].
    #[arg(long, env, value_name = "HOST:PORT")]
    kafka_bootstrap_servers: Option<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    println!("building the services");
    let binaries = Binaries::build().await?;
    install_if_missing().await?;
    println!("starting PostgreSQL and Kafka");
    let dependencies = Dependencies::start(args.kafka_bootstrap_servers).await?;
    println!("starting bookapp and backend");
    let viewer = start_viewer().await?;
    let sentry = SentrySink::start().await?;
    let with_viewer = |spec: Spec| {
        spec.env("SENTRY_DSN", sentry.dsn())
            .env("GRAFANA_URL", "http://localhost:3000")
            .env("VIEWER_URL", viewer.url())
    };
    let system = System::start_with(&binaries, dependencies, with_viewer).await?;
    system.sink.copy_to(Arc::clone(viewer.store()) as _);
    let store = Arc::clone(viewer.store());
    sentry.copy_to(move |event| store.add_error(event));
    println!("adding a book and collecting its telemetry");
    let tour = Tour::take(&system, "The Dispossessed", "Ursula K. Le Guin").await?;
    show(&tour);
    println!("injecting a failure and collecting its telemetry");
    let failure = Failure::inject(&system, &sentry).await?;
    show_failure(&failure);
    let all_passed = report(&[tour.checks(), failure.checks()].concat());
    if !args.once {
        print_urls(&system, &viewer);
        run_until_ctrl_c(&system).await?;
    }
    Ok(if all_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the telemetry of the book.
fn show(tour: &Tour) {
    println!(
        "\nbook {} was added by request {}:",
        tour.book_id, tour.request_id
    );
    println!("  {}", tour.book);
    for (title, trace) in [
        ("1. the request", &tour.adding),
        ("2. sending, linked to the message", &tour.sending),
        (
            "3. the worker, linked to the message that it processes",
            &tour.processing,
        ),
        ("4. the list of books, from both services", &tour.listing),
    ] {
        println!("\n{title}\n{}", trace.render().trim_end());
    }
    println!("\nlogs of request {}", tour.request_id);
    for log in &tour.logs {
        println!(
            "  {:<8} {:<5} {}  trace {}",
            log.service(),
            log.severity,
            log.body,
            log.trace_id
        );
    }
    println!("\nmetrics");
    for point in METRICS
        .iter()
        .filter_map(|metric| highest(&tour.points, metric))
    {
        println!(
            "  {:<36} {:>4}  {}",
            point.name,
            point.value,
            point.service()
        );
    }
    println!();
}

/// Prints the telemetry of the failure.
fn show_failure(failure: &Failure) {
    let text = |path| failure.event.pointer(path).and_then(Value::as_str);
    let text = |path| text(path).unwrap_or("?");
    println!(
        "\nthe Sentry event of the failure\n  event {}",
        text("/event_id")
    );
    println!(
        "  {}: {}",
        text("/exception/values/0/type"),
        text("/exception/values/0/value")
    );
    println!(
        "  trace {}, span {}",
        text("/tags/otel.trace_id"),
        text("/tags/otel.span_id")
    );
    println!("  {}", failure.link());
    println!(
        "\nthe trace of the event\n{}\n",
        failure.trace.render().trim_end()
    );
}

/// Prints the checks and returns whether all of them pass.
fn report(checks: &[(String, bool)]) -> bool {
    for (what, passes) in checks {
        println!("  {} {what}", if *passes { "✓" } else { "✗" });
    }
    let passed = checks.iter().filter(|(_, passes)| *passes).count();
    println!("\npassed: {passed} of {} checks", checks.len());
    passed == checks.len()
}

/// Starts the viewer on its usual port, or on a free one if that is in use.
async fn start_viewer() -> Result<Viewer> {
    let usual = "127.0.0.1:4318".parse()?;
    match Viewer::start(&[usual], Capacity::default()).await {
        Ok(viewer) => Ok(viewer),
        Err(_) => Ok(Viewer::start(&["127.0.0.1:0".parse()?], Capacity::default()).await?),
    }
}

/// Waits for Ctrl-C. The viewer keeps the newest telemetry; the sink need not.
async fn run_until_ctrl_c(system: &System) -> Result<()> {
    let mut end = pin!(ctrl_c());
    loop {
        select! {
            ended = &mut end => return Ok(ended?),
            () = sleep(Duration::from_secs(1)) => system.sink.clear(),
        }
    }
}

fn print_urls(system: &System, viewer: &Viewer) {
    println!("\nthe system runs until Ctrl-C:");
    let api = &system.bookapp.url;
    println!("  open {api}/");
    println!("  traces, logs, metrics and errors {}/", viewer.url());
    println!("  curl -i {api}/books?limit=3");
    println!(
        "  curl -i {api}/books/add --json '{{\"title\":\"Emma\",\"author\":\"Jane Austen\"}}'"
    );
    println!("  curl -i {api}/books/93/details");
    println!("  backend   {}/details/93", system.backend.url);
    println!("  database  {}", system.database_url);
    println!("  kafka     {}", system.kafka_servers);
}
