//! Tests of the commands of the binaries that an image's health check or an operator runs.

use testbed::system::{Dependencies, Service};
use testbed::{
    process::{Process, Spec},
    sink::Sink,
};

use crate::helpers::{self, SOON};

/// Runs a command until it exits. Returns its exit code and its output lines.
async fn run(spec: &Spec) -> (Option<i32>, Vec<String>) {
    let process = Process::start(spec).unwrap();
    let status = process.wait(SOON).await.unwrap();
    (status.code(), process.lines())
}

#[tokio::test]
async fn the_health_check_succeeds_only_while_the_service_is_ready() {
    let dependencies = Dependencies::for_test().await.unwrap();
    let sink = Sink::start().await.unwrap();
    let binaries = helpers::binaries().await;
    for (name, program) in [
        ("bookapp", binaries.bookapp()),
        ("backend", binaries.backend()),
    ] {
        let service = Service::start(&dependencies.service_spec(name, program, &sink))
            .await
            .unwrap();
        service.wait_until_ready().await.unwrap();
        // The image's health check passes only the command; the address comes from the environment.
        let address = service.url.trim_start_matches("http://").to_owned();
        let check = Spec::new("healthcheck", program)
            .arg("healthcheck")
            .env("DATABASE_URL", dependencies.database_url())
            .env("LISTEN_ADDR", address);
        assert_eq!(run(&check).await, (Some(0), vec![]), "{name}");

        drop(service);
        let unreachable = check.env("LISTEN_ADDR", "127.0.0.1:1");
        assert_eq!(run(&unreachable).await, (Some(1), vec![]), "{name}");
    }
}

#[tokio::test]
async fn version_and_openapi_need_no_setting_and_no_dependency() {
    let binaries = helpers::binaries().await;
    for (name, program) in [
        ("bookapp", binaries.bookapp()),
        ("backend", binaries.backend()),
    ] {
        let version = Spec::new("version", program).arg("--version");
        let (code, lines) = run(&version).await;
        assert_eq!(code, Some(0), "{lines:?}");
        assert_eq!(lines, [format!("{name} {}", env!("CARGO_PKG_VERSION"))]);

        let (code, lines) = run(&Spec::new("openapi", program).arg("openapi")).await;
        assert_eq!(code, Some(0), "{lines:?}");
        let document: serde_json::Value = serde_json::from_str(&lines.join("\n")).unwrap();
        assert!(document["openapi"].is_string(), "{document}");
    }
}

#[tokio::test]
async fn dead_letters_are_replayed_by_a_command() {
    let dependencies = Dependencies::for_test().await.unwrap();
    let sink = Sink::start().await.unwrap();
    let replay = dependencies
        .service_spec("replay", helpers::binaries().await.backend(), &sink)
        .arg("replay-dead-letters")
        .arg("--dry-run");
    let (code, lines) = run(&replay).await;
    assert_eq!(code, Some(0), "{lines:?}");
}
