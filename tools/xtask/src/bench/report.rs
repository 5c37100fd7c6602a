//! What was measured, and its tables.
#![expect(
    clippy::print_stdout,
    reason = "the tables are what the command answers"
)]

use std::{collections::BTreeMap, fmt};

use super::load::{Call, Paced};

/// What the baseline is called.
pub(super) const BASELINE: &str = "baseline";
/// What the other build is called.
pub(super) const BESIDE: &str = "100 %, other build";
pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// One program under one load in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Processor time of a request, in microseconds.
    pub(super) time: f64,
    /// Requests a second.
    pub(super) rate: f64,
    /// Bytes of spans and log records that a request leaves.
    pub(super) bytes: f64,
}

/// What relay and worker managed.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) setting: &'static str,
    /// Messages a second.
    pub(super) relay_rate: f64,
    /// Processor time of a message, in microseconds.
    pub(super) relay_time: f64,
    pub(super) worker_rate: f64,
    pub(super) worker_time: f64,
    pub(super) dropped: f64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    samples: BTreeMap<(Call, &'static str), Vec<Sample>>,
    /// In the order in which the programs are told.
    names: Vec<&'static str>,
    /// Resident memory of each process after each round, the one that warms up among them.
    memory: BTreeMap<&'static str, Vec<Vec<u64>>>,
    /// What each process takes while nobody asks, of each second.
    idle: BTreeMap<&'static str, Vec<f64>>,
    metrics: (usize, usize),
    pub(super) relayed: Vec<Relayed>,
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

    pub(super) fn exports(&mut self, (bytes, count): (usize, usize)) {
        self.metrics.0 += bytes;
        self.metrics.1 += count;
    }

    /// Prints all of it.
    pub(super) fn print(&self) {
        self.print_calls();
        self.print_messages();
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
                let middle = |value: fn(&Sample) -> f64| median(samples.iter().map(value));
                println!(
                    "| `{}` | {name} | {:.0} | {} | {} | {:.0} | {:.0} |",
                    call.name(),
                    middle(|sample| sample.time),
                    shown(self.ratio(call, name, BASELINE)),
                    shown(self.ratio(call, name, "off")),
                    middle(|sample| sample.rate),
                    middle(|sample| sample.bytes),
                );
            }
        }
        println!(
            "\n| telemetry | RSS after the first round, MiB | after the last | CPU at rest, ms/s |\n|---|---|---|---|"
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
                "\nOne export of metrics: {:.0} bytes, once a minute and service, however many requests.",
                per(bytes, real(exports))
            );
        }
    }

    fn print_messages(&self) {
        if self.relayed.is_empty() {
            return;
        }
        println!(
            "\n| telemetry | relay, messages/s | CPU, µs/message | worker, messages/s | CPU, µs/message | spans and logs dropped |"
        );
        println!("|---|---|---|---|---|---|");
        for relayed in &self.relayed {
            println!(
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
                relayed.setting,
                relayed.relay_rate,
                relayed.relay_time,
                relayed.worker_rate,
                relayed.worker_time,
                relayed.dropped,
            );
        }
    }

    /// Each round's ratio of processor times: the middle one and the extremes.
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
            middle: median(ratios.iter().copied()),
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(0.0, f64::max),
        })
    }

    /// Memory after the first round that counts, and after the last.
    pub(super) fn first_and_last(&self, name: &str) -> Option<(&Vec<u64>, &Vec<u64>)> {
        let rounds = self.memory.get(name)?;
        Some((rounds.get(1)?, rounds.last()?))
    }
}

/// The middle of all rounds, and the extremes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    pub(super) middle: f64,
    least: f64,
    most: f64,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.middle, self.least, self.most)
    }
}

fn shown(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| ratio.to_string())
}

fn mebibytes(bytes: &[u64]) -> String {
    let shown: Vec<_> = bytes
        .iter()
        .map(|bytes| format!("{:.1}", real(*bytes) / MIB))
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

/// A count as a number to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "a run counts less than 2^52 of anything"
)]
pub(super) fn real(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or_default() as f64
}

/// So many of these for each of those.
pub(super) fn per(count: usize, each: f64) -> f64 {
    real(count) / each
}
