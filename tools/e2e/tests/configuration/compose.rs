//! Tests of docker-compose.yaml without a Docker engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use e2e::stack::{
    ALERTMANAGER, BUGSINK, COLLECTOR, LOKI, PROMETHEUS, Tools, alerting,
    native::{self, Addresses},
};
use testbed::process::Spec;

use crate::helpers::{environment, root, services, strings, yaml};

/// Services without a health check: the images have no shell. Probes check the collectors and Jaeger
/// instead. Each request to the pairs is slow and is traced.
const WITHOUT_HEALTH: [&str; 10] = [
    "ebpf",
    "jaeger",
    "otel-collector",
    "otel-collector-containers",
    "otel-gateway-1",
    "otel-gateway-2",
    "uservice1",
    "uservice2",
    "uservice3",
    "uservice4",
];

/// Copies the files of the Dockerfile's `COPY . .` to `context`: the paths that `.dockerignore`
/// allows.
fn copy_build_context(context: &Path) {
    let patterns = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let allowed = patterns
        .lines()
        .filter_map(|pattern| pattern.strip_prefix('!'));
    let copied = Command::new("cp")
        .args(["--recursive", "--parents", "--target-directory"])
        .arg(context)
        .args(allowed)
        .current_dir(root())
        .status();
    assert!(copied.unwrap().success(), "an allowed path does not exist");
}

#[test]
fn the_images_are_built_from_a_complete_workspace() {
    let context = tempfile::tempdir().unwrap();
    copy_build_context(context.path());
    let metadata = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(context.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), ".dockerignore: {stderr}");
}

#[test]
fn every_image_is_pinned() {
    for (name, service) in services() {
        let image = service["image"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has no image"));
        let (_, tag) = image
            .rsplit_once(':')
            .unwrap_or_else(|| panic!("{name}: the image has no tag"));
        assert!(
            tag != "latest" && !tag.contains('$') && tag.contains('.'),
            "{name}: {image}"
        );
    }
}

#[test]
fn every_service_is_limited_logged_and_watched() {
    let mut sums = BTreeMap::<String, u32>::new();
    for (name, service) in services() {
        let limit = service["mem_limit"]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: no memory limit"));
        let profile = strings(&service["profiles"]).join(" ");
        *sums.entry(profile).or_default() += limit.trim_end_matches('m').parse::<u32>().unwrap();
        assert!(
            service["logging"]["options"]["max-size"].is_string(),
            "{name}"
        );
        assert!(service["restart"].is_string(), "{name}");
        let one_shot = service["restart"] == "no";
        let has_healthcheck = service["healthcheck"]["test"].is_array();
        assert!(
            one_shot || has_healthcheck || WITHOUT_HEALTH.contains(&&*name),
            "{name}: no health check"
        );
    }
    let limits = [
        ("", 3072),
        ("containers", 80),
        ("ebpf", 512),
        ("jaeger", 272),
        ("load", 192),
        ("tiers", 896),
        ("uservices ebpf", 128),
    ];
    for (profile, sum) in sums {
        let limit = limits.iter().find(|(name, _)| *name == profile);
        let (_, limit) = limit.unwrap_or_else(|| panic!("profile {profile}: no memory limit"));
        assert!(sum <= *limit, "profile {profile:?}: {sum} MiB");
    }
}

#[test]
fn every_one_shot_job_is_awaited() {
    let services = services();
    for (job, _) in services
        .iter()
        .filter(|(_, service)| service["restart"] == "no")
    {
        let awaited = services.iter().any(|(_, service)| {
            service["depends_on"][job]["condition"] == "service_completed_successfully"
        });
        assert!(
            awaited,
            "no service waits for {job}: `up --wait` would fail"
        );
    }
}

// proves: T18
#[test]
fn every_port_is_on_127_0_0_1() {
    let mut ports = 0;
    for (name, service) in services() {
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
            ports += 1;
        }
    }
    assert!(ports > 8);
}

/// Returns how the native stack starts each component.
fn native() -> [(&'static str, Spec); 5] {
    let tools = Tools {
        binaries: "bin".into(),
        tempo: None,
        kafka: "kafka".into(),
        bugsink: "bugsink".into(),
        traefik: "traefik".into(),
        locust: "locust".into(),
        speed: 1,
        root: root().to_owned(),
    };
    let data = Path::new("/data");
    let addresses = Addresses {
        traces: "127.0.0.1:1",
        database_url: "postgres://u@127.0.0.1:2/books",
        kafka: "127.0.0.1:3",
        bookapp: "http://127.0.0.1:4",
        backend: "http://127.0.0.1:5",
    };
    [
        (
            "otel-collector",
            native::collector(&tools, data, &addresses).unwrap(),
        ),
        ("prometheus", native::prometheus(&tools, data)),
        ("alertmanager", alerting::alertmanager(&tools, data)),
        ("loki", native::loki(&tools, data)),
        ("tempo", native::tempo(&tools, "tempo".as_ref(), data)),
    ]
}

/// Returns the file names in the `--config`, `-config.file` and `--config.file` arguments of a
/// command.
fn configuration_files<'a>(args: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let files = args.filter_map(|arg| arg.trim_start_matches('-').strip_prefix("config"));
    let files = files.filter_map(|arg| arg.trim_start_matches(".file").strip_prefix('='));
    let names = files.filter_map(|path| path.rsplit('/').next());
    let form = "${COLLECTOR_FORM:-core}.yaml";
    names
        .map(|name| if name == form { "core.yaml" } else { name })
        .collect()
}

