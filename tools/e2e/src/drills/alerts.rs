//! Alert drills: cause a fault under load, wait for the notification of Alertmanager, end the fault, and
//! wait for the notification that it is over.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::{eventually, process::Signal, system::http};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Stack, backends,
    stack::{alerting::Notifications, native::Processes},
    table::Table,
};

/// Which faults are caused.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How many of them.
    pub count: usize,
    /// The seed that chooses them.
    pub seed: u64,
}

/// A fault with the alert that it causes.
struct Fault {
    what: &'static str,
    alert: &'static str,
    severity: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A fault rule of this kind for a route or a topic of a service.
    Rule {
        kind: &'static str,
        method: &'static str,
        pattern: &'static str,
        service: &'static str,
    },
    WorkerStopped,
    KafkaAway,
}

impl Kind {
    const fn of_reading(kind: &'static str) -> Self {
        Self::Rule {
            kind,
            method: "GET",
            pattern: "/books/{id}",
            service: "bookapp",
        }
    }
}

const FAULTS: [Fault; 5] = [
    Fault {
        what: "every read of a book fails",
        alert: "BookappAvailability",
        severity: "page",
        kind: Kind::of_reading("error"),
    },
    Fault {
        what: "every read of a book takes 400 ms",
        alert: "BookappLatency",
        severity: "page",
        kind: Kind::of_reading("latency"),
    },
    Fault {
        what: "every message fails",
        alert: "DeadLetters",
        severity: "ticket",
        kind: Kind::Rule {
            kind: "error",
            method: "PROCESS",
            pattern: "book.events.v1",
            service: "backend",
        },
    },
    Fault {
        what: "the worker is stopped",
        alert: "DetailsFreshness",
        severity: "page",
        kind: Kind::WorkerStopped,
    },
    Fault {
        what: "Kafka is away",
        alert: "KafkaDown",
        severity: "ticket",
        kind: Kind::KafkaAway,
    },
];

/// The maximum time until a notification. The windows are a twentieth of those of production.
const TIMEOUT: Duration = Duration::from_mins(4);
/// The interval of the requests under which faults show.
const LOAD: Duration = Duration::from_millis(25);

// proves: N14 R6
pub(super) async fn run(stack: &mut Stack, sample: Sample, table: &mut Table) -> Result<()> {
    let url: Arc<str> = stack.bookapp.as_str().into();
    let Some(processes) = &mut stack.processes else {
        for fault in &FAULTS {
            let reason = "the windows of docker compose are those of production";
            table.not_run("alerts", fault.what, reason);
        }
        return Ok(());
    };
    let load = load(Arc::clone(&url))?;
    let mut rng = Rng::with_seed(sample.seed);
    let count = sample.count.min(FAULTS.len());
    let chosen = rng.choose_multiple(0..FAULTS.len(), count);
    for (number, fault) in FAULTS.iter().enumerate() {
        if !chosen.contains(&number) {
            table.not_run("alerts", fault.what, "the seed chose other faults");
            continue;
        }
        let found = drill(processes, &url, fault).await;
        table.check("alerts", format!("{}: {}", fault.what, fault.alert), found);
    }
    drop(load);
    Ok(())
}

/// Causes a fault and ends it. Returns how long both notifications took.
async fn drill(processes: &mut Processes, url: &str, fault: &Fault) -> Result<String> {
    // An earlier fault may have caused the same alert.
    over(fault).await?;
    let caused = Timestamp::now();
    cause(processes, url, fault.kind).await?;
    let fired = notified(&processes.notifications, fault, "firing", caused).await;
    let after = (Timestamp::now() - caused).get_seconds();
    let silenced = silenced(fault).await;
    let ended = Timestamp::now();
    end(processes, url, fault.kind).await?;
    let fired = fired?;
    for text in [
        "summary",
        "impact",
        "dashboard",
        "runbook",
        "traces",
        "logs",
    ] {
        let text = fired["annotations"][text].as_str();
        text.with_context(|| format!("the notification is incomplete: {fired}"))?;
    }
    silenced?;
    notified(&processes.notifications, fault, "resolved", caused).await?;
    let over = (Timestamp::now() - ended).get_seconds();
    Ok(format!(
        "{} after {after} s, over after {over} s",
        fault.severity
    ))
}

