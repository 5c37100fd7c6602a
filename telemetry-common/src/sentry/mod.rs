//! Errors as Sentry events that carry the trace they happened in, and name it to a person: a link
//! that opens trace and logs in Grafana. The span carries the event's id in turn.
//!
//! Set by `SENTRY_DSN` alone; without it nothing is built. Every `error!` is an event, with
//! `SENTRY_WARNINGS=true` every `warn!` too; what came before in the same request or message is its
//! breadcrumbs. There are no Sentry transactions: OpenTelemetry owns the traces.

mod event;
mod layer;
mod transport;

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::{ArgAction, Args};
use opentelemetry::Key;
use opentelemetry_sdk::Resource;
use sentry::{
    Client, ClientOptions, Hub, Scope, SentryFutureExt,
    protocol::{Breadcrumb, Value},
    types::Dsn,
};
use url::Url;

use crate::{InitError, grafana::GrafanaLinks, pipeline_stats::PipelineStats, redact, semconv};
use event::TRACE_ID;
pub(crate) use layer::layers;
use transport::ThreadTransport;

/// How errors are reported.
#[derive(Args, Clone, Debug)]
pub struct SentryConfig {
    /// Where errors are reported: sentry.io, or a server that speaks its protocol.
    #[arg(long, env, hide_env_values = true, value_name = "DSN")]
    pub sentry_dsn: Option<Secret>,

    /// Whether warnings are reported like errors; else they are breadcrumbs.
    #[arg(long, env, action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    pub sentry_warnings: bool,
}

/// A text that is not printed.
#[derive(Clone)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How many lines before an event are kept with it.
const BREADCRUMBS: usize = 50;

/// Whether there is a client; asked on every request.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// The client, to be closed at the end.
#[derive(Debug)]
pub(crate) struct Reporter {
    client: Arc<Client>,
    pub(crate) service: String,
    pub(crate) links: Option<GrafanaLinks>,
    pub(crate) warnings: bool,
    /// What became of the events.
    pub(crate) stats: Arc<PipelineStats>,
}

impl Reporter {
    /// A client that is the process's own; `None` without a DSN.
    pub(crate) fn build(
        config: &SentryConfig,
        grafana: Option<&Url>,
        resource: &Resource,
    ) -> Result<Option<Self>, InitError> {
        let Some(Secret(dsn)) = config.sentry_dsn.as_ref().filter(|dsn| !dsn.0.is_empty()) else {
            return Ok(None);
        };
        let address = Dsn::from_str(dsn).map_err(|_| InitError::SentryDsn)?;
        let (transport, stats) = ThreadTransport::start(&address).map_err(InitError::Sentry)?;
        let of_resource = |key| {
            let value = resource.get(&Key::from_static_str(key));
            value.map(|value| value.to_string())
        };
        let name = of_resource(semconv::SERVICE_NAME).unwrap_or_default();
        let version = of_resource(semconv::SERVICE_VERSION).unwrap_or_default();
        let environment = of_resource("deployment.environment.name");
        let options = ClientOptions::new()
            .dsn(dsn)
            .release(format!("{name}@{version}"))
            .environment(environment.unwrap_or_else(|| "development".to_owned()))
            .server_name(of_resource(semconv::HOST_NAME).unwrap_or_default())
            .max_breadcrumbs(BREADCRUMBS)
            .send_default_pii(false)
            .default_integrations(false)
            .transport(transport);
        let client = Arc::new(Client::from(with_hooks(options)));
        Hub::main().bind_client(Some(Arc::clone(&client)));
        Hub::main().configure_scope(|scope| scope.set_tag("service", &name));
        ENABLED.store(true, Ordering::Relaxed);
        Ok(Some(Self {
            client,
            links: grafana.map(|grafana| GrafanaLinks::new(grafana, &name)),
            service: name,
            warnings: config.sentry_warnings,
            stats,
        }))
    }

    /// Sends what waits, and ends.
    pub(crate) fn close(self, budget: Duration) {
        ENABLED.store(false, Ordering::Relaxed);
        self.client.close(Some(budget));
    }
}

/// Mends events, and what leads to them, on their way.
fn with_hooks(options: ClientOptions) -> ClientOptions {
    let options = options.before_breadcrumb(|crumb| Some(without_credentials(crumb)));
    options.before_send(|mut event| {
        // It invents a trace where there is none.
        if !event.tags.contains_key(TRACE_ID) {
            event.contexts.remove("trace");
        }
        // A failure that many routes share is an issue of each.
        if let Some(work) = event.transaction.clone() {
            event.fingerprint.to_mut().push(work.into());
        }
        Some(event)
    })
}

fn without_credentials(mut crumb: Breadcrumb) -> Breadcrumb {
    let clean = |text: &mut String| *text = redact::text(text).into_owned();
    if let Some(message) = &mut crumb.message {
        clean(message);
    }
    for value in crumb.data.values_mut() {
        if let Value::String(text) = value {
            clean(text);
        }
    }
    crumb
}

/// Runs one request's or message's work by itself: its breadcrumbs and tags are in no other's event.
pub async fn isolate<F: Future>(work: F) -> F::Output {
    if ENABLED.load(Ordering::Relaxed) {
        let hub = Hub::new_from_top(Hub::main());
        // What was said at start led to nothing here.
        hub.configure_scope(Scope::clear_breadcrumbs);
        work.bind_hub(Arc::new(hub)).await
    } else {
        work.await
    }
}

/// Names the work in hand, from a fixed set: `GET /books/{id}`, `process book.added.v1`.
pub fn name_work(name: fmt::Arguments<'_>) {
    if ENABLED.load(Ordering::Relaxed) {
        sentry::configure_scope(|scope| scope.set_transaction(Some(&name.to_string())));
    }
}

/// Tags the events of the work in hand.
pub fn tag(key: &'static str, value: &str) {
    if ENABLED.load(Ordering::Relaxed) {
        sentry::configure_scope(|scope| scope.set_tag(key, value));
    }
}

/// The id of the event that the work in hand has led to, 32 hex digits.
pub fn event_id() -> Option<String> {
    if !ENABLED.load(Ordering::Relaxed) {
        return None;
    }
    let id = sentry::last_event_id()?;
    Some(id.simple().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breadcrumb_keeps_no_credentials() {
        let mut crumb = Breadcrumb {
            message: Some("lost postgres://u:s3cr3t@db/books".to_owned()),
            ..Breadcrumb::default()
        };
        let told = "of amqp://u:s3cr3t@mq".into();
        crumb.data.insert("error".to_owned(), told);
        let clean = without_credentials(crumb);
        assert_eq!(clean.message.unwrap(), "lost postgres://REDACTED@db/books");
        assert_eq!(clean.data["error"], "of amqp://REDACTED@mq");
    }
}
