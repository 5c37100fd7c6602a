//! Work that goes on after the response to the request that started it.

use std::sync::Arc;

use opentelemetry::metrics::Counter;
use telemetry_common::{meter_of, service, task};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Span;

/// The maximum number of tasks, waiting or running.
const MAX_TASKS: usize = 64;
/// The maximum number of running tasks. Each may hold a connection of the database, of which requests
/// need the most.
const MAX_RUNNING: usize = 2;

/// The background work of a service. A clone shares the tasks.
#[derive(Clone, Debug)]
pub struct Background {
    tasks: TaskTracker,
    slots: Arc<Semaphore>,
    running: Arc<Semaphore>,
    rejected: Counter<u64>,
}

impl Background {
    /// Creates it without tasks. Call it after the start of telemetry.
    pub fn new() -> Self {
        let rejected = meter_of(service!())
            .u64_counter("bookapp.background.rejected")
            .with_unit("{task}")
            .with_description(
                "Number of background tasks that were not started, because too many were running",
            )
            .build();
        rejected.add(0, &[]);
        Self {
            tasks: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(MAX_TASKS)),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            rejected,
        }
    }

    /// Runs `work` in `span`, which becomes the root of a trace of its own, with a link to the current
    /// span. Create it with `parent: None`, so that it inherits nothing from the request but what its
    /// own fields say.
    ///
    /// Two tasks run at a time. If 64 wait or run, `work` is dropped and counted. A panic is logged by
    /// the panic hook.
    pub fn spawn(&self, span: Span, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.rejected.add(1, &[]);
            return;
        };
        let running = Arc::clone(&self.running);
        let work = async move {
            let _slot = slot;
            // An error means that the semaphore was closed, which never happens.
            let _running = running.acquire().await;
            work.await;
        };
        let span = task::detached(span);
        let work = span.in_scope(|| task::in_context(work));
        self.tasks.spawn(work);
    }

    /// Waits for all tasks. No task may be spawned any more.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Default for Background {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use telemetry_common::testing::{self, Spans};
    use tracing::{info, info_span};

    use super::*;

    #[tokio::test]
    async fn work_has_a_linked_trace_of_its_own_and_its_panic_is_logged_there() {
        let background = Background::new();
        let ((), caller) = testing::spans_of(async {
            background.spawn(info_span!(parent: None, "background work"), async {
                info!(name: "test.still_working", "still working");
                panic!("it broke");
            });
        })
        .await;
        background.finish().await;
        let logged = testing::events("test.still_working");
        let trace = logged[0].record.trace_context().unwrap().trace_id;
        let (root, spans) = (caller.named("test"), Spans::of(trace));
        let work = spans.named("background work");
        assert_ne!(trace, root.span_context.trace_id());
        let link = work.links.iter().next().expect("a link");
        assert_eq!(link.span_context, root.span_context);
        let logs = testing::logs_of(trace);
        let events: Vec<_> = logs.iter().map(|log| log.record.event_name()).collect();
        assert_eq!(events, [Some("test.still_working"), Some("exception")]);
    }

    #[tokio::test]
    async fn two_tasks_run_at_a_time() {
        testing::install();
        let (background, started) = (Background::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..5 {
            let started = Arc::clone(&started);
            background.spawn(info_span!(parent: None, "stuck"), async move {
                started.fetch_add(1, Ordering::Relaxed);
                pending::<()>().await;
            });
        }
        // The runtime of this test polls every task once.
        tokio::task::yield_now().await;
        assert_eq!(started.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn too_many_tasks_are_dropped_and_counted() {
        testing::install();
        let background = Background::new();
        let dropped = Arc::new(AtomicUsize::new(0));
        let before = testing::sum_of("bookapp.background.rejected");
        for _ in 0..MAX_TASKS + 3 {
            let guard = CountDrop(Arc::clone(&dropped));
            background.spawn(info_span!(parent: None, "stuck"), async move {
                let _guard = guard;
                pending::<()>().await;
            });
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        let rejected = testing::sum_of("bookapp.background.rejected") - before;
        assert!((rejected - 3.0).abs() < f64::EPSILON, "{rejected}");
    }

    struct CountDrop(Arc<AtomicUsize>);

    impl Drop for CountDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
