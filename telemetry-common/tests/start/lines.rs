//! Tests of the lines that programs print.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::{exports, program, programs::lines::random_pairs, run};

/// Runs a program without exporters. Returns its output.
async fn output_of(name: &str, variables: &[(&str, &str)]) -> String {
    let spec = program(name).env("OTEL_SDK_DISABLED", "true");
    let spec = variables
        .iter()
        .fold(spec, |spec, (name, value)| spec.env(name, *value));
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    output
}

// proves: L9
#[tokio::test]
async fn the_context_layer_alone_prints_nothing_and_keeps_every_level() {
    for (read, expected) in [(None, 0), (Some(("READ", "yes")), 1)] {
        let variables: Vec<_> = [("RUST_LOG", "error")].into_iter().chain(read).collect();
        let output = output_of("lines::context_alone", &variables).await;
        let kept = output
            .matches("kept: shelf=fiction error=out of paper")
            .count();
        assert_eq!(kept, expected, "{output}");
        let rest = output.replace("kept: shelf=fiction error=out of paper", "");
        for text in ["fiction", "working", "broke"] {
            assert!(!rest.contains(text), "{output}");
        }
    }
}

#[tokio::test]
async fn exported_log_records_have_the_fields_of_spans_by_setting() {
    for (setting, expected) in [("console", false), ("console,otlp", true)] {
        let variable = ("LOG_SPAN_FIELDS", setting);
        let (sink, output) = exports("lines::one_request", &[variable]).await;
        let logs = sink.logs();
        let log = logs
            .iter()
            .find(|log| log.body == "the book is not on its shelf")
            .unwrap_or_else(|| panic!("{output}"));
        assert_eq!(log.attributes["shelf"], "fiction");
        assert_eq!(log.attributes.contains_key("book.id"), expected, "{log:?}");
        if expected {
            assert_eq!(log.attributes["book.id"], 7);
            assert_eq!(log.attributes["http.route"], "/books/{id}");
        }
    }
}

#[tokio::test]
async fn a_setting_removes_the_fields_of_spans_from_the_console() {
    for (setting, expected) in [("none", false), ("otlp", false), ("console", true)] {
        let variables = [("LOG_SPAN_FIELDS", setting), ("LOG_FORMAT", "text")];
        let (_, output) = exports("lines::one_request", &variables).await;
        assert_eq!(
            output.contains("book.id=7"),
            expected,
            "{setting}: {output}"
        );
        assert!(output.contains("fiction"), "{output}");
    }
}

/// Returns the lines of a program that logs one event for each random field.
async fn random_lines(format: &str) -> Vec<String> {
    let output = output_of("lines::random_fields", &[("LOG_FORMAT", format)]).await;
    let lines = output.lines().filter(|line| line.contains("INFO"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_field_is_read_back_from_json() {
    let (lines, pairs) = (random_lines("json").await, random_pairs());
    assert_eq!(lines.len(), pairs.len());
    for (line, (name, value)) in lines.iter().zip(pairs) {
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(fields[&name], value, "{line}");
    }
}

// proves: L15
#[tokio::test]
async fn every_field_is_read_back_from_logfmt() {
    let lines = random_lines("logfmt").await.join("\n");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logfmt-reader");
    let mut reader = Command::new("go")
        .args(["run", "."])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("go is installed (CONTRIBUTING.md)");
    let mut input = reader.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let read = reader.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(read.status.success());
    let read = String::from_utf8(read.stdout).unwrap();
    let pairs = random_pairs();
    assert_eq!(read.lines().count(), pairs.len());
    for (line, (name, value)) in read.lines().zip(pairs) {
        let read: Vec<(String, String)> = serde_json::from_str(line).unwrap();
        // A name cannot contain these characters.
        let is_allowed = |c: char| c > ' ' && c != '=' && c != '"' && !c.is_control();
        let name: String = name
            .chars()
            .map(|c| if is_allowed(c) { c } else { '_' })
            .collect();
        let name = if name.is_empty() {
            "_".to_owned()
        } else {
            name
        };
        assert!(read.contains(&(name, value)), "{line}");
    }
}
