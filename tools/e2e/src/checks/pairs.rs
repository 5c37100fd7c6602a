//! Checks what one sees of the same slow request through a pair of services without instrumentation
//! and through one with it, and that docs/with-and-without.md shows it.

use std::fs;

use anyhow::{Context, Result, ensure};
use reqwest::header::HOST;
use testbed::{eventually, system::http, trace::Trace};

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    stack::TRAEFIK,
    table::Table,
};

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    for (host, id, what) in [
        (
            "uservice1.localhost",
            "11111111111111111111111111111111",
            "a pair without instrumentation: only the ingress's spans",
        ),
        (
            "uservice3.localhost",
            "33333333333333333333333333333333",
            "a pair with instrumentation: each part of the slow request",
        ),
    ] {
        table.check("Traefik", what, seen(stack, host, id).await);
    }
}

/// Sends a request to a pair through the ingress, and compares its trace with the document.
// proves: N19 T3 T4 T16
async fn seen(stack: &Stack, host: &str, id: &str) -> Result<String> {
    let request = http()?.get(TRAEFIK).header(HOST, host);
    let request = request.header("traceparent", format!("00-{id}-00f067aa0ba902b7-01"));
    let response = request.send().await?.error_for_status()?;
    ensure!(response.text().await? == "hello from the database\n");
    let document = fs::read_to_string(stack.root().join("docs/with-and-without.md"))?;
    let (_, shown) = document
        .split_once(host)
        .context("the host in the document")?;
    let (_, shown) = shown
        .split_once("```text\n")
        .context("the trace in the document")?;
    let (shown, _) = shown.split_once("```").context("the end of the trace")?;
    let shown = without_times(shown);
    let found = || async {
        let trace = backends::trace(stack, id).await.ok()?;
        let slow = trace
            .spans()
            .iter()
            .any(|span| span.end - span.start > 1_000_000_000);
        (slow && without_times(&trace.render()) == shown).then(|| duration(&trace))
    };
    let found = eventually(TIMEOUT, "the trace of the document", found).await;
    match found {
        Ok(duration) => Ok(duration),
        Err(error) => {
            let trace = backends::trace(stack, id).await?;
            Err(error.context(format!("the trace is\n{}", trace.render())))
        }
    }
}

fn duration(trace: &Trace) -> String {
    let longest = trace.spans().iter().map(|span| span.end - span.start).max();
    format!("{} ms", longest.unwrap_or_default() / 1_000_000)
}

/// Returns a rendered trace without durations and ids.
fn without_times(rendered: &str) -> String {
    let lines = rendered.lines().map(|line| {
        let words = line.split_whitespace();
        let words = words.filter(|word| *word != "ms" && !is_number_or_id(word));
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_number_or_id(word: &str) -> bool {
    let is_id = word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit());
    is_id || word.starts_with(|c: char| c.is_ascii_digit())
}
