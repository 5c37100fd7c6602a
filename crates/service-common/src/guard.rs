//! What stands between a request and its handler: limits of concurrency, memory and duration, panics, and
//! injected faults.
//!
//! It is one middleware, because each further one moves the request and boxes its future again.

use std::{sync::Arc, time::Duration};

use axum::{
    body::HttpBody,
    extract::{MatchedPath, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, TryAcquireError},
    time::timeout,
};

use crate::{
    fault_injection::{FaultInjector, FaultKind},
    problem::{Problem, catch_panic, respond},
    server::ServerConfig,
};

/// The maximum size of a body that is always accepted, in bytes.
const SMALL_BODY: u64 = 16 << 10;
/// The maximum total size of the larger bodies of concurrent requests, in bytes. Reading a body takes
/// several times its size.
const LARGE_BODIES: usize = 8 << 20;

/// The state of [`guard`].
pub(crate) struct Guard {
    slots: Semaphore,
    /// A permit stands for a byte.
    large_bodies: Semaphore,
    max_body: usize,
    request_timeout: Duration,
    faults: Option<FaultInjector>,
}

impl Guard {
    pub(crate) fn new(
        config: ServerConfig,
        max_body: usize,
        faults: Option<FaultInjector>,
    ) -> Self {
        Self {
            slots: Semaphore::new(config.max_concurrent_requests),
            large_bodies: Semaphore::new(LARGE_BODIES),
            max_body,
            request_timeout: config.request_timeout,
            faults,
        }
    }

    /// Reserves memory for the body of a request. Returns an error if there is none.
    fn reserve_memory(
        &self,
        request: &Request,
    ) -> Result<Option<SemaphorePermit<'_>>, TryAcquireError> {
        let max_body = self.max_body as u64;
        let size = request.body().size_hint().upper().unwrap_or(max_body);
        if size <= SMALL_BODY {
            return Ok(None);
        }
        // A larger body is rejected when it is read.
        let size = u32::try_from(size.min(max_body)).unwrap_or(u32::MAX);
        self.large_bodies.try_acquire_many(size).map(Some)
    }

    /// Handles the request, unless a fault rule that matches its method and route fails it.
    async fn handle(&self, request: Request, next: Next) -> Response {
        let Some(faults) = &self.faults else {
            return next.run(request).await;
        };
        let route = request.extensions().get::<MatchedPath>().cloned();
        let route = route.as_ref().map_or("", MatchedPath::as_str);
        // The calls that remove the rules must not fail.
        if route.starts_with("/error-injection") {
            return next.run(request).await;
        }
        match faults.inject(request.method().as_str(), route).await {
            Ok(()) => next.run(request).await,
            Err(injected) => respond(&injected, injected.status(), Some(FaultKind::Error)),
        }
    }
}

/// Middleware: rejects a request if there are too many concurrent ones, or too large ones, cancels it at its
/// time limit, and turns a panic into a response. Injected faults are innermost, so that they look like
/// real ones.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let problem = |status, detail| Problem::new(status, detail).into_response();
    let Ok(_slot) = guard.slots.try_acquire() else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many concurrent requests",
        );
    };
    let Ok(_memory) = guard.reserve_memory(&request) else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many concurrent requests with large bodies",
        );
    };
    let handling = catch_panic(guard.handle(request, next));
    let response = timeout(guard.request_timeout, handling).await;
    // Not 503, which invites a retry: the request may have had its effect.
    response.unwrap_or_else(|_| problem(StatusCode::GATEWAY_TIMEOUT, "the request timed out"))
}
