//! Tests of who may ask.

use otlp_viewer::{Capacity, Viewer};
use reqwest::header::{CONTENT_SECURITY_POLICY, HOST, ORIGIN};

use crate::helpers::start;

#[tokio::test]
async fn other_sites_and_other_names_of_this_machine_are_rejected() {
    let viewer = start().await;
    let url = viewer.viewer.url();
    let port = url.rsplit_once(':').unwrap().1.to_owned();
    for path in ["/", "/data/traces", "/v1/traces", "/api/1/envelope/"] {
        for (name, value, expected) in [
            (HOST, "rebound.example".to_owned(), 421),
            (HOST, format!("localhost.rebound.example:{port}"), 421),
            (ORIGIN, "http://other.example".to_owned(), 403),
            (ORIGIN, "null".to_owned(), 403),
            (ORIGIN, format!("http://localhost:{port}.example"), 403),
        ] {
            let request = viewer
                .http
                .post(format!("{url}{path}"))
                .header(&name, &value);
            let status = request.send().await.unwrap().status();
            assert_eq!(status, expected, "{path} with {name}: {value}");
        }
    }
    for (name, value) in [
        (HOST, format!("localhost:{port}")),
        (HOST, format!("[::1]:{port}")),
        (ORIGIN, url.clone()),
    ] {
        let request = viewer
            .http
            .get(format!("{url}/data/overview"))
            .header(&name, &value);
        assert_eq!(
            request.send().await.unwrap().status(),
            200,
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn the_page_loads_only_its_own_files() {
    let viewer = start().await;
    let page = viewer.http.get(viewer.viewer.url()).send().await.unwrap();
    let policy = page.headers()[CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.contains("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    let html = page.text().await.unwrap();
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "{html}"
    );
}

#[tokio::test]
async fn it_listens_on_loopback_addresses_only() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let refused = Viewer::start(&[everywhere], Capacity::default()).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("loopback"), "{error}");
}
