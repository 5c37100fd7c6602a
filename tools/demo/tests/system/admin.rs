//! Tests of the admin listener: metrics, connections, and the log filter.

use reqwest::StatusCode;
use testbed::{System, eventually, system::http};

use crate::helpers::{self, SOON};

// proves: R4 L37
#[tokio::test]
async fn the_metrics_can_be_scraped_on_a_port_of_their_own() {
    let system = helpers::start().await;
    get(&format!("{}/books/1", system.bookapp.url)).await;
    for (service, name) in [(&system.bookapp, "bookapp"), (&system.backend, "backend")] {
        let (status, text) = get(&format!("{}/metrics", service.admin_url)).await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains(&format!("service_name=\"{name}\"")), "{text}");
        assert!(text.contains("\nprocess_memory_usage_bytes{"), "{text}");
        let (status, _) = get(&format!("{}/metrics", service.url)).await;
        assert_eq!(
            status,
            StatusCode::NOT_FOUND,
            "the API listener serves no metrics"
        );
    }
    let (_, text) = get(&format!("{}/metrics", system.bookapp.admin_url)).await;
    let counted = text.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count{")
            && line.contains("http_route=\"/books/{id}\"")
    });
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{text}");
}

#[tokio::test]
async fn without_the_prometheus_exporter_there_are_no_metrics_to_scrape() {
    let system = helpers::start_with(|spec| spec.env("OTEL_METRICS_EXPORTER", "otlp")).await;
    let (status, text) = get(&format!("{}/metrics", system.bookapp.admin_url)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("OTEL_METRICS_EXPORTER"), "{text}");
}

// proves: R3
#[tokio::test]
async fn many_requests_on_one_connection_are_one_connection() {
    let system = helpers::start().await;
    let connection_metrics = async || {
        let (_, text) = get(&format!("{}/metrics", system.bookapp.admin_url)).await;
        let sum = |series: &str| {
            let lines = text.lines().filter(|line| line.starts_with(series));
            let api = lines.filter(|line| line.contains("telemetry_common_listener=\"api\""));
            api.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum::<f64>()
        };
        [
            sum("telemetry_common_connection_opened_total{"),
            sum("telemetry_common_connection_active{"),
            sum("telemetry_common_connection_duration_seconds_count{"),
            sum("telemetry_common_connection_io_bytes_total{"),
        ]
    };
    let before = connection_metrics().await;
    let client = http().unwrap();
    for _ in 0..5 {
        let response = client
            .get(format!("{}/books/1", system.bookapp.url))
            .send()
            .await;
        response.unwrap().bytes().await.unwrap();
    }
    let during = connection_metrics().await;
    let open = |now: [f64; 4], then: [f64; 4]| (now[0] - then[0], now[1] - then[1]);
    assert_eq!(open(during, before), (1.0, 1.0), "five requests");
    drop(client);
    let closed = async || {
        let after = connection_metrics().await;
        let recorded = after[2] - before[2] >= 1.0 && after[3] - before[3] > 1_000.0;
        (recorded && after[1] < during[1]).then_some(())
    };
    eventually(
        SOON,
        "the metrics of the closed connection are recorded",
        closed,
    )
    .await
    .unwrap();
}

// proves: N25 L19
#[tokio::test]
async fn the_console_s_filter_changes_while_the_process_runs_and_nothing_else() {
    let system = helpers::start_with(|spec| spec.env("RUST_LOG", "warn")).await;
    let url = format!("{}/books/1", system.bookapp.url);
    let count_lines = |text: &str| {
        let lines = system.bookapp.process.lines();
        lines.iter().filter(|line| line.contains(text)).count()
    };
    get(&url).await;
    assert_eq!(
        filter(&system, None).await,
        (StatusCode::OK, "warn".to_owned())
    );
    assert_eq!(
        count_lines("GET /books/{id} responded"),
        0,
        "the access log is not logged at warn"
    );
    exported(&system, 1).await;

    let (status, now) = filter(&system, Some("info")).await;
    assert_eq!((status, &*now), (StatusCode::OK, "info"));
    get(&url).await;
    let logged = || async { (count_lines("GET /books/{id} responded") == 1).then_some(()) };
    eventually(SOON, "the access log line", logged)
        .await
        .unwrap();
    assert_eq!(count_lines("filter was"), 1, "the change is logged");

    let (status, problem) = filter(&system, Some("bookapp=loud")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    filter(&system, Some("off")).await;
    get(&url).await;
    exported(&system, 3).await;
    assert_eq!(
        count_lines("GET /books/{id} responded"),
        1,
        "the console logs nothing"
    );
}

#[tokio::test]
async fn writes_need_the_token_if_one_is_set() {
    let system = helpers::start_with(|spec| spec.env("ADMIN_TOKEN", "s3cr3t")).await;
    assert_eq!(
        filter(&system, None).await.0,
        StatusCode::OK,
        "reads need no token"
    );
    assert_eq!(
        filter(&system, Some("off")).await.0,
        StatusCode::UNAUTHORIZED
    );
    let url = format!("{}/log-filter", system.bookapp.admin_url);
    for (token, status) in [
        ("wrong!", StatusCode::UNAUTHORIZED),
        ("s3cr3t", StatusCode::OK),
    ] {
        let request = http().unwrap().put(&url).bearer_auth(token).body("debug");
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

/// Reads the filter of the console, or sets it to `new`.
async fn filter(system: &System, new: Option<&'static str>) -> (StatusCode, String) {
    let url = format!("{}/log-filter", system.bookapp.admin_url);
    let request = match new {
        None => http().unwrap().get(url),
        Some(filter) => http().unwrap().put(url).body(filter),
    };
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// Waits until this number of access log records and spans has arrived at the sink.
async fn exported(system: &System, count: usize) {
    let arrived = || async {
        let logs = system.sink.logs().into_iter();
        let access = logs.filter(|log| log.body.starts_with("GET /books/{id} responded"));
        let spans = system.sink.spans().into_iter();
        let spans = spans.filter(|span| span.name == "GET /books/{id}");
        (access.count() == count && spans.count() == count).then_some(())
    };
    let what = "an access log record and a span of each request";
    eventually(SOON, what, arrived).await.unwrap();
}

async fn get(url: &str) -> (StatusCode, String) {
    let response = http().unwrap().get(url).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}
