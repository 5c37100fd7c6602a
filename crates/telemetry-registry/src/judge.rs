//! Validates received telemetry against the registry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::sink::{Attributes, Log, Point, Scope, Sink, Span};

use crate::{
    Registry,
    exceptions::Exceptions,
    registry::{Group, Level, Type},
};

/// The schema URL of the semantic conventions that the registry follows.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// A validator that collects violations of the registry and the signals it has seen.
#[derive(Debug)]
pub struct Judge {
    registry: Arc<Registry>,
    /// The number of occurrences of each violation.
    violations: BTreeMap<String, usize>,
    /// The ids of the groups that were received.
    seen: BTreeSet<String>,
    /// The attributes that were received.
    seen_attributes: BTreeSet<String>,
    /// Whether log records may have the attributes of the spans around them.
    has_span_fields: bool,
    exceptions: Exceptions,
}

impl Judge {
    /// Creates a validator with the registry of this checkout.
    pub fn new() -> Result<Self> {
        Ok(Self {
            registry: Arc::new(Registry::of_checkout()?),
            violations: BTreeMap::new(),
            seen: BTreeSet::new(),
            seen_attributes: BTreeSet::new(),
            has_span_fields: false,
            exceptions: Exceptions::of_checkout()?,
        })
    }

    /// Accepts log records with the attributes of spans, as services export them with
    /// `LOG_SPAN_FIELDS=otlp`.
    #[must_use]
    pub fn with_span_fields(mut self) -> Self {
        self.has_span_fields = true;
        self
    }

    /// Validates all telemetry of `services` in the sink.
    pub fn judge(&mut self, sink: &Sink, services: &[&str]) {
        let is_of = |service: &str| services.contains(&service);
        for span in sink.spans().iter().filter(|span| is_of(span.service())) {
            self.check_span(span);
        }
        for log in sink.logs().iter().filter(|log| is_of(log.service())) {
            self.check_log(log);
        }
        for point in sink.points().iter().filter(|point| is_of(point.service())) {
            self.check_point(point);
        }
    }

    /// Fails if there are violations or if a declared signal was not received.
    pub fn finish(&self) -> Result<String> {
        let mut problems = self.described_violations();
        let unseen = self
            .signals()
            .filter(|group| group.annotations.rarely.is_none() && !self.seen.contains(&group.id));
        problems.extend(unseen.map(|group| format!("{} is declared but not received", group.id)));
        let attributes = self.registry.attributes.keys();
        let unseen = attributes.filter(|key| {
            !self.seen_attributes.contains(*key) && !self.exceptions.allows("attribute", key)
        });
        problems.extend(unseen.map(|key| format!("attribute {key} is declared but not received")));
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(self.summary())
    }

    /// Fails if there are violations. Does not require every declared signal.
    pub fn finish_partial(&self) -> Result<String> {
        let problems = self.described_violations();
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(self.summary())
    }

    fn described_violations(&self) -> Vec<String> {
        let violations = self.violations.iter();
        violations
            .map(|(violation, count)| format!("{count} × {violation}"))
            .collect()
    }

    fn summary(&self) -> String {
        let all = self.signals().count();
        format!("{} of {all} declared signals seen", self.seen.len())
    }

