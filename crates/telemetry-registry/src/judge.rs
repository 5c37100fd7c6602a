//! Holds what arrived against what is declared.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::sink::{Attributes, Log, Point, Sink, Span};

use crate::{
    Registry,
    registry::{Group, Level, Type},
};

/// Modules of ours: their log lines are events with a name. Others' lines are their own affair.
const OURS: [&str; 5] = [
    "bookapp",
    "backend",
    "service_common",
    "telemetry_common",
    "backend_client",
];

/// What is wrong, each thing once with how often it was seen, and what was seen at all.
#[derive(Debug)]
pub struct Judge {
    registry: Arc<Registry>,
    offences: BTreeMap<String, usize>,
    seen: BTreeSet<String>,
}

impl Judge {
    /// A judge who knows this checkout's registry.
    pub fn new() -> Result<Self> {
        Ok(Self {
            registry: Arc::new(Registry::of_checkout()?),
            offences: BTreeMap::new(),
            seen: BTreeSet::new(),
        })
    }

    /// Judges everything that `services` sent.
    pub fn judge(&mut self, sink: &Sink, services: &[&str]) {
        let is_of = |service: &str| services.contains(&service);
        for span in sink.spans().iter().filter(|span| is_of(span.service())) {
            self.span(span);
        }
        for log in sink.logs().iter().filter(|log| is_of(log.service())) {
            self.log(log);
        }
        for point in sink.points().iter().filter(|point| is_of(point.service())) {
            self.point(point);
        }
    }

    /// Fails with every offence, and with what is declared and was not seen.
    pub fn sentence(&self) -> Result<String> {
        let mut wrong: Vec<_> = self
            .offences
            .iter()
            .map(|(offence, times)| format!("{times} × {offence}"))
            .collect();
        let unseen = self
            .signals()
            .filter(|group| group.annotations.rarely.is_none() && !self.seen.contains(&group.id));
        wrong.extend(unseen.map(|group| format!("{} is declared and was not seen", group.id)));
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(self.summary())
    }

    /// Fails with every offence alone, where not everything declared can be expected.
    pub fn offences(&self) -> Result<String> {
        let offences = self.offences.iter();
        let wrong: Vec<_> = offences
            .map(|(offence, times)| format!("{times} × {offence}"))
            .collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(self.summary())
    }

    fn summary(&self) -> String {
        let all = self.signals().count();
        format!("{} of {all} declared signals seen", self.seen.len())
    }

