//! The resource of all three signals: attributes of the service, the process and the host.
//!
//! `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` override the detected attributes. Process
//! arguments are not recorded, because they may contain secrets.

use std::{env, fs, process};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
};
use ulid::Ulid;

use crate::{TelemetryConfig, builder::Builder, semconv};

/// The name and version of a crate or program. [`service!`](crate::service) returns those of the
/// calling crate.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// `service.name`, unless `OTEL_SERVICE_NAME` overrides it.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
}

/// Returns the name and version of the calling crate as a [`Service`].
#[macro_export]
macro_rules! service {
    () => {
        $crate::Service {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
        }
    };
}

/// Detects the resource, and adds the attributes of the environment or of a configuration file, and
/// those of the application.
pub(crate) fn detect(builder: &Builder, config: &TelemetryConfig) -> Resource {
    let service = builder.service;
    let mut attributes = vec![
        KeyValue::new(semconv::SERVICE_NAME, service.name),
        KeyValue::new(semconv::SERVICE_VERSION, service.version),
        KeyValue::new(semconv::SERVICE_INSTANCE_ID, instance_id()),
        KeyValue::new(semconv::OS_TYPE, env::consts::OS),
        KeyValue::new(semconv::HOST_ARCH, host_arch()),
        KeyValue::new(semconv::PROCESS_PID, i64::from(process::id())),
    ];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(KeyValue::new(semconv::HOST_NAME, host.trim().to_owned()));
    }
    if let Some(time) = creation_time() {
        attributes.push(KeyValue::new(semconv::PROCESS_CREATION_TIME, time));
    }
    if let Some(command) = env::args().next() {
        attributes.push(KeyValue::new(semconv::PROCESS_COMMAND, command));
    }
    let resource = Resource::builder_empty()
        .with_schema_url(attributes, semconv::SCHEMA_URL)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detectors(&builder.detectors);
    let resource = match &config.file {
        Some(file) => resource.with_attributes(file.resource.iter().cloned()),
        None => resource.with_detector(Box::new(EnvResourceDetector::new())),
    };
    let resource = resource.with_attributes(builder.resource.iter().cloned());
    match &config.service_name {
        Some(name) => resource.with_service_name(name.clone()).build(),
        None => resource.build(),
    }
}

/// Returns a unique id in the format of UUID version 4, made of a ULID, as the convention
/// recommends for `service.instance.id`.
fn instance_id() -> String {
    const VERSION: u128 = 0x4 << 76;
    const VARIANT: u128 = 0x2 << 62;
    let random = u128::from(Ulid::generate()) & !(0xf << 76) & !(0x3 << 62);
    let hex = format!("{:032x}", random | VERSION | VARIANT);
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    groups.join("-")
}

/// Returns the start time of the process in ISO 8601, or `None` if `/proc` cannot be read. The
/// start time and the process id together identify the process.
#[cfg(target_os = "linux")]
fn creation_time() -> Option<String> {
    /// Linux reports times to programs in hundredths of a second.
    const TICKS_PER_SECOND: i64 = 100;
    // The process's name, in parentheses, may contain spaces; the 20th value after it is the start
    // in ticks since the boot.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = stat.rsplit(')').next()?.split_whitespace().nth(19)?;
    let ticks: i64 = ticks.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let seconds = boot.trim().parse::<i64>().ok()? + ticks / TICKS_PER_SECOND;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

#[cfg(not(target_os = "linux"))]
fn creation_time() -> Option<String> {
    None
}

/// Returns the CPU architecture by the name that the convention uses.
fn host_arch() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;
    use opentelemetry_sdk::resource::ResourceDetector;

    use super::*;

    struct Region;

    impl ResourceDetector for Region {
        fn detect(&self) -> Resource {
            let region = KeyValue::new("cloud.region", "eu-1");
            Resource::builder_empty().with_attribute(region).build()
        }
    }

    // proves: T7
    #[test]
    fn the_resource_names_the_service_and_hides_its_arguments() {
        let service = Service {
            name: "shop",
            version: "1.2.3",
        };
        let team = KeyValue::new("team", "books");
        let builder = Builder::new(service).resource([team]).with_detector(Region);
        let config = TelemetryConfig {
            service_name: Some("shop-eu".to_owned()),
            ..TelemetryConfig::default()
        };
        let resource = detect(&builder, &config);
        let get = |key| {
            resource
                .get(&Key::from_static_str(key))
                .map(|value| value.to_string())
        };
        assert_eq!(get(semconv::SERVICE_NAME).as_deref(), Some("shop-eu"));
        assert_eq!(get(semconv::SERVICE_VERSION).as_deref(), Some("1.2.3"));
        assert_eq!(get("telemetry.sdk.language").as_deref(), Some("rust"));
        assert_eq!(get("team").as_deref(), Some("books"));
        assert_eq!(get("cloud.region").as_deref(), Some("eu-1"));
        assert_eq!(get("process.command_args"), None);
        assert_eq!(resource.schema_url(), Some(semconv::SCHEMA_URL));
        let instance = get(semconv::SERVICE_INSTANCE_ID).unwrap();
        assert_eq!((instance.len(), &instance[14..15]), (36, "4"), "{instance}");
        let created = get(semconv::PROCESS_CREATION_TIME).unwrap();
        let created: jiff::Timestamp = created.parse().unwrap();
        let age = jiff::Timestamp::now().duration_since(created);
        assert!(age.as_secs() < 3600, "the test started at {created}");
        assert!(
            resource
                .get(&Key::from_static_str(semconv::PROCESS_PID))
                .is_some()
        );
    }
}
