//! Tests of the HTTP API of the details.

use book_events::BookAdded;
use serde_json::Value;

use crate::helpers::spawn_worker;

#[tokio::test]
async fn details_are_returned_in_the_order_of_their_ids() {
    let worker = spawn_worker().await;
    for id in [3, 1] {
        worker
            .publish(&BookAdded::now(id, "load-42".to_owned()))
            .await;
    }
    worker.wait_for_rows("book_details", 2).await;
    let details: Vec<Value> = worker.get("/details?ids=3,2,1").await.json().await.unwrap();
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
    let too_many = format!("/details?ids={}", vec!["1"; 1001].join(","));
    for (status, path) in [
        (404, "/details/4711"),
        (404, "/details/x"),
        (422, "/details"),
        (422, "/details?ids=1,x"),
        (422, &*too_many),
        (404, "/nothing"),
    ] {
        let response = worker.get(path).await;
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