/// Waits for a notification with this status, `firing` or `resolved`, of an alert that started after
/// `caused`. Returns the alert.
async fn notified(
    notifications: &Notifications,
    fault: &Fault,
    status: &str,
    caused: Timestamp,
) -> Result<Value> {
    let is_new = |alert: &Value| {
        let start = alert["startsAt"].as_str().unwrap_or_default();
        let start = start.parse::<Timestamp>();
        is_of(alert, fault) && start.is_ok_and(|start| start >= caused)
    };
    let found = async || notifications.alerts(status).into_iter().find(is_new);
    let what = format!("the notification {}: {status}", fault.alert);
    eventually(TIMEOUT, &what, found).await
}

/// Waits until the page of an objective silences its ticket, which fires as well.
async fn silenced(fault: &Fault) -> Result<()> {
    if fault.severity != "page" {
        return Ok(());
    }
    let silenced = async || {
        let alerts = backends::alerts().await.ok()?;
        let mut tickets = alerts.iter().filter(|alert| {
            let labels = &alert["labels"];
            labels["alertname"] == fault.alert && labels["severity"] == "ticket"
        });
        tickets
            .any(|ticket| ticket["status"]["state"] == "suppressed")
            .then_some(())
    };
    eventually(TIMEOUT, "the page silences the ticket", silenced).await
}

/// Waits until Alertmanager has no alert of this fault.
async fn over(fault: &Fault) -> Result<()> {
    let none = async || {
        let alerts = backends::alerts().await.ok()?;
        let is_active = alerts.iter().any(|alert| is_of(alert, fault));
        (!is_active).then_some(())
    };
    eventually(TIMEOUT, "the alert of an earlier fault is over", none).await
}

fn is_of(alert: &Value, fault: &Fault) -> bool {
    let labels = &alert["labels"];
    labels["alertname"] == fault.alert && labels["severity"] == fault.severity
}

async fn cause(processes: &mut Processes, url: &str, kind: Kind) -> Result<()> {
    match kind {
        Kind::Rule {
            kind,
            method,
            pattern,
            service,
        } => {
            let rule = json!({"endpoint_pattern": pattern, "http_method": method, "service": service,
                "kind": kind, "error_rate": 1, "error_code": 500, "latency_ms": 400});
            let request = http()?.post(format!("{url}/error-injection")).json(&rule);
            request.send().await?.error_for_status()?;
            Ok(())
        }
        Kind::WorkerStopped => {
            let worker = &processes.system.backend.process;
            worker.signal(Signal::SIGTERM);
            worker.wait(Duration::from_secs(30)).await.map(drop)
        }
        Kind::KafkaAway => processes.kafka.kill().await,
    }
}

async fn end(processes: &mut Processes, url: &str, kind: Kind) -> Result<()> {
    match kind {
        Kind::Rule { .. } => {
            let request = http()?.delete(format!("{url}/error-injection"));
            request.send().await?.error_for_status()?;
            Ok(())
        }
        Kind::WorkerStopped => processes.system.backend.restart().await,
        Kind::KafkaAway => processes.kafka.restart().await,
    }
}

/// Reads books, and adds one for every ten requests, until the set is dropped. Failures are what the drills
/// are about.
fn load(url: Arc<str>) -> Result<JoinSet<()>> {
    let client = http()?;
    let mut load = JoinSet::new();
    load.spawn(async move {
        let mut requests = JoinSet::new();
        let mut tick = interval(LOAD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 1_u64.. {
            tick.tick().await;
            let request = if number.is_multiple_of(10) {
                let book = json!({"title": "Alert", "author": "Nobody"});
                client.post(format!("{url}/books/add")).json(&book)
            } else {
                client.get(format!("{url}/books/1"))
            };
            requests.spawn(request.send());
            while requests.try_join_next().is_some() {}
        }
    });
    Ok(load)
}
