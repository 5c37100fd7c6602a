//! Compares the registry with the crate opentelemetry-semantic-conventions, and the constants in
//! code with the registry.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;
use telemetry_registry::Registry;

/// The properties of a name in the semantic conventions.
#[derive(Debug, Default)]
struct Known {
    deprecated: bool,
    instrument: Option<String>,
    unit: Option<String>,
}

/// Prefixes of names that the semantic conventions do not define.
const NOT_STANDARD: [&str; 4] = ["bookapp.", "telemetry_common.", "tokio.", "sentry."];
/// Names without a namespace, from the article on the layered subscriber.
const WITHOUT_NAMESPACE: [&str; 4] = ["category", "result", "span_name", "subject"];

fn is_standard(name: &str) -> bool {
    !WITHOUT_NAMESPACE.contains(&name)
        && !NOT_STANDARD.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads a source file of the crate from cargo's registry.
fn conventions(file: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap();
    let mut metadata = Command::new(cargo);
    // Downloads the packages of other platforms, if no command has done it before.
    metadata.args(["metadata", "--format-version=1", "--locked"]);
    let output = metadata.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = "opentelemetry-semantic-conventions";
    let found = packages.iter().find(|package| package["name"] == name);
    let manifest = found.unwrap()["manifest_path"].as_str().unwrap();
    let source = Path::new(manifest).with_file_name("src").join(file);
    fs::read_to_string(source).unwrap()
}

/// Parses all constants of a source file: name in code, value and documented properties.
fn constants(source: &str) -> Vec<(String, String, Known)> {
    let mut constants = Vec::new();
    let mut known = Known::default();
    for (index, line) in source.lines().enumerate() {
        known.deprecated |= line.starts_with("#[deprecated");
        let quoted = |text: &str| Some(text.split('`').nth(1)?.to_owned());
        if let Some(instrument) = line.strip_prefix("/// | Instrument:") {
            known.instrument = quoted(instrument);
        }
        if let Some(unit) = line.strip_prefix("/// | Unit:") {
            known.unit = quoted(unit);
        }
        if let Some(constant) = line.strip_prefix("pub const ") {
            let name = constant.split(':').next().unwrap();
            // rustfmt moves a long value to the next line.
            let next = source.lines().nth(index + 1).unwrap_or_default();
            let value = constant.split('"').nth(1).or(next.split('"').nth(1));
            let value = value.unwrap_or_default().to_owned();
            constants.push((name.to_owned(), value, std::mem::take(&mut known)));
        }
    }
    constants
}

fn by_value(file: &str) -> BTreeMap<String, Known> {
    let constants = constants(&conventions(file)).into_iter();
    constants.map(|(_, value, known)| (value, known)).collect()
}

// proves: R8
#[test]
fn every_standard_attribute_is_in_the_conventions_and_not_deprecated() {
    let known = by_value("attribute.rs");
    let registry = Registry::of_checkout().unwrap();
    let mut checked = 0;
    for name in registry.attributes.keys().filter(|name| is_standard(name)) {
        let found = known
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the semantic conventions"));
        assert!(!found.deprecated, "{name} is deprecated");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

// proves: R8
#[test]
fn every_standard_metric_has_the_conventions_instrument_and_unit() {
    let known = by_value("metric.rs");
    let registry = Registry::of_checkout().unwrap();
    let mut checked = 0;
    for metric in registry.of_type("metric") {
        let name = metric.metric_name.as_ref().unwrap();
        let Some(found) = known.get(name) else {
            assert!(
                !is_standard(name),
                "{name} is not in the semantic conventions"
            );
            continue;
        };
        assert!(!found.deprecated, "{name} is deprecated");
        assert_eq!(metric.instrument, found.instrument, "{name}");
        assert_eq!(metric.unit, found.unit, "{name}");
        checked += 1;
    }
    assert!(checked > 25, "{checked}");
}

#[test]
fn every_constant_in_code_is_declared() {
    let registry = Registry::of_checkout().unwrap();
    let declared = |name: &str| {
        let mut metrics = registry.of_type("metric");
        registry.attributes.contains_key(name)
            || metrics.any(|metric| metric.metric_name.as_deref() == Some(name))
    };
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let semconv = fs::read_to_string(root.join("telemetry-common/src/semconv.rs")).unwrap();
    let events = fs::read_to_string(root.join("crates/book-events/src/lib.rs")).unwrap();
    let own: Vec<_> = constants(&semconv)
        .into_iter()
        .chain(constants(&events))
        .map(|(_, value, _)| value)
        .filter(|value| !is_standard(value))
        .collect();
    for value in &own {
        assert!(
            declared(value),
            "{value} is in code but not in the registry"
        );
    }
    assert!(own.len() >= 8, "{own:?}");
    // The names between the braces of `pub use` are constants of the semantic conventions.
    let standard = [conventions("attribute.rs"), conventions("metric.rs")].concat();
    let names = semconv
        .split("pub use")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    for (name, value, _) in constants(&standard) {
        let is_used = names.split([',', '{', '}']).any(|used| used.trim() == name);
        assert!(
            !is_used || declared(&value),
            "{name} is in code, but {value} is not in the registry"
        );
    }
}
