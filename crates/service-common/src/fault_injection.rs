//! Failures on purpose: rules that live in PostgreSQL, kept in memory, told to every instance at once.
//!
//! No rule costs nothing but a look at a flag; a rule costs no statement.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use opentelemetry::{KeyValue, metrics::Counter};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, postgres::PgListener, query_as};
use telemetry_common::{db::Database, exception, meter_of, sentry, service};
use tokio::time::sleep;
use tracing::{Span, info};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use utoipa::ToSchema;

/// The word that [`Rules`] listens for.
const CHANNEL: &str = "fault_rules";
/// The method by which a rule names a topic instead of a route.
pub const PROCESS: &str = "PROCESS";
/// What an injected failure is marked with, everywhere.
pub const FAULT_TYPE: &str = "bookapp.fault.type";
/// Which rule did it.
pub const FAULT_RULE: &str = "bookapp.fault.rule.id";

/// How something fails.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema,
)]
#[serde(rename_all = "lowercase", try_from = "String")]
#[sqlx(type_name = "fault_kind", rename_all = "lowercase")]
pub enum FaultKind {
    /// An answer with an error's status.
    #[default]
    Error,
    /// It takes longer.
    Latency,
    /// The work panics.
    Panic,
}

/// By way of a text: read directly, a number or null would count as malformed JSON.
impl TryFrom<String> for FaultKind {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let kinds = [Self::Error, Self::Latency, Self::Panic].into_iter();
        let mut named = kinds.filter(|kind| kind.name() == text);
        named.next().ok_or("expected error, latency or panic")
    }
}

impl FaultKind {
    /// Its name, as the API and telemetry have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Latency => "latency",
            Self::Panic => "panic",
        }
    }
}

#[derive(Clone, Debug, FromRow)]
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

/// A failure that a rule asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InjectedFault {
    code: u16,
    message: String,
}

impl InjectedFault {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The rules for one service, as they are now.
#[derive(Clone)]
pub struct FaultInjector(Arc<Inner>);

struct Inner {
    service: &'static str,
    any: AtomicBool,
    rules: RwLock<Vec<Rule>>,
    injected: Counter<u64>,
}

impl FaultInjector {
    /// No rules yet; [`watch`](Self::watch) reads them. Call it after telemetry has started.
    pub fn new(service: &'static str) -> Self {
        let injected = meter_of(service!())
            .u64_counter("bookapp.faults.injected")
            .with_unit("{fault}")
            .with_description("Failures on purpose")
            .build();
        for kind in [FaultKind::Error, FaultKind::Latency, FaultKind::Panic] {
            injected.add(0, &[KeyValue::new(FAULT_TYPE, kind.name())]);
        }
        Self(Arc::new(Inner {
            service,
            any: AtomicBool::new(false),
            rules: RwLock::default(),
            injected,
        }))
    }

    /// Reads the rules, and again whenever they change; never returns.
    pub async fn watch(self, db: Database) {
        let mut pause = Duration::from_millis(200);
        loop {
            if let Err(error) = self.listen(&db, &mut pause).await {
                exception!(
                    warn,
                    "bookapp.faults.unknown",
                    &error,
                    "fault rules stay as they are"
                );
            }
            sleep(pause).await;
            pause = Duration::from_secs(30).min(pause * 2);
        }
    }

    async fn listen(&self, db: &Database, pause: &mut Duration) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(db.untraced()).await?;
        listener.listen(CHANNEL).await?;
        loop {
            self.read(db).await?;
            *pause = Duration::from_millis(200);
            // `None`: the connection was lost, and changes with it.
            listener.try_recv().await?;
        }
    }

    async fn read(&self, db: &Database) -> sqlx::Result<()> {
        let rules: Vec<Rule> = query_as(
            "select id, endpoint_pattern, http_method, kind, error_rate, error_code, error_message,
                latency_ms, ends_at
            from fault_rules where service = $1 order by id",
        )
        .bind(self.0.service)
        .fetch_all(db.untraced())
        .await?;
        let count = rules.len();
        let mut known = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        *known = rules;
        drop(known);
        self.0.any.store(count > 0, Ordering::Relaxed);
        if before + count > 0 {
            info!(name: "bookapp.faults.changed", "{count} fault rules");
        }
        Ok(())
    }

    /// Lets the work pass, holds it up, fails it or panics, as the rules for this method and route
    /// have it. It marks the current span, counts, and tags what becomes of it.
    pub async fn inject(&self, method: &str, route: &str) -> Result<(), InjectedFault> {
        if !self.0.any.load(Ordering::Relaxed) {
            return Ok(());
        }
        for rule in self.matching(method, route) {
            self.mark(&rule);
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

    /// The rules that strike this time: latency first, for nothing comes after the others.
    fn matching(&self, method: &str, route: &str) -> Vec<Rule> {
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let matches = |rule: &&Rule| {
            rule.http_method == method
                && rule.endpoint_pattern == route
                && rule.ends_at.is_none_or(|end| now < end.to_jiff())
                && fastrand::f64() < rule.error_rate
        };
        let mut matching: Vec<_> = rules.iter().filter(matches).cloned().collect();
        matching.sort_by_key(|rule| rule.kind != FaultKind::Latency);
        matching
    }

    fn mark(&self, rule: &Rule) {
        let kind = rule.kind.name();
        let span = Span::current();
        span.set_attribute(FAULT_TYPE, kind);
        span.set_attribute(FAULT_RULE, i64::from(rule.id));
        sentry::tag(FAULT_TYPE, kind);
        self.0.injected.add(1, &[KeyValue::new(FAULT_TYPE, kind)]);
        info!(
            name: "bookapp.fault.injected",
            { { FAULT_TYPE } = kind, { FAULT_RULE } = i64::from(rule.id) },
            "rule {} strikes: {kind}",
            rule.id
        );
    }
}

impl Rule {
    fn message(&self) -> String {
        let message = self.error_message.clone();
        message.unwrap_or_else(|| "a failure on purpose".to_owned())
    }
}
