//! Tests of the memory that concurrent requests take.

use std::{fs, time::Duration};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use testbed::system::http;

use crate::helpers;

/// The memory of the service's container in docker-compose.yaml, in KiB.
const MEMORY: u64 = 96 << 10;

#[tokio::test]
async fn many_large_bodies_fit_into_the_memory_of_the_container() {
    let system = helpers::start().await;
    let url = format!("{}/books/bulk_add", system.bookapp.url);
    let text = "x".repeat(500);
    let books = vec![json!({"title": text, "author": text}); 1000];
    let body = serde_json::to_vec(&books).unwrap();
    assert!(
        body.len() > 1_000_000 && body.len() < 1 << 20,
        "{}",
        body.len()
    );
    let body = bytes::Bytes::from(body);
    let client = http().unwrap();
    let request = || async {
        let request = client.post(&url).header("content-type", "application/json");
        let request = request.body(body.clone()).timeout(Duration::from_mins(1));
        request.send().await.map(|response| response.status())
    };
    let answers = join_all((0..512).map(|_| request())).await;
    let count = |status: StatusCode| {
        let is_status = |answer: &&reqwest::Result<StatusCode>| {
            answer.as_ref().is_ok_and(|answer| *answer == status)
        };
        answers.iter().filter(is_status).count()
    };
    let added = count(StatusCode::CREATED);
    assert!(added >= 8, "{answers:?}");
    assert!(count(StatusCode::SERVICE_UNAVAILABLE) > 0, "{answers:?}");
    let peak = peak_memory(system.bookapp.process.id());
    assert!(
        peak < MEMORY,
        "{peak} KiB at most, {added} requests added books"
    );
}

/// Returns the maximum resident memory of a process, in KiB.
fn peak_memory(process: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let (peak, _) = line.unwrap().trim().split_once(' ').unwrap();
    peak.parse().unwrap()
}
