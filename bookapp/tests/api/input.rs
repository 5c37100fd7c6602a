//! Tests of invalid input: the response is a problem that names the field, and nothing is stored.

use serde_json::{Value, json};
use testbed::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::helpers::{SOON, problem, spawn_app, spawn_app_with};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_bad_book_is_rejected_by_name_and_not_stored() {
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
        (
            422,
            "status",
            json!({"title": "T", "author": "Ann", "status": 7}),
        ),
        (
            422,
            "status",
            json!({"title": "T", "author": "Ann", "status": null}),
        ),
        (422, "", json!([])),
    ] {
        let response = app.post("/books/add", &body).await;
        assert_eq!(response.status(), status, "{body}");
        let detail = problem(response).await["detail"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(detail.contains(mentions), "{detail}");
    }
    for (status, media_type, body) in [
        (400, JSON, b"{\"title\":".to_vec()),
        (400, JSON, b"\xff\xfe".to_vec()),
        (415, "text/plain", b"{}".to_vec()),
        (413, JSON, vec![b' '; 3 << 20]),
    ] {
        let response = app.post_raw("/books/add", media_type, body).await;
        assert_eq!(response.status(), status);
        problem(response).await;
    }
    assert_eq!(app.count("books").await, 92);
    assert_eq!(app.count("outbox").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_bad_bulk_is_rejected_completely() {
    let app = spawn_app().await;
    let good = json!({"title": "T", "author": "A"});
    for (mentions, body) in [
        ("from 1 to 1000", json!([])),
        ("from 1 to 1000", json!(vec![good.clone(); 1001])),
        ("[1].title", json!([good, {"title": " ", "author": "A"}])),
        ("[1]", json!([good, 7])),
        ("[1].author", json!([good, {"title": "T", "author": null}])),
    ] {
        let response = app.post("/books/bulk_add", &body).await;
        assert_eq!(response.status(), 422);
        let detail = problem(response).await["detail"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(detail.contains(mentions), "{detail}");
    }
    assert_eq!(app.count("books").await, 92);
    assert_eq!(app.count("outbox").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_bad_change_is_rejected_by_name() {
    let app = spawn_app().await;
    let before: Value = app.get("/books/1").await.json().await.unwrap();
    for (mentions, body) in [
        ("title", json!({"title": ""})),
        ("title", json!({"title": null})),
        ("author", json!({"author": "x".repeat(501)})),
        ("status", json!({"status": "burnt"})),
        ("status", json!({"status": null})),
    ] {
        let response = app.patch("/books/1", &body).await;
        assert_eq!(response.status(), 422, "{body}");
        let detail = problem(response).await["detail"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(detail.contains(mentions), "{detail}");
    }
    let after: Value = app.get("/books/1").await.json().await.unwrap();
    assert_eq!(after, before);
    app.finish().await;
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let app = spawn_app().await;
    for (method, path, allowed) in [
        ("PUT", "/books/7", "PATCH"),
        ("BREW", "/books/7", "GET"),
        ("DELETE", "/books", "GET"),
        ("GET", "/books/bulk_add", "POST"),
    ] {
        let response = app.request(method, path).await;
        assert_eq!(response.status(), 405, "{method} {path}");
        assert!(
            response.headers()["allow"]
                .to_str()
                .unwrap()
                .contains(allowed)
        );
        problem(response).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_dawdles_is_not_waited_for() {
    let app = spawn_app().await;
    let address = app.url.trim_start_matches("http://").to_owned();
    let body = "POST /books/add HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        connection: close\r\ncontent-length: 100\r\n\r\n{";
    let (nothing, headers, body) = tokio::join!(
        send_partially(&address, ""),
        send_partially(&address, "GET /books HTTP/1.1\r\nhost: x\r\n"),
        send_partially(&address, body),
    );
    assert_eq!(
        nothing, "",
        "the server closes the connection without a response"
    );
    assert!(
        headers.is_empty() || headers.starts_with("HTTP/1.1 408"),
        "{headers}"
    );
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(body.contains("application/problem+json"), "{body}");
    app.finish().await;
}

/// Sends the beginning of a request and no more. Returns the response when the server closes the
/// connection.
async fn send_partially(address: &str, beginning: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    let mut response = String::new();
    let reading = stream.read_to_string(&mut response);
    let closed = timeout(SOON, reading).await;
    closed.expect("the server closes the connection").unwrap();
    response
}

/// A proxy that still sends the body when the response comes would otherwise report a broken connection.
#[tokio::test]
async fn a_rejected_body_is_read_to_its_end() {
    let app = spawn_app().await;
    let address = app.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (half, size) = (3 << 20, 6 << 20);
    let head = format!(
        "POST /books/add HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; half]).await.unwrap();
    let mut response = vec![0; 12];
    let rejected = timeout(SOON, stream.read_exact(&mut response)).await;
    rejected.unwrap().unwrap();
    assert_eq!(response, b"HTTP/1.1 413");

    stream.write_all(&vec![b' '; size - half]).await.unwrap();
    let next = b"GET /books/1 HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
    stream.write_all(next).await.unwrap();
    let mut rest = String::new();
    let read = timeout(SOON, stream.read_to_string(&mut rest)).await;
    read.unwrap().unwrap();
    assert!(rest.contains("HTTP/1.1 200"), "{rest}");
    app.finish().await;
}

#[tokio::test]
async fn headers_have_a_size() {
    let app = spawn_app().await;
    let huge = "x".repeat(200_000);
    let request = reqwest::Client::builder()
        .build()
        .unwrap()
        .get(format!("{}/books", app.url));
    let response = request.header("x-huge", huge).send().await.unwrap();
    assert_eq!(response.status(), 431);
    app.finish().await;
}

#[tokio::test]
async fn requests_over_the_limits_get_503_and_slow_ones_504() {
    let app = spawn_app_with(&["--max-concurrent-requests=1", "--request-timeout=500ms"]).await;
    let mut lock = app.pool.begin().await.unwrap();
    sqlx::query("lock table books")
        .execute(&mut *lock)
        .await
        .unwrap();
    let (first, second) = tokio::join!(app.get("/books/1"), async {
        tokio::task::yield_now().await;
        eventually(SOON, "the first request waits for the lock", || async {
            let waiting = "pg_stat_activity where wait_event_type = 'Lock'";
            (app.count(waiting).await > 0).then_some(())
        })
        .await
        .unwrap();
        app.get("/books/2").await
    });
    for (response, status, detail) in [
        (second, 503, "too many concurrent requests"),
        (first, 504, "the request timed out"),
    ] {
        assert_eq!(response.status(), status);
        let may_retry = response.headers().contains_key("retry-after");
        assert_eq!(may_retry, status == 503);
        assert_eq!(problem(response).await["detail"], detail);
    }
    lock.rollback().await.unwrap();
    assert_eq!(app.get("/books/1").await.status(), 200);
    app.finish().await;
}

#[tokio::test]
async fn a_bad_page_is_rejected() {
    let app = spawn_app().await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=-1",
        "after=2147483648",
    ] {
        let response = app.get(&format!("/books?{query}")).await;
        assert_eq!(response.status(), 422, "{query}");
        let detail = problem(response).await["detail"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            detail.contains(query.split('=').next().unwrap()),
            "{detail}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem() {
    let app = spawn_app().await;
    let response = app.get("/nothing/here").await;
    assert_eq!(response.status(), 404);
    problem(response).await;
    let response = app.get("/books/add/x").await;
    assert_eq!(response.status(), 404);
    problem(response).await;
    let response = app.post("/books/7/details", &json!({})).await;
    assert_eq!(response.status(), 405);
    assert!(
        response.headers()["allow"]
            .to_str()
            .unwrap()
            .contains("GET")
    );
    problem(response).await;
    app.finish().await;
}

#[tokio::test]
async fn no_response_may_be_stored() {
    let app = spawn_app().await;
    for (path, status) in [
        ("/books/1", 200),
        ("/books", 200),
        ("/books/4711", 404),
        ("/books?limit=0", 422),
        ("/nothing", 404),
        ("/health/ready", 200),
        ("/error-injection", 200),
    ] {
        let response = app.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
    }
    app.finish().await;
}

#[tokio::test]
async fn without_the_setting_there_is_no_fault_injection() {
    let app = spawn_app_with(&["--fault-injection=false"]).await;
    sqlx::query(
        "insert into fault_rules (service, endpoint_pattern, http_method, kind, error_rate, error_code)
         values ('bookapp', '/books/{id}', 'GET', 'error', 1, 500)",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let rule = json!({"endpoint_pattern": "/books", "http_method": "GET", "error_rate": 1,
        "error_code": 500});
    assert_eq!(app.get("/error-injection").await.status(), 404);
    assert_eq!(app.post("/error-injection", &rule).await.status(), 404);
    assert_eq!(app.get("/books/1").await.status(), 200);
    app.finish().await;
}

#[tokio::test]
async fn the_number_of_fault_rules_is_limited() {
    let app = spawn_app().await;
    sqlx::query(
        "insert into fault_rules (service, endpoint_pattern, http_method, kind, error_rate, error_code)
         select 'bookapp', '/' || n, 'GET', 'error', 0, 500 from generate_series(1, 100) n",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let rule = json!({"endpoint_pattern": "/books", "http_method": "GET", "error_rate": 1,
        "error_code": 500});
    let response = app.post("/error-injection", &rule).await;
    assert_eq!(response.status(), 409);
    let detail = problem(response).await["detail"].clone();
    assert_eq!(detail, "there are 100 fault rules, remove one first");
    app.finish().await;
}