    fn signals(&self) -> impl Iterator<Item = &Group> {
        let signals = self.registry.groups.iter();
        signals.filter(|group| group.r#type != "attribute_group")
    }

    fn span(&mut self, span: &Span) {
        let registry = Arc::clone(&self.registry);
        let found = registry.of_type("span").find(|group| {
            let kind = group.span_kind.as_deref().unwrap_or_default();
            let mut names = group.annotations.names.iter();
            kind.eq_ignore_ascii_case(span.kind)
                && names.any(|name| is_named(name, &span.name, &span.attributes))
        });
        let Some(group) = found else {
            return self.wrong(format!("undeclared span {:?} {}", span.name, span.kind));
        };
        let what = format!("span {}", group.id);
        self.carries(group, &what, &span.attributes);
        self.resource(&what, &span.resource);
        let failed = span.status == "ERROR";
        if failed != span.attributes.contains_key("error.type") {
            let kind = &span.attributes.get("error.type");
            self.wrong(format!(
                "{what}: status {} with error.type {kind:?}",
                span.status
            ));
        }
        if span.status == "OK" {
            self.wrong(format!(
                "{what}: status OK, which is for applications to say"
            ));
        }
        if span.schema_url.is_empty() {
            self.wrong(format!("{what}: its scope names no schema"));
        }
    }

    fn log(&mut self, log: &Log) {
        let what = format!("log record {:?}", log.event);
        self.resource(&what, &log.resource);
        let module = log.scope.split("::").next().unwrap_or_default();
        if log.event.is_empty() {
            if OURS.contains(&module) {
                self.wrong(format!(
                    "{:?} of {} is an event without a name",
                    log.body, log.scope
                ));
            }
            return;
        }
        let registry = Arc::clone(&self.registry);
        let mut events = registry.of_type("event");
        let Some(group) = events.find(|group| group.name.as_ref() == Some(&log.event)) else {
            return self.wrong(format!("undeclared event {:?}", log.event));
        };
        if group.annotations.severity.as_ref() != Some(&log.severity) {
            self.wrong(format!("{what}: severity {}", log.severity));
        }
        self.carries(group, &what, &log.attributes);
    }

    fn point(&mut self, point: &Point) {
        let what = format!("metric {}", point.name);
        self.resource(&what, &point.resource);
        let registry = Arc::clone(&self.registry);
        let mut metrics = registry.of_type("metric");
        let found = metrics.find(|group| group.metric_name.as_ref() == Some(&point.name));
        let Some(group) = found else {
            let Point {
                unit, instrument, ..
            } = point;
            return self.wrong(format!("undeclared {what} ({instrument}, {unit})"));
        };
        if group.unit.as_ref() != Some(&point.unit) {
            self.wrong(format!("{what}: unit {:?}", point.unit));
        }
        if group.instrument.as_deref() != Some(point.instrument) {
            self.wrong(format!("{what}: instrument {}", point.instrument));
        }
        if group.annotations.boundaries != point.bounds {
            self.wrong(format!("{what}: boundaries {:?}", point.bounds));
        }
        self.carries(group, &what, &point.attributes);
    }

    fn resource(&mut self, what: &str, attributes: &Attributes) {
        let registry = Arc::clone(&self.registry);
        let Some(group) = registry.of_type("entity").next() else {
            return self.wrong("no entity is declared".to_owned());
        };
        self.carries(group, &format!("resource of {what}"), attributes);
    }

    /// Each attribute is declared, of its type and among its values; each required one is there.
    fn carries(&mut self, group: &Group, what: &str, attributes: &Attributes) {
        self.seen.insert(group.id.clone());
        let registry = Arc::clone(&self.registry);
        let carried: BTreeMap<_, _> = match registry.carried(group) {
            Ok(carried) => carried
                .into_iter()
                .map(|reference| (reference.r#ref.as_str(), &reference.requirement_level))
                .collect(),
            Err(error) => return self.wrong(error.to_string()),
        };
        for (key, value) in attributes {
            if !carried.contains_key(key.as_str()) {
                self.wrong(format!("{what}: undeclared attribute {key} = {value}"));
            } else if let Some(offence) = self.offence(key, value) {
                self.wrong(format!("{what}: {offence}"));
            }
        }
        for (key, level) in carried {
            if *level == Level::Required && !attributes.contains_key(key) {
                self.wrong(format!("{what}: {key} is missing"));
            }
        }
    }

    fn offence(&self, key: &str, value: &Value) -> Option<String> {
        let declared = &self.registry.attributes.get(key)?.r#type;
        let fits = match declared {
            Type::Simple(name) => match name.as_str() {
                "string" => value.is_string(),
                "int" => value.is_i64(),
                "double" => value.is_f64(),
                "boolean" => value.is_boolean(),
                _ => false,
            },
            Type::Enum { members } => members.iter().any(|member| *value == member.value),
        };
        (!fits).then(|| format!("{key} = {value} is not {declared:?}"))
    }

    fn wrong(&mut self, offence: String) {
        *self.offences.entry(offence).or_default() += 1;
    }
}

/// Whether `name` is `pattern` with the attributes filled in.
fn is_named(pattern: &str, name: &str, attributes: &Attributes) -> bool {
    let mut filled = String::new();
    for (index, part) in pattern.split(['{', '}']).enumerate() {
        if index % 2 == 0 {
            filled.push_str(part);
        } else {
            match attributes.get(part).and_then(Value::as_str) {
                Some(value) => filled.push_str(value),
                None => return false,
            }
        }
    }
    filled == name
}
