//! A worker without HTTP: a periodic job, tasks that it spawns, and work that outlives it. At
//! SIGINT, the worker completes what it has begun.

use std::{env, io, pin::pin, time::Duration};

use anyhow::Result;
use telemetry_common::{
    RequestId, builder, record_failure, service,
    task::{self, JoinSet},
};
use tokio::{select, signal::ctrl_c, time::interval};
use tracing::{Instrument, info, info_span, instrument, warn};

#[tokio::main]
async fn main() -> Result<()> {
    let _telemetry = builder(service!()).install()?;
    let period = env::args().nth(1).unwrap_or("60".to_owned());
    let mut ticks = interval(Duration::from_secs_f64(period.parse()?));
    let mut background = JoinSet::new();
    let mut stop = pin!(ctrl_c());
    info!("working every {period} s");
    loop {
        select! {
            _ = ticks.tick() => {
                // Each run is a trace of its own, with an id that all its log records carry.
                let run = RequestId::generate().scope(clean_up(&mut background));
                run.instrument(info_span!(parent: None, "clean up")).await;
            }
            // The current run always completes, because it is awaited above.
            stopped = &mut stop => break stopped?,
        }
    }
    info!("stopping: {} background tasks are left", background.len());
    while background.join_next().await.is_some() {}
    Ok(())
}

/// Cleans up three shelves at a time, and then rebuilds the index in the background.
async fn clean_up(background: &mut JoinSet<()>) {
    let mut shelves = JoinSet::new();
    for number in 1..=3 {
        shelves.spawn(clean_shelf(number));
    }
    while let Some(cleaned) = shelves.join_next().await {
        if let Ok(Err(error)) = cleaned {
            warn!("a shelf is left as it was: {error}");
        }
    }
    let checksum = task::spawn_blocking(|| (1..=1_000_000_u64).sum::<u64>()).await;
    info!(
        "all shelves visited, checksum {}",
        checksum.unwrap_or_default()
    );
    // It outlives this run, so it gets a trace of its own, which is linked to this one.
    let rebuild = task::detached(info_span!(parent: None, "rebuild index"));
    rebuild.in_scope(|| background.spawn(async { info!("index rebuilt") }));
}

#[instrument(name = "clean shelf", skip_all)]
async fn clean_shelf(number: u32) -> io::Result<()> {
    if number == 3 {
        let error = io::Error::other("shelf 3 is locked");
        record_failure("locked", &error);
        return Err(error);
    }
    info!("shelf {number} cleaned");
    Ok(())
}
