//! Tests of a rolling restart: with two instances of each service, a deployment is not noticed.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;
use testbed::{
    eventually,
    postgres::query_number,
    process::{Signal, Spec},
    proxy::Proxy,
    sink::Sink,
    system::{Dependencies, Service, http},
};
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};

use crate::helpers::{self, SOON};

/// The number of concurrent clients.
const CLIENTS: usize = 4;
/// The interval of the requests of a client.
const REQUEST_INTERVAL: Duration = Duration::from_millis(40);
/// The interval in which the load balancer asks whether an instance is ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum time in which no message is processed, in milliseconds.
const MAX_GAP: i64 = 2000;

/// A load balancer: knows which instances are ready, by their probes.
struct Balancer {
    /// The addresses of the instances, and whether they are ready.
    instances: [(String, AtomicBool); 2],
    next: AtomicUsize,
}

impl Balancer {
    async fn new([one, two]: &[Mutex<Service>; 2]) -> Self {
        let instance = async |service: &Mutex<Service>| {
            let url = service.lock().await.url.clone();
            (url, AtomicBool::new(true))
        };
        Self {
            instances: [instance(one).await, instance(two).await],
            next: AtomicUsize::new(0),
        }
    }

    /// Returns the URL of a ready instance, in turn.
    fn pick(&self) -> &str {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let mut turns = (next..next + 2).map(|turn| &self.instances[turn % 2]);
        let ready = turns.find(|(_, is_ready)| is_ready.load(Ordering::Relaxed));
        &ready.expect("an instance is ready").0
    }

    /// Probes the instances as long as it runs, and calls `changed` after each round.
    async fn probe(&self, changed: impl Fn()) {
        let client = http().unwrap();
        let mut rounds = interval(PROBE_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            for (url, is_ready) in &self.instances {
                let probe = client.get(format!("{url}/health/ready")).send().await;
                let ready = probe.is_ok_and(|response| response.status().is_success());
                is_ready.store(ready, Ordering::Relaxed);
            }
            changed();
        }
    }
}

// proves: N24
#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_request_and_leaves_no_gap() {
    let dependencies = Dependencies::for_test().await.unwrap();
    let sink = Sink::start().await.unwrap();
    let binaries = helpers::binaries().await;
    let drain = |spec: Spec| spec.env("SHUTDOWN_DRAIN_TIME", "1s");
    let backend = drain(dependencies.service_spec("backend", binaries.backend(), &sink));
    let backends = two_of(&backend).await;
    for service in &backends {
        wait_for_partitions(service).await;
    }
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let first = address(&backends[0].lock().await.url);
    let to_backend = Proxy::start(&first).unwrap();
    let bookapp = dependencies.service_spec("bookapp", binaries.bookapp(), &sink);
    let bookapp = drain(bookapp.env("BACKEND_URL", format!("http://{}", to_backend.address())));
    let bookapps = two_of(&bookapp).await;

    let (apis, workers) = (
        Balancer::new(&bookapps).await,
        Balancer::new(&backends).await,
    );
    let is_over = AtomicBool::new(false);
    let restarts = async {
        for service in &bookapps {
            restart(service).await;
        }
        for service in &backends {
            restart(service).await;
            wait_for_partitions(service).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let load = async {
        let clients = join_all((0..CLIENTS).map(|_| client(&apis, &is_over)));
        let (clients, ()) = tokio::join!(clients, restarts);
        clients.into_iter().sum::<i64>()
    };
    let balancing = async {
        let to_worker = || to_backend.set_target(&address(workers.pick()));
        tokio::join!(apis.probe(|| {}), workers.probe(to_worker))
    };
    let added = tokio::select! {
        added = load => added,
        _ = balancing => unreachable!("the probes never end"),
    };

    let url = dependencies.database_url();
    let processed = || async {
        let details = query_number(url, "select count(*) from book_details").await;
        (details.unwrap() == added).then_some(())
    };
    eventually(SOON, "all books are processed", processed)
        .await
        .unwrap();
    let gap = "select (extract(epoch from max(gap)) * 1000)::int8 from (
        select derived_at - lag(derived_at) over (order by derived_at) as gap from book_details
    ) as gaps";
    let gap = query_number(url, gap).await.unwrap();
    let delay = "select (extract(epoch from max(derived_at - created_at)) * 1000)::int8
        from book_details join outbox on key = book_id::text";
    let delay = query_number(url, delay).await.unwrap();
    print_figures(gap, delay);
    assert!(gap < MAX_GAP, "no message was processed for {gap} ms");
    for service in bookapps.iter().chain(&backends) {
        service.lock().await.process.signal(Signal::SIGTERM);
    }
}

async fn two_of(spec: &Spec) -> [Mutex<Service>; 2] {
    let one = Service::start(spec).await.unwrap();
    one.wait_until_ready().await.unwrap();
    let two = one.start_another().await.unwrap();
    two.wait_until_ready().await.unwrap();
    [Mutex::new(one), Mutex::new(two)]
}

/// Stops an instance as a deployment does, and starts it again.
async fn restart(service: &Mutex<Service>) {
    let mut service = service.lock().await;
    service.process.signal(Signal::SIGTERM);
    assert!(service.process.wait(SOON).await.unwrap().success());
    service.restart().await.unwrap();
    service.wait_until_ready().await.unwrap();
}

/// Waits until Kafka has assigned partitions to a worker. A ready worker may have none for some seconds,
/// because it gets those that another one gives back. If the other one stopped meanwhile, nobody would
/// process.
async fn wait_for_partitions(worker: &Mutex<Service>) {
    let assigned = |line: &str| {
        let is_assigned = line.contains("partitions assigned") && !line.contains("\"0 partitions");
        is_assigned.then_some(())
    };
    let worker = worker.lock().await;
    worker.process.line(SOON, assigned).await.unwrap();
}

/// Adds books and lists them until the restarts are over. Fails if a request fails. Returns the number
/// of added books.
async fn client(apis: &Balancer, is_over: &AtomicBool) -> i64 {
    let client = http().unwrap();
    let book = json!({"title": "Solaris", "author": "Stanisław Lem"});
    let mut turns = interval(REQUEST_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut added = 0;
    while !is_over.load(Ordering::Relaxed) {
        turns.tick().await;
        let add = client.post(format!("{}/books/add", apis.pick()));
        let response = add.json(&book).send().await.unwrap();
        assert_eq!(response.status(), 201);
        added += 1;
        let list = client.get(format!("{}/books?limit=5", apis.pick()));
        assert_eq!(list.send().await.unwrap().status(), 200);
    }
    added
}

#[expect(clippy::print_stderr, reason = "docs/reliability.md has these figures")]
fn print_figures(gap: i64, delay: i64) {
    eprintln!("{gap} ms without a processed message, {delay} ms from a request to its details");
}
