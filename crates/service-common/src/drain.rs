//! Reads what a handler leaves of a large request body.
//!
//! If a handler rejects a body that it has not read, hyper closes the connection while the client still sends. The
//! client, or a proxy in front, then sees a broken connection instead of the response. What has already arrived, such as a
//! small body, hyper reads.

use std::{
    mem::take,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use futures::StreamExt;
use http_body::{Frame, SizeHint};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

/// The size up to which a body is left to hyper, in bytes.
const SMALL: u64 = 16 << 10;
/// The maximum size of what is read after a response, in bytes.
const MAX_REST: u64 = 16 << 20;
/// The maximum time of reading it.
const MAX_TIME: Duration = Duration::from_secs(5);
/// How many bodies are read at the same time. The connections of all others are closed, because each body may fill a
/// buffer.
const MAX_READERS: usize = 8;

/// The bodies of the requests to one service.
#[derive(Clone)]
pub(crate) struct Drain(Arc<Semaphore>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_READERS)))
    }

    /// Makes the body of a request, unless it is small, one whose rest is read when it is dropped.
    pub(crate) fn watch(&self, request: Request) -> Request {
        let size = request.body().size_hint().upper();
        if size.is_some_and(|size| size <= SMALL) {
            return request;
        }
        let readers = Arc::clone(&self.0);
        let drained = |body| Drained {
            body,
            is_over: false,
            readers,
        };
        request.map(|body| Body::new(drained(body)))
    }
}

struct Drained {
    body: Body,
    /// Whether its end was read, or an error. A body of unknown size does not know its end before.
    is_over: bool,
    readers: Arc<Semaphore>,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.is_over |= matches!(frame, Poll::Ready(None | Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let is_too_long = self.body.size_hint().lower() > MAX_REST;
        if self.is_over || self.body.is_end_stream() || is_too_long {
            return;
        }
        let reader = Arc::clone(&self.readers).try_acquire_owned();
        let (Ok(reader), Ok(runtime)) = (reader, Handle::try_current()) else {
            return;
        };
        let mut rest = take(&mut self.body).into_data_stream();
        // Nobody waits for it: it has no span, and the end of the process may end it.
        runtime.spawn(timeout(MAX_TIME, async move {
            let _reader = reader;
            let mut read = 0;
            while let Some(Ok(data)) = rest.next().await {
                read += data.len() as u64;
                if read > MAX_REST {
                    return;
                }
            }
        }));
    }
}
