//! The request body, observed while the service reads it.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// The progress of a request body.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    received: AtomicU64,
    failed: AtomicBool,
}

impl Upload {
    /// Returns the progress of `body`, or `None` if the request has no body.
    pub(super) fn of(body: &impl Body) -> Option<Arc<Self>> {
        (!body.is_end_stream()).then(Arc::default)
    }

    /// Returns the number of bytes that the service has read.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether reading the body failed, for example because the client stopped half-way.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

pin_project! {
    /// A request body whose size is recorded, and its failure if its client stops half-way.
    pub struct RequestBody<B> {
        #[pin]
        body: B,
        upload: Option<Arc<Upload>>,
    }
}

impl<B> RequestBody<B> {
    pub(super) fn new(body: B, upload: Option<Arc<Upload>>) -> Self {
        Self { body, upload }
    }

    /// Returns a body that is not observed.
    pub(super) fn unobserved(body: B) -> Self {
        Self::new(body, None)
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        if let Some(upload) = this.upload {
            match &frame {
                Some(Ok(frame)) => {
                    let size = frame.data_ref().map_or(0, Buf::remaining) as u64;
                    upload.received.fetch_add(size, Ordering::Relaxed);
                }
                Some(Err(_)) => upload.failed.store(true, Ordering::Relaxed),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBody").field(&self.body).finish()
    }
}
