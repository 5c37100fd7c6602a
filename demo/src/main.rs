//! `cargo run -p demo`: starts the system, sends one book through it, shows what can be seen of it,
//! and stays up to play with.
#![expect(clippy::print_stdout, reason = "the demo speaks to a person")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use demo::{
    System,
    system::{Binaries, Parts},
    tour::{METRICS, Tour, moved},
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
    let system = System::start(&binaries, parts).await?;
    println!("adding a book and following it");
    let tour = Tour::take(&system, "The Dispossessed", "Ursula K. Le Guin").await?;
    let correlated = report(&tour);
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

/// Shows the tour; answers whether every check holds.
fn report(tour: &Tour) -> bool {
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
    let checks = tour.checks();
    for (what, holds) in &checks {
        println!("  {} {what}", if *holds { "✓" } else { "✗" });
    }
    let held = checks.iter().filter(|(_, holds)| *holds).count();
    println!("\ncorrelated: {held} of {} checks", checks.len());
    held == checks.len()
}

fn invite(system: &System) {
    println!("\nthe system stays up until Ctrl-C:");
    let api = &system.bookapp.url;
    println!("  curl -i {api}/books?limit=3");
    println!(
        "  curl -i {api}/books/add --json '{{\"title\":\"Emma\",\"author\":\"Jane Austen\"}}'"
    );
    println!("  curl -i {api}/books/93/details");
    println!("  backend   {}/details?ids=93", system.backend.url);
    println!("  database  {}", system.database_url);
    println!("  kafka     {}", system.kafka_servers);
}
