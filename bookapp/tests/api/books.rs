//! Tests of adding, reading, changing, removing and listing books.

use book_events::BookEvent;
use opentelemetry::trace::Status;
use rdkafka::Message;
use serde_json::{Value, json};
use telemetry_common::testing::{self, attribute};

use crate::helpers::{problem, spawn_app};

// proves: B1 B3 B32
#[tokio::test]
async fn an_added_book_can_be_read() {
    let app = spawn_app().await;
    let book =
        json!({"title": "紅楼夢 🏮", "author": "曹雪芹", "status": "borrowed", "isbn": "ignored"});
    let response = app.post("/books/add", &book).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], "/books/93");
    assert_eq!(response.json::<i32>().await.unwrap(), 93);
    let read: Value = app.get("/books/93").await.json().await.unwrap();
    let expected =
        json!({"id": 93, "title": "紅楼夢 🏮", "author": "曹雪芹", "status": "borrowed"});
    assert_eq!(read, expected);
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_book_is_404() {
    let app = spawn_app().await;
    for path in [
        "/books/4711",
        "/books/0",
        "/books/-1",
        "/books/x",
        "/books/2147483648",
    ] {
        let response = app.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        problem(response).await;
    }
    app.finish().await;
}

// proves: B3
#[tokio::test]
async fn a_change_leaves_what_is_absent_as_it_is() {
    let app = spawn_app().await;
    let book = json!({"title": "Emma", "author": "Jane Austen", "status": "lost"});
    app.post("/books/add", &book).await;
    for (patch, title, author, status) in [
        (json!({}), "Emma", "Jane Austen", "lost"),
        (
            json!({"title": "Émma 🌹"}),
            "Émma 🌹",
            "Jane Austen",
            "lost",
        ),
        (
            json!({"author": "J. Austen", "status": "borrowed"}),
            "Émma 🌹",
            "J. Austen",
            "borrowed",
        ),
    ] {
        let response = app.patch("/books/93", &patch).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.json::<i32>().await.unwrap(), 1);
        let read: Value = app.get("/books/93").await.json().await.unwrap();
        let expected = json!({"id": 93, "title": title, "author": author, "status": status});
        assert_eq!(read, expected);
    }
    let response = app.patch("/books/4711", &json!({"title": "T"})).await;
    assert_eq!(response.status(), 404);
    problem(response).await;
    app.finish().await;
}

// proves: B3
#[tokio::test]
async fn a_removed_book_is_gone() {
    let app = spawn_app().await;
    let response = app.delete("/books/7").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "");
    for response in [app.get("/books/7").await, app.delete("/books/7").await] {
        assert_eq!(response.status(), 404);
        problem(response).await;
    }
    app.finish().await;
}

// proves: B3 N1
#[tokio::test]
async fn many_books_are_added_by_two_statements_and_each_is_announced() {
    let app = spawn_app().await;
    let books: Vec<_> = (0..1000)
        .map(|n| json!({"title": format!("T{n}"), "author": "A"}))
        .collect();
    let (response, spans) = testing::spans_of(app.post("/books/bulk_add", &json!(books))).await;
    assert_eq!(response.status(), 201);
    let ids: Vec<i32> = response.json().await.unwrap();
    assert_eq!(ids.len(), 1000);
    for position in [0, 1, 499, 999] {
        let book: Value = app
            .get(&format!("/books/{}", ids[position]))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            book["title"],
            format!("T{position}"),
            "ids are in the order of the books"
        );
    }
    let spans = spans.wait_for("POST /books/bulk_add").await;
    assert_eq!(spans.all_named("create book.events.v1").len(), 1000);
    spans.named("INSERT books");
    spans.named("INSERT outbox");
    let mut published: Vec<i32> = app
        .published(1000)
        .await
        .iter()
        .map(|message| BookEvent::decode(message.payload()).unwrap().book_id)
        .collect();
    published.sort_unstable();
    assert_eq!(published, ids);
    app.finish().await;
}

