//! One request and its response, observed from the first byte to the last.
//!
//! An exchange ends with the last frame of the response body, with an error, with a panic, or when
//! it is dropped because a peer closed the connection or the caller cancelled it. Servers and
//! clients, of HTTP and of gRPC, differ in what they record. They implement [`Exchange`].

use std::{
    error::Error,
    fmt, mem,
    pin::Pin,
    task::{self, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Buf;
use http::{HeaderMap, Response, header::CONTENT_LENGTH, response::Parts};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::{
    Context,
    trace::{SpanRef, TraceContextExt},
};
use pin_project_lite::pin_project;

use crate::current::Current;

/// The error of a body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Records one kind of exchange. Its methods run inside the span of the exchange. `span` records
/// nothing if the span is not exported.
pub(crate) trait Exchange: Send + Sync {
    /// Records the head of the response. It may add headers. Returns whether a body follows.
    fn respond(&mut self, head: &mut Parts, span: &SpanRef<'_>) -> bool;

    /// Records the trailers of the response.
    fn trailers(&mut self, _: &HeaderMap) {}

    /// Records the end. It is called once.
    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>);
}

/// How and when an exchange ended.
pub(crate) struct End<'e> {
    pub(crate) outcome: Outcome<'e>,
    /// The time since the start.
    pub(crate) duration: Duration,
    /// The time from the start to the first byte of the response body, if the body was streamed: if
    /// it did not end with its first frame.
    pub(crate) first_byte: Option<Duration>,
    /// The size of the response body in bytes, as far as it was passed on.
    pub(crate) response_size: u64,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'e> {
    /// The last frame of the response body was passed on.
    Completed,
    /// The exchange was dropped earlier: a server's client closed the connection, the caller of a
    /// client cancelled, or an outer layer timed out.
    Cancelled,
    /// The service or the body panicked, and no inner layer caught the panic.
    Panicked,
    /// The service or the response body returned an error.
    Failed(&'e (dyn Error + 'static)),
}

/// `error.type` of a request that was dropped before the end of the response, usually because its
/// client closed the connection.
pub(crate) const CANCELLED: &str = "cancelled";
/// `error.type` of a request whose handler panicked, if no layer turned the panic into a response.
pub(crate) const PANIC: &str = "panic";
/// `error.type` of a request whose body could not be read, usually because its client stopped.
pub(crate) const REQUEST_BODY: &str = "request_body";
/// `error.type` of a response whose body returned an error.
pub(crate) const RESPONSE_BODY: &str = "response_body";
/// `error.type` of a service that returned an error in place of a response.
pub(crate) const SERVICE: &str = "service";

/// A running exchange. It ends when it is dropped, at the latest.
pub(crate) struct Running {
    current: Current,
    state: State,
}

/// The state of a running exchange. Its methods are called inside the span.
pub(crate) struct State {
    /// `None` when the exchange has ended.
    exchange: Option<Box<dyn Exchange>>,
    /// The context that contains the span; empty if the span is not exported.
    span: Context,
    started: Instant,
    /// Whether a poll is under way. It stays true if the poll panics.
    is_polling: bool,
    first_byte: Option<Duration>,
    response_size: u64,
    /// The size of the response body in bytes, if it is known in advance.
    expected_size: Option<u64>,
}

impl Running {
    /// Starts an exchange, which runs in `current`. `span` contains its span, which ends with it, or
    /// is empty.
    pub(crate) fn start(exchange: Box<dyn Exchange>, span: Context, current: Current) -> Self {
        let state = State {
            exchange: Some(exchange),
            span,
            started: Instant::now(),
            is_polling: false,
            first_byte: None,
            response_size: 0,
            expected_size: None,
        };
        Self { current, state }
    }

    /// Runs a part of the exchange inside its span.
    pub(crate) fn run<T>(&mut self, work: impl FnOnce(&mut State) -> T) -> T {
        let has_panicked = mem::replace(&mut self.state.is_polling, true);
        let output = self.current.run(|| work(&mut self.state));
        self.state.is_polling = has_panicked;
        output
    }

    /// Returns a response whose body this exchange observes, unless it has ended.
    pub(crate) fn observe<B>(self, response: Response<B>) -> Response<ObservedBody<B>> {
        let running = self.state.exchange.is_some().then_some(self);
        response.map(|body| ObservedBody {
            body: Some(body),
            running,
        })
    }
}

impl State {
    /// Records the head of the response.
    pub(crate) fn respond<B: Body>(&mut self, response: Response<B>) -> Response<B> {
        let (mut head, body) = response.into_parts();
        let (exchange, span) = (self.exchange.as_mut(), self.span.span());
        let has_body = exchange.is_some_and(|exchange| exchange.respond(&mut head, &span));
        let announced = || {
            head.headers
                .get(CONTENT_LENGTH)?
                .to_str()
                .ok()?
                .parse()
                .ok()
        };
        self.expected_size = body.size_hint().exact().or_else(announced);
        // Servers do not poll a body that is already at its end.
        if !has_body || body.is_end_stream() {
            self.end(Outcome::Completed);
        }
        Response::from_parts(head, body)
    }

