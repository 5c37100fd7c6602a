//! Alerting of the native stack: the rules of Prometheus, and Alertmanager with a receiver of its own.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use axum::{Json, Router, extract::State, routing::post};
use serde_json::Value;
use serde_yaml_ng::Value as Yaml;
use testbed::{port, process::Spec};
use tokio::task::JoinSet;

use super::{ALERTMANAGER, Part, Tools, native};

/// The folders of rule files.
const RULES: [&str; 2] = ["rules", "rules/objectives"];

/// Writes Prometheus's configuration and rules for targets on this host into a folder, with all
/// windows shorter by a factor. Expressions, thresholds and names stay the same.
pub(super) fn write_rules(tools: &Tools, folder: &Path) -> Result<()> {
    let source = tools.root.join("stack/prometheus");
    let copy = |file: &Path, to: &Path| -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Ok(fs::write(to, faster(&text, tools.speed))?)
    };
    for rules in RULES {
        fs::create_dir_all(folder.join(rules))?;
        for file in fs::read_dir(source.join(rules))? {
            let file = file?;
            if file.file_type()?.is_file() {
                copy(&file.path(), &folder.join(rules).join(file.file_name()))?;
            }
        }
    }
    copy(
        &source.join("prometheus.yaml"),
        &folder.join("prometheus.yaml"),
    )
}

/// The texts before a duration that [`faster`] divides: a range or an offset of a query, how long an
/// alert waits, and the intervals of Prometheus and Alertmanager.
const BEFORE: [&str; 5] = ["[", "offset ", "for: ", "interval: ", "group_wait: "];

/// Divides the windows and intervals in a configuration file by a factor.
fn faster(text: &str, speed: u64) -> String {
    let mut faster = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        faster.push_str(before);
        let digits = number
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(number.len());
        let (number, after) = number.split_at(digits);
        let duration = number.parse::<u64>().ok().zip(seconds(after));
        match duration {
            Some((number, unit)) if BEFORE.iter().any(|text| faster.ends_with(text)) => {
                faster += &(number * unit * 1_000 / speed).to_string();
                faster += "ms";
                rest = &after[1..];
            }
            _ => {
                faster.push_str(number);
                rest = after;
            }
        }
    }
    faster + rest
}

/// Returns the seconds of the unit at the start of a text.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().next()?;
    let units = [
        ('s', 1),
        ('m', 60),
        ('h', 3_600),
        ('d', 86_400),
        ('w', 604_800),
    ];
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, seconds)| *seconds)
}

/// The notifications that Alertmanager has sent to this receiver.
pub struct Notifications {
    received: Received,
    url: String,
    _server: JoinSet<()>,
}

type Received = Arc<Mutex<Vec<Value>>>;

impl Notifications {
    /// Starts the receiver.
    pub(super) fn start() -> Result<Self> {
        let received = Received::default();
        let listener = port::listener()?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}/", listener.local_addr()?);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let receive = |State(received): State<Received>, Json(notification): Json<Value>| async move {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            received.push(notification);
        };
        let router = Router::new()
            .route("/", post(receive))
            .with_state(Arc::clone(&received));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap_or(()) });
        Ok(Self {
            received,
            url,
            _server: server,
        })
    }

    /// Returns the alerts of all notifications with this status, `firing` or `resolved`, the oldest
    /// first.
    pub(crate) fn alerts(&self, status: &str) -> Vec<Value> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let alerts = received
            .iter()
            .filter_map(|notification| notification["alerts"].as_array());
        let mut alerts = alerts.flatten().cloned().collect::<Vec<_>>();
        alerts.retain(|alert| alert["status"] == status);
        alerts
    }
}

/// Starts Alertmanager, whose receivers send to `notifications`.
pub(super) async fn start_alertmanager(
    tools: &Tools,
    data: &Path,
    notifications: &Notifications,
) -> Result<Part> {
    fs::create_dir_all(data)?;
    let source = tools.root.join("stack/alertmanager");
    let config = fs::read_to_string(source.join("alertmanager.yaml"))?;
    let mut config: Yaml = serde_yaml_ng::from_str(&faster(&config, tools.speed))?;
    let receivers = config["receivers"].as_sequence_mut();
    for receiver in receivers.context("alertmanager.yaml has no receivers")? {
        let webhook = format!("[{{url: '{}', send_resolved: true}}]", notifications.url);
        receiver["webhook_configs"] = serde_yaml_ng::from_str(&webhook)?;
    }
    fs::write(
        data.join("alertmanager.yaml"),
        serde_yaml_ng::to_string(&config)?,
    )?;
    fs::copy(source.join("links.tmpl"), data.join("links.tmpl"))?;
    let ready = format!("{ALERTMANAGER}/-/ready");
    Part::start(alertmanager(tools, data), ready).await
}

/// Returns the specification that starts Alertmanager with the configuration in `data`.
pub fn alertmanager(tools: &Tools, data: &Path) -> Spec {
    let path = |name: &str| data.join(name).display().to_string();
    native::part(tools, "alertmanager", "alertmanager")
        .arg(format!("--config.file={}", path("alertmanager.yaml")))
        .arg(format!("--storage.path={}", path("alertmanager")))
        .arg("--web.listen-address=127.0.0.1:9093")
        .arg("--cluster.listen-address=")
        .arg("--web.cors.origin=http://(localhost|127[.]0[.]0[.]1|bookapp[.]localhost)(:[0-9]+)?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_windows_and_intervals_become_shorter() {
        let rules = "- record: slo:sli_error:ratio_rate5m\n  expr: rate(a{le=\"0.25\"}[5m] offset 1m) > 60\n  \
                     for: 2m\n  labels: {sloth_window: 5m}\n  summary: within 15 minutes\n";
        let expected = "- record: slo:sli_error:ratio_rate5m\n  expr: rate(a{le=\"0.25\"}[15000ms] offset 3000ms) > 60\n  \
                        for: 6000ms\n  labels: {sloth_window: 5m}\n  summary: within 15 minutes\n";
        assert_eq!(faster(rules, 20), expected);
        assert_eq!(faster("[1w] [3d]", 1), "[604800000ms] [259200000ms]");
    }
}
