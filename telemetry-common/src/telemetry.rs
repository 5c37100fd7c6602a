//! The running telemetry of a process, and its end: everything is flushed and shut down within one
//! time budget.

use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    trace::SdkTracerProvider,
};

use crate::{
    console::{self, ConsoleWriter},
    pipeline_stats::PipelineStats,
    subscriber::ConsoleFilter,
};

/// The telemetry of this process, as [`Builder::install`](crate::Builder::install) started it.
///
/// When it is dropped, it exports what is still queued, within 5 seconds. It blocks the thread.
/// [`shutdown`](Self::shutdown) does the same within another budget.
///
/// ```
/// use std::time::Duration;
/// use telemetry_common::service;
///
/// let telemetry = telemetry_common::builder(service!()).install()?;
/// telemetry.console_filter().set("warn,my_service=debug")?;
/// telemetry.shutdown(Duration::from_secs(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "telemetry ends when this value is dropped"]
pub struct Telemetry {
    pub(crate) traces: Option<SdkTracerProvider>,
    pub(crate) metrics: Option<SdkMeterProvider>,
    pub(crate) logs: Option<SdkLoggerProvider>,
    pub(crate) pipeline_stats: Vec<(&'static str, Arc<PipelineStats>)>,
    pub(crate) rejected_points: Arc<AtomicU64>,
    pub(crate) console: ConsoleFilter,
    pub(crate) console_writer: Option<ConsoleWriter>,
    #[cfg(feature = "sentry")]
    pub(crate) sentry: Option<crate::sentry::Reporter>,
    #[cfg(feature = "prometheus")]
    pub(crate) registry: Option<prometheus::Registry>,
    is_finished: bool,
}

/// The budget of the shutdown when [`Telemetry`] is dropped.
const DEFAULT_BUDGET: Duration = Duration::from_secs(5);

/// The share of the shutdown budget for spans, log records and Sentry events. The rest is for
/// metrics.
const FLUSH_SHARE: f32 = 0.7;

impl Telemetry {
    /// Whether there is a provider of any signal.
    pub(crate) fn exports(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }

    /// Returns the filter of the console logs, which can be changed at run time.
    pub fn console_filter(&self) -> ConsoleFilter {
        self.console.clone()
    }

    /// Returns the metrics of the process for a Prometheus endpoint, or `None` if
    /// `OTEL_METRICS_EXPORTER` does not list `prometheus`.
    #[cfg(feature = "prometheus")]
    pub fn scrape(&self) -> Option<crate::Scrape> {
        self.registry.clone().map(crate::Scrape)
    }

    /// Exports the queued telemetry and shuts the providers down, within `budget`.
    ///
    /// It blocks the thread. On the console it reports what was not delivered, because log records
    /// are no longer exported by then.
    /// A slow reader of stderr may delay the end by one more second.
    pub fn shutdown(mut self, budget: Duration) {
        self.finish(budget);
    }

    fn finish(&mut self, budget: Duration) {
        if mem::replace(&mut self.is_finished, true) {
            return;
        }
        let (deadline, share) = (Instant::now() + budget, budget.mul_f32(FLUSH_SHARE));
        let (traces, logs) = (self.traces.take(), self.logs.take());
        #[cfg(feature = "sentry")]
        let sentry = self.sentry.take();
        thread::scope(|threads| {
            threads.spawn(|| traces.map(|traces| traces.shutdown_with_timeout(share)));
            threads.spawn(|| logs.map(|logs| logs.shutdown_with_timeout(share)));
            #[cfg(feature = "sentry")]
            threads.spawn(|| sentry.map(|sentry| sentry.close(share)));
        });
        // The SDK's results do not show losses: a shutdown succeeds if its last batch was exported.
        for (items, stats) in &self.pipeline_stats {
            if let (created, lost @ 1..) = stats.created_and_lost() {
                self.report(format_args!(
                    "{lost} of {created} {items} were not delivered"
                ));
            }
        }
        // Last, so that the losses of the other signals are still counted and exported.
        if let Some(metrics) = self.metrics.take() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if let Err(error) = shutdown_within(remaining, metrics) {
                self.report(format_args!("the last metrics may be lost: {error}"));
            }
            if let rejected @ 1.. = self.rejected_points.load(Ordering::Relaxed) {
                self.report(format_args!("{rejected} metric data points were rejected"));
            }
        }
        if let Some(console) = &self.console_writer {
            if let dropped @ 1.. = console.dropped() {
                self.report(format_args!("{dropped} console lines were dropped"));
            }
            console.flush(console::FLUSH_BUDGET);
        }
    }

    /// Writes a line to the console, because logging has ended.
    #[expect(clippy::print_stderr, reason = "there are no console logs")]
    fn report(&self, message: fmt::Arguments<'_>) {
        match &self.console_writer {
            Some(console) => console.write(&format!("telemetry: {message}\n")),
            None => eprintln!("telemetry: {message}"),
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.finish(DEFAULT_BUDGET);
    }
}

/// Shuts the meter provider down within `budget`. The SDK ignores its timeout argument: it waits
/// for the last export without a limit.
fn shutdown_within(budget: Duration, metrics: SdkMeterProvider) -> OTelSdkResult {
    let (done, finished) = channel();
    thread::spawn(move || done.send(metrics.shutdown_with_timeout(budget)));
    let in_time = finished.recv_timeout(budget);
    in_time.unwrap_or(Err(OTelSdkError::Timeout(budget)))
}