#[tokio::test]
async fn a_page_skips_and_doubles_nothing_while_others_write() {
    let app = spawn_app().await;
    let mut path = "/books?limit=10".to_owned();
    let mut ids: Vec<i64> = Vec::new();
    for iteration in 0.. {
        let response = app.get(&path).await;
        let next = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let books: Vec<Value> = response.json().await.unwrap();
        ids.extend(books.iter().map(|book| book["id"].as_i64().unwrap()));
        let Some(next) = next else { break };
        path = next
            .split_once('>')
            .unwrap()
            .0
            .trim_start_matches('<')
            .to_owned();
        // Meanwhile, other clients add books and remove both a listed and an unlisted book.
        if iteration < 5 {
            app.add_book("Added meanwhile", "Somebody").await;
            app.delete(&format!("/books/{}", ids[ids.len() - 1])).await;
            app.delete(&format!("/books/{}", 92 - iteration)).await;
        }
    }
    let expected: Vec<i64> = (1..=87).chain(93..=97).collect();
    assert_eq!(ids, expected);
    app.finish().await;
}

#[tokio::test]
async fn the_list_goes_page_by_page() {
    let app = spawn_app().await;
    let mut path = "/books?limit=40".to_owned();
    let mut ids: Vec<i64> = Vec::new();
    loop {
        let response = app.get(&path).await;
        assert_eq!(response.status(), 200);
        let next = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let books: Vec<Value> = response.json().await.unwrap();
        ids.extend(books.iter().map(|book| book["id"].as_i64().unwrap()));
        let Some(next) = next else { break };
        let (target, relation) = next.split_once("; ").unwrap();
        assert_eq!(relation, "rel=\"next\"");
        path = target
            .trim_start_matches('<')
            .trim_end_matches('>')
            .to_owned();
    }
    assert_eq!(ids, (1..=92).collect::<Vec<_>>());
    app.finish().await;
}

// proves: T13 L32
#[tokio::test]
async fn a_failure_marks_its_span_and_the_server_span_and_is_logged_once() {
    let app = spawn_app().await;
    sqlx::raw_sql("alter table outbox rename to elsewhere")
        .execute(&app.pool)
        .await
        .unwrap();
    let book = json!({"title": "Ubik", "author": "Philip K. Dick"});
    let (response, spans) = testing::spans_of(app.post("/books/add", &book)).await;
    assert_eq!(response.status(), 500);
    let problem = problem(response).await;
    assert_eq!(
        problem["detail"], "could not add the book",
        "the response does not contain the cause"
    );
    assert_eq!(
        app.count("books").await,
        92,
        "the book is not stored without its event"
    );

    let spans = spans.wait_for("POST /books/add").await;
    let is_error = |status: &Status| matches!(status, Status::Error { .. });
    let failed: Vec<_> = spans
        .iter()
        .filter(|span| is_error(&span.status))
        .map(|span| &*span.name)
        .collect();
    // From the failed statement to the server span without a gap; the last span is the client's.
    let chain = [
        "INSERT outbox",
        "create book.events.v1",
        "books.add",
        "POST /books/add",
        "POST",
    ];
    assert_eq!(failed, chain);
    let insert = spans.named("INSERT outbox");
    let undefined_table = Some(&"42P01".into());
    assert_eq!(attribute(insert, "error.type"), undefined_table);
    assert_eq!(
        attribute(insert, "db.response.status_code"),
        undefined_table
    );
    let logs = testing::logs_of(spans.trace_id());
    let errors = logs
        .iter()
        .filter(|log| log.record.severity_text() == Some("ERROR"))
        .count();
    assert_eq!(errors, 1);
    sqlx::raw_sql("alter table elsewhere rename to outbox")
        .execute(&app.pool)
        .await
        .unwrap();
    app.finish().await;
}