#[test]
fn both_stacks_read_the_same_files() {
    let services = services();
    for (name, spec) in native() {
        let native = spec.args.iter().filter_map(|arg| arg.to_str());
        let native = configuration_files(native);
        let mut compose = configuration_files(strings(&services[name]["command"]).into_iter());
        if name == "otel-collector" {
            // In compose, the collector of the containers reads their files.
            compose.insert("console.yaml");
        }
        assert!(!native.is_empty(), "{name}");
        assert_eq!(native, compose, "{name}");
    }
}

#[test]
fn both_stacks_publish_the_same_ports() {
    let services = services();
    for (name, url) in [
        ("prometheus", PROMETHEUS),
        ("alertmanager", ALERTMANAGER),
        ("loki", LOKI),
        ("otel-collector", COLLECTOR),
        ("tempo", native::TEMPO),
        ("bugsink", BUGSINK),
    ] {
        let address = url.trim_start_matches("http://");
        let port = address.rsplit(':').next().unwrap();
        let published = format!("{address}:{port}");
        assert!(
            strings(&services[name]["ports"]).contains(&&*published),
            "{name}: {published}"
        );
    }
}

// proves: B22 N6
#[test]
fn errors_go_to_the_stack_s_own_bugsink_by_default() {
    let project = fs::read_to_string(root().join("stack/bugsink/project.py")).unwrap();
    let key = project.split("KEY = \"").nth(1).unwrap();
    let key = key.split('"').next().unwrap();
    let services = services();
    for service in ["bookapp", "backend"] {
        let dsn = services[service]["environment"]["SENTRY_DSN"].as_str();
        let default = format!("${{SENTRY_DSN-http://{key}@bugsink:8002/1}}");
        assert_eq!(dsn, Some(&*default));
    }
    let started = strings(&services["bugsink"]["command"]);
    assert_eq!(started, ["/bugsink/serve", "/data", "0.0.0.0:8002"]);
    let requirements = fs::read_to_string(root().join("stack/bugsink/requirements.txt")).unwrap();
    let image = services["bugsink"]["image"].as_str().unwrap();
    assert_eq!(
        requirements.trim().replace("==", ":"),
        image.replace("bugsink/", "")
    );
}

/// Both stacks set the same variables, except for bind addresses in containers and short intervals
/// in tests.
#[test]
fn both_stacks_set_the_same_environment() {
    let services = services();
    let (_, collector) = &native()[0];
    let native: BTreeSet<_> = collector
        .env
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let compose = BTreeSet::from_iter(environment(&services["otel-collector"]));
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| {
        a.difference(b)
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    // The native stack uses random database ports and names and short intervals. For the variables
    // that only compose sets, it uses the defaults.
    assert_eq!(
        only(&native, &compose),
        [
            "CONSOLE_LOGS",
            "INFRA_INTERVAL",
            "OTELCOL_FLUSH_INTERVAL",
            "POSTGRES_DB",
            "POSTGRES_PORT",
            "TAIL_SAMPLING_DECISION_WAIT"
        ]
    );
    assert_eq!(
        only(&compose, &native),
        [
            "GATEWAY_HOST",
            "GOMEMLIMIT",
            "JAEGER_OTLP_ENDPOINT",
            "LOKI_OTLP_ENDPOINT",
            "OTELCOL_BIND",
            "OTELCOL_QUEUE_SIZE",
            "PROMETHEUS_OTLP_ENDPOINT",
            "TAIL_SAMPLING_BASELINE_PERCENT"
        ]
    );
    let sources = [
        include_str!("../../../testbed/src/system.rs"),
        include_str!("../../src/stack/native.rs"),
    ]
    .concat();
    for service in ["bookapp", "backend"] {
        for name in environment(&services[service]) {
            assert!(
                sources.contains(&format!("\"{name}\"")),
                "{service}: the native stack does not set {name}"
            );
        }
    }
}

/// Without the label, all containers would write one series.
#[test]
fn the_container_name_is_a_label_in_prometheus() {
    let prometheus = yaml("stack/prometheus/prometheus.yaml");
    let promoted = strings(&prometheus["otlp"]["promote_resource_attributes"]);
    assert!(promoted.contains(&"container.name"), "{promoted:?}");
}

#[test]
fn every_mounted_file_exists() {
    for (name, service) in services() {
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            let is_file = source.starts_with("./");
            assert!(!is_file || root().join(source).exists(), "{name}: {volume}");
            assert!(!is_file || volume.ends_with(":ro"), "{name}: {volume}");
        }
    }
}
