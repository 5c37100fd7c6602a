//! Fault injection: rules make requests and messages fail. The rules are stored in PostgreSQL,
//! which notifies every instance of a change.
//!
//! Without rules, a request costs one atomic load. Rules are cached in memory, so they never cost a
//! query.

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use opentelemetry::{KeyValue, metrics::Counter};
use serde::{Deserialize, Serialize};
use sqlx::{
    FromRow,
    postgres::{PgListener, PgPoolOptions},
    query_as,
};
use telemetry_common::{db::Database, exception, meter_of, sentry, service, set_attribute};
use tokio::time::{sleep, timeout};
use tracing::info;
use utoipa::ToSchema;

use crate::postgres::in_time;

/// The channel of the notifications about changed rules.
const CHANNEL: &str = "fault_rules";
/// The pause before the rules are loaded again after a failure. Each further failure doubles it.
const INITIAL_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The interval of loading the rules without a notification. So a connection on which no notification
/// can arrive any more is noticed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// The time limit for an answer of the database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The method of a rule that matches messages of a topic, instead of requests to a route.
pub const PROCESS: &str = "PROCESS";
/// The attribute with the kind of an injected fault, on spans, log records, metrics and Sentry
/// events.
pub const FAULT_TYPE: &str = "bookapp.fault.type";
/// The attribute with the id of the rule that injected a fault.
pub const FAULT_RULE: &str = "bookapp.fault.rule.id";

/// The kind of a fault.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema,
)]
#[serde(rename_all = "lowercase", try_from = "String")]
#[sqlx(type_name = "fault_kind", rename_all = "lowercase")]
pub enum FaultKind {
    /// The response has an error status.
    #[default]
    Error,
    /// The request or message takes longer.
    Latency,
    /// The handler panics.
    Panic,
}

/// Deserialization goes through `String`, so that a number or null is a wrong type (status 422).
/// Without this step, serde reports it as malformed JSON (status 400).
impl TryFrom<String> for FaultKind {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let kinds = [Self::Error, Self::Latency, Self::Panic].into_iter();
        let mut named = kinds.filter(|kind| kind.name() == text);
        named.next().ok_or("expected error, latency or panic")
    }
}

impl FaultKind {
    /// Returns the name in the API and in telemetry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Latency => "latency",
            Self::Panic => "panic",
        }
    }
}

#[derive(Clone, Debug, PartialEq, FromRow)]
struct Rule {
    id: i32,
    endpoint_pattern: String,
    http_method: String,
    kind: FaultKind,
    error_rate: f64,
    error_code: Option<i32>,
    error_message: Option<String>,
    latency_ms: Option<i32>,
    ends_at: Option<SqlTimestamp>,
}

/// An error that a rule injected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InjectedFault {
    code: u16,
    message: String,
}

impl InjectedFault {
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Injects faults by the current rules of one service. Clones share the rules.
#[derive(Clone)]
pub struct FaultInjector(Arc<Inner>);

struct Inner {
    service: &'static str,
    has_rules: AtomicBool,
    rules: RwLock<Vec<Rule>>,
    injected: Counter<u64>,
}

impl FaultInjector {
    /// Creates an injector without rules; [`watch`](Self::watch) loads them. Telemetry must have
    /// started.
    pub fn new(service: &'static str) -> Self {
        let injected = meter_of(service!())
            .u64_counter("bookapp.faults.injected")
            .with_unit("{fault}")
            .with_description("Number of injected faults")
            .build();
        for kind in [FaultKind::Error, FaultKind::Latency, FaultKind::Panic] {
            injected.add(0, &[KeyValue::new(FAULT_TYPE, kind.name())]);
        }
        Self(Arc::new(Inner {
            service,
            has_rules: AtomicBool::new(false),
            rules: RwLock::default(),
            injected,
        }))
    }

    /// Loads the rules, and loads them again after each change. Never returns.
    pub async fn watch(self, db: Database) {
        let mut pause = INITIAL_PAUSE;
        loop {
            if let Err(error) = self.listen(&db, &mut pause).await {
                exception!(
                    warn,
                    "bookapp.faults.unknown",
                    &error,
                    "the fault rules could not be loaded, the previous rules stay active"
                );
            }
            sleep(pause).await;
            pause = MAX_PAUSE.min(pause * 2);
        }
    }

