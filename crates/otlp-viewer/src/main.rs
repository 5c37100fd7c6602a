//! `otlp-viewer`: receives OTLP and shows it in the browser.
#![expect(clippy::print_stdout, reason = "the program prints its URL for people")]

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::Parser;
use otlp_viewer::{Capacity, Viewer, file};

/// Receive OTLP, and show traces, log records, metrics and errors in the browser.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Files of OTLP JSON to show.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The addresses to listen on, each for the page, OTLP over gRPC and HTTP, and Sentry.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "127.0.0.1:4318,127.0.0.1:4317"
    )]
    listen: Vec<SocketAddr>,

    /// The number of spans to keep.
    #[arg(long, value_name = "NUMBER", default_value_t = Capacity::default().spans)]
    spans: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    // Each connection needs a file descriptor. Without the permission to have more, the limit stays.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let capacity = Capacity {
        spans: args.spans,
        ..Capacity::default()
    };
    let viewer = Viewer::start(&args.listen, capacity).await?;
    for path in &args.files {
        let count = file::load(viewer.store(), path)?;
        println!("{}: {count} export requests", path.display());
    }
    println!("open {}/", viewer.url());
    println!("OTEL_EXPORTER_OTLP_ENDPOINT={}", viewer.url());
    println!("SENTRY_DSN={}", viewer.dsn());
    viewer.serve().await;
    Ok(())
}
