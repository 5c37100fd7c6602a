//! Metrics of TCP connections: number, duration and bytes.
//!
//! HTTP metrics do not show them: with keep-alive, one connection carries many requests.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
    time::Instant,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, UpDownCounter},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{scope, semconv};

/// A connection whose metrics are recorded, from when it is accepted until it is dropped.
///
/// It passes all reads and writes on to the stream inside it.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use telemetry_common::connection::MeasuredConnection;
/// use tokio::net::TcpListener;
///
/// let listener = TcpListener::bind("127.0.0.1:8080").await?;
/// let (stream, _) = listener.accept().await?;
/// let stream = MeasuredConnection::accepted(stream, "api");
/// # let _ = stream;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MeasuredConnection<S> {
    inner: S,
    opened: Instant,
    listener: [KeyValue; 1],
    received: u64,
    transmitted: u64,
}

impl<S> MeasuredConnection<S> {
    /// Wraps a connection that has just been accepted, and counts it as opened.
    ///
    /// `listener` is the value of the metrics' attribute `telemetry_common.listener`. It must have
    /// low cardinality.
    pub fn accepted(inner: S, listener: &'static str) -> Self {
        let listener = [KeyValue::new(semconv::LISTENER, listener)];
        METRICS.opened.add(1, &listener);
        METRICS.open.add(1, &listener);
        Self {
            inner,
            opened: Instant::now(),
            listener,
            received: 0,
            transmitted: 0,
        }
    }
}

impl<S> Drop for MeasuredConnection<S> {
    fn drop(&mut self) {
        let [listener] = &self.listener;
        METRICS.open.add(-1, &self.listener);
        let seconds = self.opened.elapsed().as_secs_f64();
        METRICS.duration.record(seconds, &self.listener);
        for (direction, bytes) in [("receive", self.received), ("transmit", self.transmitted)] {
            let direction = KeyValue::new(semconv::NETWORK_IO_DIRECTION, direction);
            METRICS.io.add(bytes, &[listener.clone(), direction]);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeasuredConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.received += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeasuredConnection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.transmitted += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, slices))?;
        self.transmitted += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

struct Metrics {
    opened: Counter<u64>,
    open: UpDownCounter<i64>,
    duration: Histogram<f64>,
    io: Counter<u64>,
}

/// Created at the first connection, because instruments must be created after telemetry is installed.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = scope::meter();
    Metrics {
        opened: meter
            .u64_counter(semconv::CONNECTIONS_OPENED)
            .with_unit("{connection}")
            .with_description("Number of accepted connections")
            .build(),
        open: meter
            .i64_up_down_counter(semconv::CONNECTIONS_OPEN)
            .with_unit("{connection}")
            .with_description("Number of open connections")
            .build(),
        duration: meter
            .f64_histogram(semconv::CONNECTION_DURATION)
            .with_unit("s")
            .with_description("Time between the accept and the close of a connection")
            .with_boundaries(semconv::CONNECTION_BOUNDARIES.to_vec())
            .build(),
        io: meter
            .u64_counter(semconv::CONNECTION_IO)
            .with_unit("By")
            .with_description("Bytes of closed connections, by direction")
            .build(),
    }
});
