//! The results of the benchmark, and their tables.
#![expect(
    clippy::print_stdout,
    reason = "the tables are the output of the command"
)]

use std::{collections::BTreeMap, fmt, time::Duration};
use testbed::number::to_f64;

use super::load::{Call, Paced};

/// The name of the baseline in the tables.
pub(super) const BASELINE: &str = "baseline";
/// The name of the other build in the tables.
pub(super) const OTHER_BUILD: &str = "100 %, other build";
pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// The measurements of one program with one kind of request in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The CPU time per request, in microseconds.
    pub(super) time: f64,
    /// The number of requests per second.
    pub(super) rate: f64,
    /// The size of the exported spans and log records per request, in bytes.
    pub(super) bytes: f64,
}

/// The measurements of relay and worker with one telemetry setting.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) build: &'static str,
    pub(super) setting: &'static str,
    pub(super) max_batch: &'static str,
    /// The number of messages per second.
    pub(super) relay_rate: f64,
    /// The CPU time per message, in microseconds.
    pub(super) relay_time: f64,
    pub(super) worker_rate: f64,
    pub(super) worker_time: f64,
    pub(super) dropped: f64,
}

/// The times from a request to the details of its book, in an idle system, sorted.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) build: &'static str,
    pub(super) times: Vec<Duration>,
}

impl Latency {
    fn percentile(&self, percent: usize) -> Duration {
        self.times[self.times.len() * percent / 100]
    }
}

/// All measurements of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    samples: BTreeMap<(Call, &'static str), Vec<Sample>>,
    /// The names of the programs, in the order of the tables.
    names: Vec<&'static str>,
    /// The resident memory of each process after each round, including the warm-up round.
    memory: BTreeMap<&'static str, Vec<Vec<u64>>>,
    /// The CPU time of each idle process, in seconds per second.
    idle: BTreeMap<&'static str, Vec<f64>>,
    metrics: (usize, usize),
    pub(super) relayed: Vec<Relayed>,
    pub(super) latency: Vec<Latency>,
    pub(super) paced: Option<Paced>,
}

impl Report {
    pub(super) fn add(&mut self, program: &'static str, call: Call, sample: Sample) {
        self.samples
            .entry((call, program))
            .or_default()
            .push(sample);
    }

    pub(super) fn memory(&mut self, program: &'static str, bytes: Vec<u64>) {
        if !self.names.contains(&program) {
            self.names.push(program);
        }
        self.memory.entry(program).or_default().push(bytes);
    }

    pub(super) fn idle(&mut self, program: &'static str, share: &[f64]) {
        self.idle.insert(program, share.to_vec());
    }

    /// Returns the CPU time of the busier idle process of a program, in milliseconds per second.
    pub(super) fn idle_of(&self, program: &str) -> Option<f64> {
        let idle = self.idle.get(program)?.iter().copied();
        idle.reduce(f64::max).map(|share| share * 1000.0)
    }

    pub(super) fn exports(&mut self, (bytes, count): (usize, usize)) {
        self.metrics.0 += bytes;
        self.metrics.1 += count;
    }

    /// Prints all tables.
    pub(super) fn print(&self) {
        self.print_calls();
        self.print_messages();
        self.print_latency();
    }

    fn print_latency(&self) {
        if self.latency.is_empty() {
            return;
        }
        println!("\n| build | request to details, p50 | p99 |\n|---|---|---|");
        for latency in &self.latency {
            let (middle, high) = (latency.percentile(50), latency.percentile(99));
            println!("| {} | {middle:.1?} | {high:.1?} |", latency.build);
        }
    }

    fn print_calls(&self) {
        if self.samples.is_empty() {
            return;
        }
        println!(
            "| request | telemetry | CPU, µs/request | × baseline | × off | requests/s | bytes/request |"
        );
        println!("|---|---|---|---|---|---|---|");
        for call in Call::ALL {
            for name in &self.names {
                let Some(samples) = self.samples.get(&(call, *name)) else {
                    continue;
                };
                let median_of = |value: fn(&Sample) -> f64| median(samples.iter().map(value));
                println!(
                    "| `{}` | {name} | {:.0} | {} | {} | {:.0} | {:.0} |",
                    call.name(),
                    median_of(|sample| sample.time),
                    format_ratio(self.ratio(call, name, BASELINE)),
                    format_ratio(self.ratio(call, name, "off")),
                    median_of(|sample| sample.rate),
                    median_of(|sample| sample.bytes),
                );
            }
        }
        println!(
            "\n| telemetry | RSS after the first round, MiB | after the last | idle CPU, ms/s |\n|---|---|---|---|"
        );
        for name in &self.names {
            let Some((first, last)) = self.first_and_last(name) else {
                continue;
            };
            println!(
                "| {name} | {} | {} | {} |",
                mebibytes(first),
                mebibytes(last),
                milliseconds(&self.idle[name])
            );
        }
        let (bytes, exports) = self.metrics;
        if exports > 0 {
            println!(
                "\nOne metrics export: {:.0} bytes. Each service exports metrics once per minute, for any number of requests.",
                per(bytes, to_f64(exports))
            );
        }
    }

    fn print_messages(&self) {
        if self.relayed.is_empty() {
            return;
        }
        println!(
            "\n| build | telemetry | batch | relay, messages/s | CPU, µs/message | worker, messages/s | CPU, µs/message | spans and logs dropped |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for relayed in &self.relayed {
            println!(
                "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
                relayed.build,
                relayed.setting,
                relayed.max_batch,
                relayed.relay_rate,
                relayed.relay_time,
                relayed.worker_rate,
                relayed.worker_time,
                relayed.dropped,
            );
        }
    }

    /// Returns the median, minimum and maximum over all rounds of the ratio of CPU times.
    pub(super) fn ratio(&self, call: Call, of: &'static str, to: &'static str) -> Option<Ratio> {
        let (of, to) = (
            self.samples.get(&(call, of))?,
            self.samples.get(&(call, to))?,
        );
        let ratios: Vec<_> = of
            .iter()
            .zip(to)
            .map(|(of, to)| of.time / to.time)
            .collect();
        Some(Ratio {
            median: median(ratios.iter().copied()),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(0.0, f64::max),
        })
    }

    /// Returns the resident memory after the first measured round and after the last round.
    pub(super) fn first_and_last(&self, name: &str) -> Option<(&Vec<u64>, &Vec<u64>)> {
        let rounds = self.memory.get(name)?;
        Some((rounds.get(1)?, rounds.last()?))
    }
}

/// The median, minimum and maximum of a ratio over all rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    pub(super) median: f64,
    min: f64,
    max: f64,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.min, self.max)
    }
}

fn format_ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| ratio.to_string())
}

fn mebibytes(bytes: &[u64]) -> String {
    let shown: Vec<_> = bytes
        .iter()
        .map(|bytes| format!("{:.1}", to_f64(*bytes) / MIB))
        .collect();
    shown.join(" + ")
}

fn milliseconds(shares: &[f64]) -> String {
    let shown: Vec<_> = shares
        .iter()
        .map(|share| format!("{:.0}", share * 1e3))
        .collect();
    shown.join(" + ")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// Divides a count by `divisor`.
pub(super) fn per(count: usize, divisor: f64) -> f64 {
    to_f64(count) / divisor
}