    async fn listen(&self, db: &Database, pause: &mut Duration) -> sqlx::Result<()> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ANSWER_TIMEOUT)
            .connect_lazy_with(db.options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        in_time(ANSWER_TIMEOUT, listener.listen(CHANNEL)).await?;
        loop {
            in_time(ANSWER_TIMEOUT, self.load(&mut listener)).await?;
            *pause = INITIAL_PAUSE;
            // `None` means that the connection was lost, and maybe notifications with it. So load
            // the rules in any case.
            if let Ok(notified) = timeout(RELOAD_INTERVAL, listener.try_recv()).await {
                notified?;
            }
        }
    }

    async fn load(&self, listener: &mut PgListener) -> sqlx::Result<()> {
        let rules: Vec<Rule> = query_as(
            "select id, endpoint_pattern, http_method, kind, error_rate, error_code, error_message,
                latency_ms, ends_at
            from fault_rules where service = $1 order by id",
        )
        .bind(self.0.service)
        .fetch_all(listener)
        .await?;
        let count = rules.len();
        let mut current = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = *current != rules;
        *current = rules;
        drop(current);
        self.0.has_rules.store(count > 0, Ordering::Relaxed);
        if has_changed {
            info!(name: "bookapp.faults.changed", "{count} fault rules loaded");
        }
        Ok(())
    }

    /// Returns whether a rule may slow down this method and route.
    pub fn may_delay(&self, method: &str, route: &str) -> bool {
        self.any(|rule| rule.kind == FaultKind::Latency && rule.matches(method, route))
    }

    /// Returns whether a rule may inject a fault into this method and route.
    pub fn may_inject(&self, method: &str, route: &str) -> bool {
        self.any(|rule| rule.matches(method, route))
    }

    fn any(&self, condition: impl Fn(&Rule) -> bool) -> bool {
        self.0.has_rules.load(Ordering::Relaxed) && self.rules().iter().any(condition)
    }

    /// Applies the matching rules of this method and route: waits, returns an error or panics.
    /// Records each injected fault on the current span, in the metric, in the log and on Sentry
    /// events.
    pub async fn inject(&self, method: &str, route: &str) -> Result<(), InjectedFault> {
        if !self.0.has_rules.load(Ordering::Relaxed) {
            return Ok(());
        }
        for rule in self.matching(method, route) {
            self.record(&rule);
            match rule.kind {
                FaultKind::Latency => {
                    let millis = rule.latency_ms.unwrap_or_default();
                    sleep(Duration::from_millis(millis.unsigned_abs().into())).await;
                }
                FaultKind::Panic => panic!("injected: {}", rule.message()),
                FaultKind::Error => {
                    return Err(InjectedFault {
                        code: u16::try_from(rule.error_code.unwrap_or(500)).unwrap_or(500),
                        message: rule.message(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns the rules that inject a fault into the current request. Latency comes first, because
    /// the other kinds end the request.
    fn matching(&self, method: &str, route: &str) -> Vec<Rule> {
        let rules = self.rules();
        let applies =
            |rule: &&Rule| rule.matches(method, route) && fastrand::f64() < rule.error_rate;
        let mut matching: Vec<_> = rules.iter().filter(applies).cloned().collect();
        matching.sort_by_key(|rule| rule.kind != FaultKind::Latency);
        matching
    }

    fn rules(&self) -> RwLockReadGuard<'_, Vec<Rule>> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, rule: &Rule) {
        let kind = rule.kind.name();
        set_attribute(FAULT_TYPE, kind);
        set_attribute(FAULT_RULE, i64::from(rule.id));
        sentry::tag(FAULT_TYPE, kind);
        self.0.injected.add(1, &[KeyValue::new(FAULT_TYPE, kind)]);
        info!(
            name: "bookapp.fault.injected",
            { { FAULT_TYPE } = kind, { FAULT_RULE } = i64::from(rule.id) },
            "fault rule {} injected: {kind}",
            rule.id
        );
    }
}

impl Rule {
    fn matches(&self, method: &str, route: &str) -> bool {
        self.http_method == method
            && self.endpoint_pattern == route
            && self
                .ends_at
                .is_none_or(|end| Timestamp::now() < end.to_jiff())
    }

    fn message(&self) -> String {
        let message = self.error_message.clone();
        message.unwrap_or_else(|| "injected fault".to_owned())
    }
}