    fn signals(&self) -> impl Iterator<Item = &Group> {
        let signals = self.registry.groups.iter();
        signals.filter(|group| group.r#type != "attribute_group")
    }

    fn check_span(&mut self, span: &Span) {
        let registry = Arc::clone(&self.registry);
        let found = registry.of_type("span").find(|group| {
            let kind = group.span_kind.as_deref().unwrap_or_default();
            let mut names = group.annotations.names.iter();
            kind.eq_ignore_ascii_case(span.kind)
                && names.any(|name| is_named(name, &span.name, &span.attributes))
        });
        let Some(group) = found else {
            return self.report(format!("undeclared span {:?} {}", span.name, span.kind));
        };
        let what = format!("span {}", group.id);
        self.check_attributes(group, &what, &span.attributes);
        self.check_resource(&what, &span.resource);
        let failed = span.status == "ERROR";
        if failed != span.attributes.contains_key("error.type") {
            let kind = &span.attributes.get("error.type");
            self.report(format!(
                "{what}: status {} with error.type {kind:?}",
                span.status
            ));
        }
        if span.status == "OK" {
            self.report(format!(
                "{what}: status Ok, which instrumentation must not set"
            ));
        }
        self.check_scope(&what, &span.scope);
    }

    fn check_log(&mut self, log: &Log) {
        let what = format!("log record {:?}", log.event);
        self.check_resource(&what, &log.resource);
        if log.event.is_empty() {
            let module = &log.scope.name;
            let author = module.split("::").next().unwrap_or_default();
            if !self.exceptions.allows("records", author) {
                self.report(format!(
                    "log record {:?} of {module} has no event name",
                    log.body
                ));
            }
            return;
        }
        self.check_scope(&what, &log.scope);
        let registry = Arc::clone(&self.registry);
        let mut events = registry.of_type("event");
        let Some(group) = events.find(|group| group.name.as_ref() == Some(&log.event)) else {
            return self.report(format!("undeclared event {:?}", log.event));
        };
        if group.annotations.severity.as_ref() != Some(&log.severity) {
            self.report(format!("{what}: severity {}", log.severity));
        }
        let mut attributes = log.attributes.clone();
        if self.has_span_fields {
            let spans: BTreeSet<_> = registry
                .of_type("span")
                .flat_map(|span| registry.references(span).unwrap_or_default())
                .map(|reference| reference.r#ref.as_str())
                .collect();
            let own = registry.references(group).unwrap_or_default();
            attributes.retain(|key, _| {
                own.iter().any(|it| it.r#ref == *key) || !spans.contains(key.as_str())
            });
        }
        self.check_attributes(group, &what, &attributes);
    }

    fn check_scope(&mut self, what: &str, scope: &Scope) {
        let Scope {
            name,
            version,
            schema_url,
        } = scope;
        if name.is_empty() || version.is_empty() || schema_url.is_empty() {
            self.report(format!(
                "{what}: scope {name:?} has version {version:?} and schema URL {schema_url:?}"
            ));
        } else if schema_url != SCHEMA_URL {
            self.report(format!("{what}: schema URL {schema_url}"));
        }
    }

    fn check_point(&mut self, point: &Point) {
        let what = format!("metric {}", point.name);
        if !self.exceptions.allows("scope", &point.scope.name) {
            self.check_scope(&what, &point.scope);
        }
        self.check_resource(&what, &point.resource);
        let registry = Arc::clone(&self.registry);
        let mut metrics = registry.of_type("metric");
        let found = metrics.find(|group| group.metric_name.as_ref() == Some(&point.name));
        let Some(group) = found else {
            let Point {
                unit, instrument, ..
            } = point;
            return self.report(format!("undeclared {what} ({instrument}, {unit})"));
        };
        if group.unit.as_ref() != Some(&point.unit) {
            self.report(format!("{what}: unit {:?}", point.unit));
        }
        if group.instrument.as_deref() != Some(point.instrument) {
            self.report(format!("{what}: instrument {}", point.instrument));
        }
        if group.annotations.boundaries != point.bounds {
            self.report(format!("{what}: boundaries {:?}", point.bounds));
        }
        self.check_attributes(group, &what, &point.attributes);
    }

    fn check_resource(&mut self, what: &str, attributes: &Attributes) {
        let registry = Arc::clone(&self.registry);
        let Some(group) = registry.of_type("entity").next() else {
            return self.report("no entity is declared".to_owned());
        };
        self.check_attributes(group, &format!("resource of {what}"), attributes);
    }

    /// Checks that every attribute is declared and has a valid value, and that every required
    /// attribute is present.
    fn check_attributes(&mut self, group: &Group, what: &str, attributes: &Attributes) {
        self.seen.insert(group.id.clone());
        let registry = Arc::clone(&self.registry);
        let declared: BTreeMap<_, _> = match registry.references(group) {
            Ok(references) => references
                .into_iter()
                .map(|reference| (reference.r#ref.as_str(), &reference.requirement_level))
                .collect(),
            Err(error) => return self.report(error.to_string()),
        };
        self.seen_attributes.extend(attributes.keys().cloned());
        for (key, value) in attributes {
            if !declared.contains_key(key.as_str()) {
                self.report(format!("{what}: undeclared attribute {key} = {value}"));
            } else if let Some(violation) = self.type_violation(key, value) {
                self.report(format!("{what}: {violation}"));
            }
        }
        for (key, level) in declared {
            if *level == Level::Required && !attributes.contains_key(key) {
                self.report(format!("{what}: required attribute {key} is missing"));
            }
        }
    }

    fn type_violation(&self, key: &str, value: &Value) -> Option<String> {
        let declared = &self.registry.attributes.get(key)?.r#type;
        let is_valid = match declared {
            Type::Simple(name) => match name.as_str() {
                "string" => value.is_string(),
                "int" => value.is_i64(),
                "double" => value.is_f64(),
                "boolean" => value.is_boolean(),
                _ => false,
            },
            Type::Enum { members } => members.iter().any(|member| *value == member.value),
        };
        (!is_valid).then(|| format!("{key} = {value} is not of type {declared:?}"))
    }

    fn report(&mut self, violation: String) {
        *self.violations.entry(violation).or_default() += 1;
    }
}

/// Whether `name` equals `pattern` with its placeholders replaced by attribute values.
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
