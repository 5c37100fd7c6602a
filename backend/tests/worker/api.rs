//! Tests of the HTTP API of the details.

use book_events::BookEvent;
use serde_json::{Value, json};

use crate::helpers::spawn_worker;

#[tokio::test]
async fn details_are_returned_in_the_order_of_their_ids() {
    let worker = spawn_worker().await;
    for id in [3, 1] {
        worker
            .publish(&BookEvent::added(id, "load-42".to_owned()))
            .await;
    }
    worker.wait_for_rows("book_details", 2).await;
    let search = json!({"book_ids": [3, 2, 1]});
    let found = worker.post("/details/search", &search).await;
    let details: Vec<Value> = found.json().await.unwrap();
    let slugs: Vec<_> = details
        .iter()
        .map(|details| details["slug"].as_str().unwrap())
        .collect();
    assert_eq!(slugs, ["pride-and-prejudice", "emma"]);
    let one: Value = worker.get("/details/3").await.json().await.unwrap();
    assert_eq!(one, details[1]);
    worker.finish().await;
}

#[tokio::test]
async fn bad_requests_are_problems() {
    let worker = spawn_worker().await;
    let search = |book_ids: Value| ("/details/search", Some(json!({ "book_ids": book_ids })));
    for (status, (path, body)) in [
        (404, ("/details/4711", None)),
        (404, ("/details/x", None)),
        (405, ("/details/1", Some(json!({})))),
        (422, ("/details/search", Some(json!({})))),
        (422, search(json!([1, "x"]))),
        (422, search(json!(vec![1; 1001]))),
        (413, search(json!(vec![123_456_789; 2000]))),
        (404, ("/nothing", None)),
    ] {
        let response = match body {
            Some(body) => worker.post(path, &body).await,
            None => worker.get(path).await,
        };
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["trace_id"].as_str().unwrap().len(), 32);
    }
    worker.finish().await;
}
