//! `cargo run -p demo`: starts the system, sends one book through it, shows what can be seen of it,
//! and stays up to play with.
#![expect(clippy::print_stdout, reason = "the demo speaks to a person")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use demo::{
    failure::Failure,
    tour::{METRICS, Tour, moved},
};
use serde_json::Value;
use testbed::{
    System,
    process::Spec,
    sentry::SentrySink,
    system::{Binaries, Parts},
};

/// The whole system on one machine, without Docker.
#[derive(Parser)]
struct Args {
    /// Exit after the tour: 0 only if every check holds.
    #[arg(long)]
    once: bool,

    /// A real broker; without it, librdkafka's mock cluster.
    #[arg(long, env, value_name = "HOST:PORT")]
    kafka_bootstrap_servers: Option<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    println!("building the services");
    let binaries = Binaries::build().await?;
    println!("starting PostgreSQL and Kafka");
    let parts = Parts::start(args.kafka_bootstrap_servers).await?;
    println!("starting bookapp and backend");
    let sentry = SentrySink::start().await?;
    let reporting = |spec: Spec| spec.env("SENTRY_DSN", sentry.dsn());
    let system = System::start_with(&binaries, parts, reporting).await?;
    println!("adding a book and following it");
    let tour = Tour::take(&system, "The Dispossessed", "Ursula K. Le Guin").await?;
    show(&tour);
    println!("making a request fail and following that");
    let failure = Failure::provoke(&system, &sentry).await?;
    show_failure(&failure);
    let correlated = report(&[tour.checks(), failure.checks()].concat());
    if !args.once {
        invite(&system);
        tokio::signal::ctrl_c().await?;
    }
    Ok(if correlated {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Shows what was seen of the book.
fn show(tour: &Tour) {
    println!(
        "\nbook {} was added by request {}:",
        tour.book_id, tour.request_id
    );
    println!("  {}", tour.book);
    for (title, trace) in [
        ("1. the request", &tour.adding),
        ("2. the relay, linked to what it sends", &tour.relaying),
        (
            "3. the worker, linked to what it processes",
            &tour.processing,
        ),
        (
            "and the book read back, through both services",
            &tour.listing,
        ),
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
    println!("\nmetrics that moved");
    for point in METRICS
        .iter()
        .filter_map(|metric| moved(&tour.points, metric))
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

/// Shows what was seen of the failure.
fn show_failure(failure: &Failure) {
    let text = |path| failure.event.pointer(path).and_then(Value::as_str);
    let text = |path| text(path).unwrap_or("?");
    println!(
        "\nthe failure, as Sentry has it\n  event {}",
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
    println!("\nand its trace\n{}\n", failure.trace.render().trim_end());
}

/// Shows the checks; answers whether every one holds.
fn report(checks: &[(String, bool)]) -> bool {
    for (what, holds) in checks {
        println!("  {} {what}", if *holds { "✓" } else { "✗" });
    }
    let held = checks.iter().filter(|(_, holds)| *holds).count();
    println!("\ncorrelated: {held} of {} checks", checks.len());
    held == checks.len()
}

fn invite(system: &System) {
    println!("\nthe system stays up until Ctrl-C:");
    let api = &system.bookapp.url;
    println!("  start page {api}/");
    println!("  curl -i {api}/books?limit=3");
    println!(
        "  curl -i {api}/books/add --json '{{\"title\":\"Emma\",\"author\":\"Jane Austen\"}}'"
    );
    println!("  curl -i {api}/books/93/details");
    println!("  backend   {}/details?ids=93", system.backend.url);
    println!("  database  {}", system.database_url);
    println!("  kafka     {}", system.kafka_servers);
}
