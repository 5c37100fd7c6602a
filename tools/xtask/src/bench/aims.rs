//! Which aim is met, and by how much one is missed. A run never fails because of one.
#![expect(clippy::print_stdout, reason = "the table is what the command answers")]

use super::{
    load::{Call, Paced},
    report::{BASELINE, MIB, Relayed, Report, real},
};

/// At most so many times the processor time of another program.
const RATIOS: [(Call, &str, &str, f64); 5] = [
    (Call::Get, "100 %", BASELINE, 1.6),
    (Call::Get, "100 %", "off", 1.25),
    (Call::Get, "1 %", "off", 1.05),
    (Call::List, "100 %", BASELINE, 3.0),
    (Call::Add, "100 %", BASELINE, 2.5),
];
/// The memory of a service, in MiB, and how much it may grow from the first round to the last.
const MEMORY: f64 = 40.0;
const GROWTH: f64 = 1.1;
/// Messages a second of relay and worker.
const MESSAGES: f64 = 5000.0;

/// Prints the table of aims.
pub(super) fn print(report: &Report) {
    println!("\n| aim | measured | |\n|---|---|---|");
    for (call, of, to, most) in RATIOS {
        if let Some(ratio) = report.ratio(call, of, to) {
            let verdict = verdict(ratio.middle / most);
            let call = call.name();
            println!("| `{call}`, {of}: ≤ {most} × {to} | {ratio} | {verdict} |");
        }
    }
    memory(report);
    for relayed in &report.relayed {
        let Relayed {
            setting,
            relay_rate,
            worker_rate,
            ..
        } = relayed;
        for (who, rate) in [("relay", relay_rate), ("worker", worker_rate)] {
            let verdict = verdict(MESSAGES / rate);
            println!("| {who}, {setting}: ≥ {MESSAGES} messages/s | {rate:.0} | {verdict} |");
        }
    }
    if let Some(paced) = &report.paced {
        let Paced {
            requests,
            rate,
            slowest,
            dropped,
        } = paced;
        let verdict = if *dropped > 0.0 { "missed" } else { "met" };
        println!(
            "| nothing dropped at 1000 requests/s | {dropped:.0} spans and logs of {requests} \
             requests at {rate:.0}/s, the slowest answered in {slowest:.0?} | {verdict} |"
        );
    }
}

fn memory(report: &Report) {
    let Some((first, last)) = report.first_and_last("100 %") else {
        return;
    };
    let largest = last.iter().copied().max().map_or(0.0, real) / MIB;
    let size = verdict(largest / MEMORY);
    println!("| RSS of a service, 100 %: ≤ {MEMORY} MiB | {largest:.1} | {size} |");
    let both = first.iter().zip(last);
    let growth = both.map(|(first, last)| real(*last) / real(*first));
    let growth = growth.fold(0.0, f64::max);
    let flat = verdict(growth / GROWTH);
    println!("| RSS flat: last round ≤ {GROWTH} × first | {growth:.2} | {flat} |");
}

/// Met, or missed by how much.
fn verdict(share: f64) -> String {
    if share <= 1.0 {
        "met".to_owned()
    } else {
        format!("missed by {:.0} %", (share - 1.0) * 100.0)
    }
}
