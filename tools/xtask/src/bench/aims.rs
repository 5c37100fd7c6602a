//! The performance targets: prints which ones are met. A missed target does not fail the run.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

use super::{
    load::{Call, Paced},
    report::{BASELINE, MIB, Relayed, Report},
};
use testbed::number::to_f64;

/// The maximum ratios of CPU times. Each entry is: request, program, reference program, ratio.
const RATIOS: [(Call, &str, &str, f64); 7] = [
    (Call::Get, "100 %", BASELINE, 1.5),
    (Call::Get, "100 %", "off", 1.3),
    (Call::Get, "1 %", "off", 1.15),
    (Call::Get, "100 %, console at info", "off", 1.5),
    (Call::Get, "off", BASELINE, 1.1),
    (Call::List, "100 %", BASELINE, 2.0),
    (Call::Add, "100 %", BASELINE, 1.9),
];
/// The maximum resident memory of a service, in MiB.
const MAX_MEMORY: f64 = 32.0;
/// The maximum ratio of the resident memory after the last round to that after the first round.
const MAX_GROWTH: f64 = 1.1;
/// The maximum CPU time of an idle service, in milliseconds per second.
const MAX_IDLE: f64 = 2.0;
/// The minimum throughput, in messages per second. Each entry is: part, telemetry, rate.
const RATES: [(&str, &str, f64); 3] = [
    ("relay", "100 %", 15_000.0),
    ("worker", "100 %", 8000.0),
    ("worker", "off", 12_000.0),
];
/// The maximum CPU time of the worker with full telemetry, in µs per message.
const MAX_WORKER_TIME: f64 = 60.0;

/// Prints the table of performance targets.
pub(super) fn print(report: &Report) {
    println!("\n| target | measured | result |\n|---|---|---|");
    for (call, of, to, max) in RATIOS {
        if let Some(ratio) = report.ratio(call, of, to) {
            let verdict = verdict(ratio.median / max - 1.0);
            let call = call.name();
            println!("| `{call}`, {of}: ≤ {max} × {to} | {ratio} | {verdict} |");
        }
    }
    memory(report);
    if let Some(idle) = report.idle_of("100 %") {
        let verdict = verdict(idle / MAX_IDLE - 1.0);
        println!("| CPU at rest, 100 %: ≤ {MAX_IDLE} ms/s | {idle:.1} | {verdict} |");
    }
    messages(&report.relayed);
    if let Some(paced) = &report.paced {
        let Paced {
            requests,
            rate,
            slowest,
            dropped,
        } = paced;
        let verdict = if *dropped > 0.0 { "missed" } else { "met" };
        println!(
            "| no telemetry dropped at 1000 requests/s | {dropped:.0} spans and logs of {requests} \
             requests at {rate:.0}/s, the slowest response after {slowest:.0?} | {verdict} |"
        );
    }
}

fn messages(relayed: &[Relayed]) {
    let of = |setting: &str| {
        let mut all = relayed.iter();
        all.find(|one| one.setting == setting) // the first one has the default batch
    };
    for (part, setting, min) in RATES {
        if let Some(relayed) = of(setting) {
            let is_relay = part == "relay";
            let rate = if is_relay {
                relayed.relay_rate
            } else {
                relayed.worker_rate
            };
            let verdict = verdict(1.0 - rate / min);
            println!("| {part}, {setting}: ≥ {min} messages/s | {rate:.0} | {verdict} |");
        }
    }
    if let Some(Relayed { worker_time, .. }) = of("100 %") {
        let verdict = verdict(worker_time / MAX_WORKER_TIME - 1.0);
        println!(
            "| worker, 100 %: ≤ {MAX_WORKER_TIME} µs CPU/message | {worker_time:.0} | {verdict} |"
        );
    }
}

fn memory(report: &Report) {
    let Some((first, last)) = report.first_and_last("100 %") else {
        return;
    };
    let largest = last.iter().copied().max().map_or(0.0, to_f64) / MIB;
    let size = verdict(largest / MAX_MEMORY - 1.0);
    println!("| RSS of a service, 100 %: ≤ {MAX_MEMORY} MiB | {largest:.1} | {size} |");
    let both = first.iter().zip(last);
    let growth = both.map(|(first, last)| to_f64(*last) / to_f64(*first));
    let growth = growth.fold(0.0, f64::max);
    let result = verdict(growth / MAX_GROWTH - 1.0);
    println!("| RSS growth: last round ≤ {MAX_GROWTH} × first | {growth:.2} | {result} |");
}

/// Returns `met`, or by how much the target is missed. `excess` is the distance from the target, as
/// a share of the target; it is not positive if the target is met.
fn verdict(excess: f64) -> String {
    if excess <= 0.0 {
        "met".to_owned()
    } else {
        format!("missed by {:.0} %", excess * 100.0)
    }
}
