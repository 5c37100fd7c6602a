//! Bad input: a problem that names the field, and nothing stored.

use serde_json::json;

use crate::helpers::{problem, spawn_app};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_bad_book_is_refused_by_name_and_not_stored() {
    let app = spawn_app().await;
    let long = "x".repeat(501);
    for (status, mentions, body) in [
        (422, "title", json!({"author": "Ann"})),
        (422, "author", json!({"title": "T"})),
        (422, "title", json!({"title": 7, "author": "Ann"})),
        (422, "title", json!({"title": "", "author": "Ann"})),
        (422, "author", json!({"title": "T", "author": "  \t"})),
        (422, "title", json!({"title": long, "author": "Ann"})),
        (422, "title", json!({"title": "a\0b", "author": "Ann"})),
        (
            422,
            "status",
            json!({"title": "T", "author": "Ann", "status": "burnt"}),
        ),
        (422, "", json!([])),
    ] {
        let answer = app.post("/books/add", &body).await;
        assert_eq!(answer.status(), status, "{body}");
        let detail = problem(answer).await["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(mentions), "{detail}");
    }
    for (status, media_type, body) in [
        (400, JSON, b"{\"title\":".to_vec()),
        (400, JSON, b"\xff\xfe".to_vec()),
        (415, "text/plain", b"{}".to_vec()),
        (413, JSON, vec![b' '; 3 << 20]),
    ] {
        let answer = app.post_raw("/books/add", media_type, body).await;
        assert_eq!(answer.status(), status);
        problem(answer).await;
    }
    assert_eq!(app.count("books").await, 92);
    assert_eq!(app.count("outbox").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_bad_page_is_refused() {
    let app = spawn_app().await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=-1",
        "after=2147483648",
    ] {
        let answer = app.get(&format!("/books?{query}")).await;
        assert_eq!(answer.status(), 422, "{query}");
        let detail = problem(answer).await["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(query.split('=').next().unwrap()),
            "{detail}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let app = spawn_app().await;
    let answer = app.get("/nothing/here").await;
    assert_eq!(answer.status(), 404);
    problem(answer).await;
    let answer = app.get("/books/add/x").await;
    assert_eq!(answer.status(), 404);
    problem(answer).await;
    let answer = app.post("/books/7/details", &json!({})).await;
    assert_eq!(answer.status(), 405);
    assert!(answer.headers()["allow"].to_str().unwrap().contains("GET"));
    problem(answer).await;
    app.finish().await;
}
