//! Tests of the commands of the binaries that an image's health check or an operator runs.

use testbed::system::{Dependencies, Service};
use testbed::{
    eventually,
    postgres::query_number,
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
async fn migrate_prepares_an_empty_database_and_reports_a_database_that_is_away() {
    let dependencies = Dependencies::for_test_with_empty_database().await.unwrap();
    let program = helpers::binaries().await.bookapp();
    let migrate = Spec::new("migrate", program)
        .arg("migrate")
        .env("DATABASE_URL", dependencies.database_url())
        .env("OTEL_SDK_DISABLED", "true");
    for _ in 0..2 {
        let (code, lines) = run(&migrate).await;
        assert_eq!(code, Some(0), "{lines:?}");
        let books = query_number(dependencies.database_url(), "select count(*) from books");
        assert!(books.await.unwrap() > 0);
    }

    let away = migrate.env("DATABASE_URL", "postgres://nobody:s3cr3t@127.0.0.1:1/books");
    let (code, lines) = run(&away).await;
    assert_eq!(code, Some(1), "{lines:?}");
    let lines = lines.join("\n");
    assert!(lines.contains("could not migrate the database"), "{lines}");
    assert!(!lines.contains("s3cr3t"), "{lines}");
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
async fn the_commands_for_dead_letters_export_telemetry() {
    let dependencies = Dependencies::for_test().await.unwrap();
    let sink = Sink::start().await.unwrap();
    for (args, event) in [
        (
            ["dead-letters", "replay", "--all"],
            "bookapp.dead_letters.replayed",
        ),
        (
            ["dead-letters", "discard", "--all"],
            "bookapp.dead_letters.discarded",
        ),
    ] {
        let program = helpers::binaries().await.backend();
        let command = dependencies.service_spec("command", program, &sink);
        let command = args.into_iter().fold(command, Spec::arg);
        let (code, lines) = run(&command).await;
        assert_eq!(code, Some(0), "{lines:?}");
        let is_logged = || async {
            sink.logs()
                .iter()
                .any(|log| log.event == event)
                .then_some(())
        };
        eventually(SOON, event, is_logged).await.unwrap();
    }
}
