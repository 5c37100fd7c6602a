//! Reads what a handler leaves of a request body.
//!
//! A service that rejects a body before it has read it would close the connection while the client still sends. The
//! client, or a proxy in front, then sees a broken connection instead of the response.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use futures::StreamExt;
use tokio::{sync::Semaphore, time::timeout};

/// The maximum size of what is read after a response, in bytes.
const MAX_REST: usize = 16 << 20;
/// The maximum time of reading it.
const MAX_TIME: Duration = Duration::from_secs(5);

/// How many bodies are read at the same time; the connections of all others are closed. Each may fill a buffer.
static READERS: Semaphore = Semaphore::const_new(8);

/// Makes the body of a request one whose rest is read when it is dropped.
pub(crate) fn rest_of_body(request: Request) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(Drained(body)))
}

struct Drained(Body);

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.0.is_end_stream() {
            return;
        }
        let Ok(reader) = READERS.try_acquire() else {
            return;
        };
        let mut rest = std::mem::take(&mut self.0).into_data_stream();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(timeout(MAX_TIME, async move {
            let _reader = reader;
            let mut read = 0;
            while let Some(Ok(data)) = rest.next().await {
                read += data.len();
                if read > MAX_REST {
                    return;
                }
            }
        }));
    }
}