    /// Records one frame of the response body. `is_last` is whether the body is at its end.
    fn frame<D: Buf>(&mut self, frame: &Frame<D>, is_last: bool) {
        if let Some(data) = frame.data_ref() {
            if self.response_size == 0 && data.has_remaining() && !is_last {
                self.first_byte = Some(self.started.elapsed());
            }
            self.response_size += data.remaining() as u64;
        } else if let Some((exchange, trailers)) = self.exchange.as_mut().zip(frame.trailers_ref())
        {
            exchange.trailers(trailers);
        }
        if is_last || frame.is_trailers() {
            self.end(Outcome::Completed);
        }
    }

    /// Ends the exchange, unless it has ended.
    pub(crate) fn end(&mut self, outcome: Outcome<'_>) {
        let Some(mut exchange) = self.exchange.take() else {
            return;
        };
        let end = End {
            outcome,
            duration: self.started.elapsed(),
            first_byte: self.first_byte,
            response_size: self.response_size,
        };
        let span = self.span.span();
        exchange.end(&end, &span);
        span.end();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let state = &mut self.state;
        // A server drops a body without polling its end if the announced length was sent.
        let is_complete = state.expected_size == Some(state.response_size);
        let outcome = if state.is_polling {
            Outcome::Panicked
        } else if is_complete {
            Outcome::Completed
        } else {
            Outcome::Cancelled
        };
        if state.exchange.is_some() {
            self.current.run(|| state.end(outcome));
        }
    }
}

/// The error of a service, which need not be an [`Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ServiceError(String);

pin_project! {
    /// The response of a service whose exchanges are observed.
    #[derive(Debug)]
    pub struct ObservedFuture<F> {
        #[pin]
        response: Option<F>,
        // `None` if the exchange is not observed, or if its body observes it.
        running: Option<Running>,
    }

    impl<F> PinnedDrop for ObservedFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            drop_inside(this.running, || this.response.set(None));
        }
    }
}

/// Drops a part of an exchange inside its span: what it logs then belongs to the exchange, and a
/// panic is one of the exchange.
fn drop_inside(running: &mut Option<Running>, drop: impl FnOnce()) {
    if let Some(running) = running {
        running.run(|_| drop());
    }
}

impl<F> ObservedFuture<F> {
    pub(crate) fn new(response: F, running: Option<Running>) -> Self {
        Self {
            response: Some(response),
            running,
        }
    }
}

impl<F, B, E> Future for ObservedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    E: fmt::Display,
{
    type Output = Result<Response<ObservedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = this.response.as_mut().as_pin_mut();
        let response = response.expect("a future is not polled after it was dropped");
        let Some(running) = this.running else {
            let outcome = ready!(response.poll(context));
            return Poll::Ready(outcome.map(|response| response.map(ObservedBody::unobserved)));
        };
        let outcome = ready!(running.run(|state| {
            let outcome = ready!(response.poll(context));
            Poll::Ready(match outcome {
                Ok(response) => Ok(state.respond(response)),
                Err(error) => {
                    state.end(Outcome::Failed(&ServiceError(error.to_string())));
                    Err(error)
                }
            })
        }));
        let running = this.running.take();
        Poll::Ready(outcome.map(|response| match running {
            Some(running) => running.observe(response),
            None => response.map(ObservedBody::unobserved),
        }))
    }
}

pin_project! {
    /// A response body whose exchange ends with its last frame.
    pub struct ObservedBody<B> {
        #[pin]
        body: Option<B>,
        // `None` if the exchange has ended or is not observed.
        running: Option<Running>,
    }

    impl<B> PinnedDrop for ObservedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            drop_inside(this.running, || this.body.set(None));
        }
    }
}

impl<B> ObservedBody<B> {
    /// Returns a body that is not observed.
    pub(crate) fn unobserved(body: B) -> Self {
        Self {
            body: Some(body),
            running: None,
        }
    }
}

impl<B: Body> Body for ObservedBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Some(running) = this.running else {
            let frame = body.poll_frame(context);
            return frame.map_err(Into::into);
        };
        let frame = ready!(running.run(|state| {
            let frame = ready!(body.as_mut().poll_frame(context));
            let frame = frame.map(|frame| frame.map_err(Into::into));
            match &frame {
                Some(Ok(frame)) => state.frame(frame, body.is_end_stream()),
                Some(Err(error)) => state.end(Outcome::Failed(&**error)),
                None => state.end(Outcome::Completed),
            }
            Poll::Ready(frame)
        }));
        if running.state.exchange.is_none() {
            *this.running = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<B: fmt::Debug> fmt::Debug for ObservedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObservedBody").field(&self.body).finish()
    }
}
