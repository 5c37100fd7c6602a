//! Spawned work that keeps its context: the span, the OpenTelemetry context with baggage and the
//! [`RequestId`], and the Sentry hub.
//!
//! A new task or thread starts without any of them, so `tokio::spawn` breaks the trace. The
//! functions of this module capture them where they are called, and restore them whenever the work
//! runs. docs/context.md of this project lists what else keeps the context and what loses it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use telemetry_common::task;
//! use tracing::{Instrument, info, info_span};
//!
//! async {
//!     let warmed = task::spawn(async { info!("in the trace of the caller") });
//!     let sum = task::spawn_blocking(|| (1..=10).sum::<u32>());
//!     warmed.await.unwrap();
//!     assert_eq!(sum.await.unwrap(), 55);
//! }
//! .instrument(info_span!("warm up"))
//! .await;
//! # }
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use opentelemetry::{Context as Trace, trace::TraceContextExt};
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinError, JoinHandle},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{RequestId, current::Current};

/// Spawns a task on the current runtime that keeps the context of the caller.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Handle::current().spawn(in_context(work))
}

/// Runs `work` on a thread for blocking operations, with the context of the caller.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(with_context(work))
}

/// Returns a future that runs `work` with the context of the caller, wherever it is polled.
pub fn in_context<F: Future>(work: F) -> InContext<F> {
    run_in(Current::capture(), work)
}

/// Returns a future that runs `work` in `current`, wherever it is polled.
pub(crate) fn run_in<F: Future>(current: Current, work: F) -> InContext<F> {
    InContext {
        work: Some(work),
        current,
    }
}

/// Returns a function that runs `work` with the context of the caller, on whichever thread it is
/// called: for `std::thread::spawn`, rayon, or a channel of jobs.
pub fn with_context<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let current = Current::capture();
    move || current.run(work)
}

/// Makes `span` the root of a trace of its own, with a link to the current span. Use it for work
/// that outlives the request that started it: its duration must not be part of that request. It is
/// [sampled](crate::sampling) if the request is, and the request id is kept.
///
/// Create `span` with `parent: None`, and spawn the work inside it:
///
/// ```
/// use telemetry_common::task;
/// use tracing::info_span;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let span = task::detached(info_span!(parent: None, "rebuild index"));
/// let rebuilt = span.in_scope(|| task::spawn(async { /* … */ }));
/// rebuilt.await.unwrap();
/// # }
/// ```
///
/// `task::spawn(work.instrument(span))` would run the work inside the span of the caller as well, and
/// so prolong it.
pub fn detached(span: Span) -> Span {
    let origin = Trace::map_current(|context| context.span().span_context().clone());
    let context = match RequestId::current() {
        Some(id) => Trace::new().with_value(id),
        None => Trace::new(),
    };
    // It fails only if the span is not exported.
    let _ = span.set_parent(context);
    span.add_link(origin);
    span
}

pin_project! {
    /// A future that runs with the context in which it was created. [`in_context`] creates it.
    #[derive(Debug)]
    pub struct InContext<F> {
        #[pin]
        work: Option<F>,
        current: Current,
    }

    impl<F> PinnedDrop for InContext<F> {
        // What `work` logs when it is dropped has the context, too.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.current.run(|| this.work.set(None));
        }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let work = this.work.as_pin_mut();
        let work = work.expect("a future is not polled after it was dropped");
        this.current.run(|| work.poll(context))
    }
}

/// A set of tasks that keep the context in which they were spawned. The tasks are aborted when the
/// set is dropped.
#[derive(Debug)]
pub struct JoinSet<T>(tokio::task::JoinSet<T>);

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self(tokio::task::JoinSet::new())
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task on the current runtime.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn<F>(&mut self, work: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.0.spawn(in_context(work))
    }

    /// Runs `work` on a thread for blocking operations. It cannot be aborted once it runs.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn_blocking(&mut self, work: impl FnOnce() -> T + Send + 'static) -> AbortHandle {
        self.0.spawn_blocking(with_context(work))
    }

    /// Waits for the next task to end. Returns `None` if the set is empty.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.0.join_next().await
    }

    /// Returns the number of tasks, including those that have ended and are not joined.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Aborts all tasks, and waits for them to end.
    pub async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}
