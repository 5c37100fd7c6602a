//! Who is speaking: one resource for all three signals.
//!
//! `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` win over what is found here. Process
//! arguments are left out on purpose: they may hold secrets.

use std::{env, fs, process};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
};
use ulid::Ulid;

use crate::semconv;

/// Name and version of the speaking program; made by [`service!`](crate::service).
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// `service.name`, unless `OTEL_SERVICE_NAME` says otherwise.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
}

/// The calling crate's name and version as a [`Service`].
#[macro_export]
macro_rules! service {
    () => {
        $crate::Service {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
        }
    };
}

pub(crate) fn detect(service: Service, name: Option<&str>) -> Resource {
    let mut attributes = vec![
        KeyValue::new(semconv::SERVICE_NAME, service.name),
        KeyValue::new(semconv::SERVICE_VERSION, service.version),
        KeyValue::new(semconv::SERVICE_INSTANCE_ID, Ulid::generate().to_string()),
        KeyValue::new(semconv::OS_TYPE, env::consts::OS),
        KeyValue::new(semconv::HOST_ARCH, host_arch()),
        KeyValue::new(semconv::PROCESS_PID, i64::from(process::id())),
    ];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(KeyValue::new(semconv::HOST_NAME, host.trim().to_owned()));
    }
    if let Some(command) = env::args().next() {
        attributes.push(KeyValue::new(semconv::PROCESS_COMMAND, command));
    }
    let resource = Resource::builder_empty()
        .with_attributes(attributes)
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ]);
    match name {
        Some(name) => resource.with_service_name(name.to_owned()).build(),
        None => resource.build(),
    }
}

/// Rust's name of the architecture in the convention's words.
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

    use super::*;

    // proves: T7
    #[test]
    fn the_resource_names_the_service_and_hides_its_arguments() {
        let resource = detect(
            Service {
                name: "shop",
                version: "1.2.3",
            },
            Some("shop-eu"),
        );
        let get = |key| {
            resource
                .get(&Key::from_static_str(key))
                .map(|value| value.to_string())
        };
        assert_eq!(get(semconv::SERVICE_NAME).as_deref(), Some("shop-eu"));
        assert_eq!(get(semconv::SERVICE_VERSION).as_deref(), Some("1.2.3"));
        assert_eq!(get("telemetry.sdk.language").as_deref(), Some("rust"));
        assert_eq!(get("process.command_args"), None);
        assert!(
            resource
                .get(&Key::from_static_str(semconv::PROCESS_PID))
                .is_some()
        );
    }
}
