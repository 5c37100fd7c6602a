//! Client spans, metrics and propagation for reqwest, and through it for generated clients.
//!
//! The exchange ends with the last frame of the response body, when the caller has read it. Its end is
//! logged: at level WARN if the status code is 400 or higher or if there is no complete response, else
//! at INFO. The failure itself is the caller's to log, where it is handled.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client>.

mod call;
mod trusted;

use std::{error::Error as StdError, future::poll_fn, ops::Deref, pin::pin, sync::Arc};

use async_trait::async_trait;
use http::{Extensions, HeaderName};
use reqwest::{Body, Request, Response, ResponseBuilderExt};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};

use super::{exchange::Outcome, outgoing};
use call::{Call, Peer};
pub use trusted::TrustedHosts;

/// Wraps `client` so that each request creates a client span, propagates the span's context and
/// records its duration.
///
/// Every host receives the trace context. Only `trusted` hosts receive the baggage and the
/// [`RequestId`](crate::RequestId). reqwest sends these headers to the target of a redirect as well,
/// so build the client with [`TrustedHosts::redirect_policy`], or with a policy that follows none. A
/// generated client sends its requests with the result, through [`execute`].
///
/// ```
/// use telemetry_common::http::client::{self, TrustedHosts};
///
/// # fn main() -> reqwest::Result<()> {
/// let trusted = TrustedHosts::only(["backend"]);
/// let http = reqwest::Client::builder().redirect(trusted.redirect_policy());
/// let http = client::with_tracing(http.build()?, trusted);
/// let request = http.get("http://backend:8001/details");
/// # Ok(())
/// # }
/// ```
pub fn with_tracing(client: reqwest::Client, trusted: TrustedHosts) -> TracedClient {
    TracedClient::new(client, trusted, Arc::default())
}

/// A client with the middleware of [`with_tracing`], and no others. The middleware never fails.
#[derive(Clone, Debug)]
pub struct TracedClient {
    with_middleware: ClientWithMiddleware,
    client: reqwest::Client,
    trusted: TrustedHosts,
}

impl TracedClient {
    fn new(client: reqwest::Client, trusted: TrustedHosts, headers: Arc<[HeaderName]>) -> Self {
        let middleware = Tracing {
            trusted: trusted.clone(),
            headers,
        };
        let with_middleware = ClientBuilder::new(client.clone()).with(middleware);
        Self {
            with_middleware: with_middleware.build(),
            client,
            trusted,
        }
    }

    /// Records these headers of responses on spans and log records. By default, none is recorded,
    /// because headers may contain secrets.
    #[must_use]
    pub fn record_headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self::new(self.client, self.trusted, names.into_iter().collect())
    }
}

impl Deref for TracedClient {
    type Target = ClientWithMiddleware;

    fn deref(&self) -> &ClientWithMiddleware {
        &self.with_middleware
    }
}

/// Sends the request of a generated client. `template` is the path with placeholders, such as
/// `/details/{book_id}`, and part of the span name; without it, the span name is only the method.
///
/// Returns the error of reqwest if no response arrived.
pub async fn execute(
    client: &TracedClient,
    request: Request,
    template: Option<&'static str>,
) -> reqwest::Result<Response> {
    let mut extensions = Extensions::new();
    if let Some(template) = template {
        extensions.insert(UrlTemplate(template));
    }
    client
        .execute_with_extensions(request, &mut extensions)
        .await
        .map_err(|error| match error {
            Error::Reqwest(error) => error,
            Error::Middleware(_) => unreachable!("the middleware of `TracedClient` does not fail"),
        })
}

/// A request extension: the path with placeholders, such as `/details/{book_id}`. It is recorded as
/// `url.template` and is part of the span name.
#[derive(Clone, Copy, Debug)]
pub struct UrlTemplate(pub &'static str);

/// The middleware that observes the requests.
struct Tracing {
    trusted: TrustedHosts,
    /// The recorded headers of responses.
    headers: Arc<[HeaderName]>,
}

#[async_trait]
impl Middleware for Tracing {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let template = extensions.get::<UrlTemplate>().map(|template| template.0);
        let mut running = Call::start(&request, template, Arc::clone(&self.headers));
        let is_trusted = self.trusted.contains(request.url());
        running.run(|_| outgoing::add_headers(request.headers_mut(), is_trusted));
        let mut response = pin!(next.run(request, extensions));
        let response = poll_fn(|context| running.run(|_| response.as_mut().poll(context))).await;
        match response {
            Ok(mut response) => {
                if let Some(peer) = response.remote_addr() {
                    response.extensions_mut().insert(Peer(peer));
                }
                // The conversion from `http::Response` reads the URL from an extension.
                let url = http::Response::builder().url(response.url().clone());
                let response = running.run(|state| state.respond(response.into()));
                let mut response = running.observe::<Body>(response);
                if let Ok(url) = url.body(()) {
                    let url = url.into_parts().0.extensions;
                    response.extensions_mut().extend(url);
                }
                Ok(response.map(Body::wrap).into())
            }
            Err(error) => {
                let cause: &(dyn StdError + 'static) = match &error {
                    Error::Reqwest(error) => error,
                    Error::Middleware(_) => &error,
                };
                running.run(|state| state.end(Outcome::Failed(cause)));
                Err(error)
            }
        }
    }
}
