//! Reports errors to Sentry, as events that are correlated with traces.
//!
//! An event has the trace id and the span id, and a link that opens the trace and its logs in
//! Grafana. The span has the id of the event.
//!
//! Sentry is enabled only if `SENTRY_DSN` is set. Every `error!` becomes an event, and with
//! `SENTRY_WARNINGS=true` every `warn!` too. The breadcrumbs of an event are the earlier log events
//! of the same request or message. The crate sends no Sentry transactions, because OpenTelemetry
//! exports the traces.

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

use opentelemetry::Key;
use opentelemetry_sdk::Resource;
use sentry::{
    Client, ClientOptions, Hub, Scope, SentryFutureExt,
    protocol::{Breadcrumb, Value},
    types::Dsn,
};

use crate::{
    InitError, Secret, TelemetryConfig, grafana::GrafanaLinks, pipeline_stats::PipelineStats,
    redact, semconv,
};
use event::TRACE_ID;
pub(crate) use layer::layers;
use transport::ThreadTransport;

/// The maximum number of breadcrumbs of an event.
const BREADCRUMBS: usize = 50;

/// Whether there is a client. It is read on every request.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// The Sentry client of the process, with the settings of its layers.
#[derive(Debug)]
pub(crate) struct Reporter {
    client: Arc<Client>,
    pub(crate) service: String,
    pub(crate) links: Option<GrafanaLinks>,
    pub(crate) warnings: bool,
    /// The pipeline statistics of the events.
    pub(crate) stats: Arc<PipelineStats>,
}

impl Reporter {
    /// Builds the client and binds it to the main hub. Returns `None` without a DSN.
    pub(crate) fn build(
        config: &TelemetryConfig,
        resource: &Resource,
    ) -> Result<Option<Self>, InitError> {
        let Some(Secret(dsn)) = &config.sentry_dsn else {
            return Ok(None);
        };
        let parsed = Dsn::from_str(dsn).map_err(|_| InitError::SentryDsn)?;
        let (transport, stats) = ThreadTransport::start(&parsed).map_err(InitError::Sentry)?;
        let resource_attribute = |key| {
            let value = resource.get(&Key::from_static_str(key));
            value.map(|value| value.to_string())
        };
        let name = resource_attribute(semconv::SERVICE_NAME).unwrap_or_default();
        let version = resource_attribute(semconv::SERVICE_VERSION).unwrap_or_default();
        let environment = resource_attribute("deployment.environment.name");
        let options = ClientOptions::new()
            .dsn(dsn)
            .release(format!("{name}@{version}"))
            .environment(environment.unwrap_or_else(|| "development".to_owned()))
            .server_name(resource_attribute(semconv::HOST_NAME).unwrap_or_default())
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
            links: config
                .grafana_url
                .as_ref()
                .map(|grafana| GrafanaLinks::new(grafana, &name)),
            service: name,
            warnings: config.sentry_warnings,
            stats,
        }))
    }

    /// Sends the queued events and closes the client, within `budget`.
    pub(crate) fn close(self, budget: Duration) {
        ENABLED.store(false, Ordering::Relaxed);
        self.client.close(Some(budget));
    }
}

/// Adds the hooks that correct events and redact breadcrumbs before they are sent.
fn with_hooks(options: ClientOptions) -> ClientOptions {
    let options = options.before_breadcrumb(|crumb| Some(without_credentials(crumb)));
    options.before_send(|mut event| {
        // The client adds a random trace context to an event outside of any trace.
        if !event.tags.contains_key(TRACE_ID) {
            event.contexts.remove("trace");
        }
        // A failure that occurs on several routes is a separate issue for each route.
        if let Some(transaction) = event.transaction.clone() {
            event.fingerprint.to_mut().push(transaction.into());
        }
        Some(event)
    })
}

fn without_credentials(mut crumb: Breadcrumb) -> Breadcrumb {
    let redact = |text: &mut String| *text = redact::text(text).into_owned();
    if let Some(message) = &mut crumb.message {
        redact(message);
    }
    for value in crumb.data.values_mut() {
        if let Value::String(text) = value {
            redact(text);
        }
    }
    crumb
}

/// Runs `work`, which handles one request or message, in a Sentry hub of its own. Its breadcrumbs
/// and tags appear only in its own events. The server layer and the consumer do so themselves.
///
/// ```
/// # async fn run_job() {}
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use telemetry_common::sentry;
///
/// sentry::isolate(async {
///     sentry::set_transaction_name(format_args!("nightly report"));
///     sentry::tag("report", "sales");
///     run_job().await;
/// })
/// .await;
/// # }
/// ```
pub async fn isolate<F: Future>(work: F) -> F::Output {
    match isolated_hub() {
        Some(hub) => work.bind_hub(hub).await,
        None => work.await,
    }
}

/// Returns a new hub for one request or message. `None` if Sentry is off.
pub(crate) fn isolated_hub() -> Option<Arc<Hub>> {
    ENABLED.load(Ordering::Relaxed).then(|| {
        let hub = Hub::new_from_top(Hub::main());
        // The breadcrumbs of the start of the process are not related to this work.
        hub.configure_scope(Scope::clear_breadcrumbs);
        Arc::new(hub)
    })
}

/// Returns the current hub. `None` if Sentry is off.
pub(crate) fn current_hub() -> Option<Arc<Hub>> {
    ENABLED.load(Ordering::Relaxed).then(Hub::current)
}

/// Sets the transaction name of the events of the current request or message: a low-cardinality
/// value, such as `GET /books/{id}` or `process book.events.v1`.
pub fn set_transaction_name(name: fmt::Arguments<'_>) {
    if ENABLED.load(Ordering::Relaxed) {
        sentry::configure_scope(|scope| scope.set_transaction(Some(&name.to_string())));
    }
}

/// Adds a tag to the events of the current request or message.
pub fn tag(key: &'static str, value: &str) {
    if ENABLED.load(Ordering::Relaxed) {
        sentry::configure_scope(|scope| scope.set_tag(key, value));
    }
}

/// Returns the id of the last event of the current request or message, 32 hex digits, or `None` if
/// there was no event.
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
        let error = "no route to amqp://u:s3cr3t@mq".into();
        crumb.data.insert("error".to_owned(), error);
        let redacted = without_credentials(crumb);
        assert_eq!(
            redacted.message.unwrap(),
            "lost postgres://REDACTED@db/books"
        );
        assert_eq!(redacted.data["error"], "no route to amqp://REDACTED@mq");
    }
}
