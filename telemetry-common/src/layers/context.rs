//! The context layer: each span keeps the fields of all spans around it.

use std::{iter, sync::Arc};

use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

use super::{ERROR, FieldValue, field::owned, is_error};
use crate::{semconv, subscriber::by_callsite};

/// Whether the log records of a span have its field of this name. They do not have the fields that
/// they have themselves, and those that are instructions to other layers.
pub(crate) fn is_inherited(name: &str) -> bool {
    !matches!(
        name,
        "authorization"
            | "category"
            | "error"
            | "message"
            | "metric_name"
            | "msg"
            | "return"
            | "subject"
            | semconv::REQUEST_ID
    ) && !name.starts_with("otel.")
        && !name.starts_with("metric_label_")
}

/// Returns the layer that keeps the fields of spans for other layers, which read them by
/// [`SpanFields::of`]. Alone, it has no visible effect.
///
/// A span starts with the fields of its parent as they are at that moment. Later records of the
/// parent are not added to it. A field of the span itself replaces an inherited one. A span that
/// never had a field of its own costs nothing: it has those of its parent.
///
/// It sees spans of every level; another filter can be added.
pub fn context<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    ContextLayer.with_filter(by_callsite(|metadata| {
        metadata.is_span() || is_error(metadata)
    }))
}

/// The layer of [`context`] without a filter. Several of them in one subscriber keep what one of
/// them would keep.
pub(crate) struct ContextLayer;

/// What the layer of [`context`] keeps of a span: its fields and those of the spans around it.
///
/// Besides, it has `error` (of the last event with a field of this name), `follows_from` (the name of
/// the span that this one follows from) and `follows_from.trace_id` (the field `trace_id` of that
/// span, or else its id). The values of secrets, such as `password`, are replaced by `REDACTED`.
#[derive(Clone, Debug, Default)]
pub struct SpanFields {
    own: Vec<(&'static str, FieldValue)>,
    /// Those of the spans around, as they were when the span started.
    outer: Option<Arc<Self>>,
}

impl SpanFields {
    /// Returns the fields of a span. `None` if neither the span nor a span around it has fields, or
    /// without the layer of [`context`].
    pub fn of<'s, S: LookupSpan<'s>>(span: &SpanRef<'s, S>) -> Option<Arc<Self>> {
        let mut scope = span.scope();
        scope.find_map(|span| span.extensions().get::<Arc<Self>>().cloned())
    }

    /// Returns the value of a field.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.levels().find_map(|level| level.own(name))
    }

    /// Iterates over the fields: those of the span, then those of the spans around, the innermost
    /// first. A field that an inner span replaced is not repeated.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &FieldValue)> {
        self.levels().enumerate().flat_map(move |(depth, level)| {
            let is_replaced = move |name: &str| {
                let mut inner = self.levels().take(depth);
                inner.any(|inner| inner.own(name).is_some())
            };
            let fields = level.own.iter().map(|(name, value)| (*name, value));
            fields.filter(move |(name, _)| !is_replaced(name))
        })
    }

    fn levels(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |fields| fields.outer.as_deref())
    }

    fn own(&self, name: &str) -> Option<&FieldValue> {
        let found = self.own.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value)
    }

    fn set(&mut self, name: &'static str, value: FieldValue) {
        match self.own.iter_mut().find(|(key, _)| *key == name) {
            Some((_, previous)) => *previous = value,
            None => self.own.push((name, value)),
        }
    }
}

impl<S> Layer<S> for ContextLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let own = owned(attributes.values().len(), |visitor| {
            attributes.record(visitor);
        });
        if let Some(span) = context.span(id).filter(|_| !own.is_empty()) {
            let outer = span.parent().and_then(|parent| SpanFields::of(&parent));
            // Another layer of this kind inserts the same.
            let fields = Arc::new(SpanFields { own, outer });
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let recorded = owned(values.len(), |visitor| values.record(visitor));
        if let Some(span) = context.span(id) {
            add(&span, recorded);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !is_error(event.metadata()) {
            return;
        }
        let mut recorded = owned(1, |visitor| event.record(visitor));
        recorded.retain(|(name, _)| *name == ERROR);
        if let Some(span) = context.event_span(event) {
            add(&span, recorded);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let (Some(span), Some(followed)) = (context.span(id), context.span(follows)) else {
            return;
        };
        let fields = SpanFields::of(&followed);
        let trace = fields.and_then(|fields| fields.get("trace_id").cloned());
        let trace = trace.unwrap_or(FieldValue::U64(follows.into_u64()));
        let name = FieldValue::Text(followed.name().to_owned());
        let recorded = vec![("follows_from", name), ("follows_from.trace_id", trace)];
        add(&span, recorded);
    }
}

/// Adds fields to a span, or changes them.
fn add<'s, S: LookupSpan<'s>>(span: &SpanRef<'s, S>, recorded: Vec<(&'static str, FieldValue)>) {
    let mut extensions = span.extensions_mut();
    if let Some(fields) = extensions.get_mut::<Arc<SpanFields>>() {
        // Copies them if an inner span started with them.
        let fields = Arc::make_mut(fields);
        for (name, value) in recorded {
            fields.set(name, value);
        }
    } else if !recorded.is_empty() {
        extensions.insert(Arc::new(SpanFields {
            own: recorded,
            outer: span.parent().and_then(|parent| SpanFields::of(&parent)),
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Mutex};

    use tracing::{error, field::Empty, info, info_span, subscriber::with_default, trace_span};
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    /// A layer that keeps what the context layer kept of each span that ended.
    #[derive(Clone, Default)]
    struct Ended(Arc<Mutex<HashMap<&'static str, Arc<SpanFields>>>>);

    impl<S> Layer<S> for Ended
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        fn on_close(&self, id: Id, context: Context<'_, S>) {
            let span = context.span(&id).unwrap();
            let fields = SpanFields::of(&span).unwrap_or_default();
            self.0.lock().unwrap().insert(span.name(), fields);
        }
    }

    /// Returns the fields of each span of `work`, by its name.
    fn fields_of(work: impl FnOnce()) -> impl Fn(&str) -> Arc<SpanFields> {
        let ended = Ended::default();
        with_default(registry().with(context()).with(ended.clone()), work);
        move |name| {
            let ended = ended.0.lock().unwrap();
            Arc::clone(ended.get(name).expect("the span has ended"))
        }
    }

    fn text(fields: &SpanFields, name: &str) -> Option<String> {
        fields.get(name).map(ToString::to_string)
    }

    // proves: L3
    #[test]
    fn a_child_starts_with_the_fields_of_its_parent_as_they_are_then() {
        let fields = fields_of(|| {
            let parent = info_span!("parent", route = "/books", tenant = 7, late = Empty);
            parent.in_scope(|| {
                let early = info_span!("early", tenant = 8);
                parent.record("late", "not yet");
                parent.record("late", "yes");
                early.in_scope(|| info_span!("plain").in_scope(|| {}));
                info_span!("after", step = 2).in_scope(|| {});
            });
        });
        let (parent, early) = (fields("parent"), fields("early"));
        let names: Vec<_> = parent.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["route", "tenant", "late"],
            "a root span has its own"
        );
        assert_eq!(text(&early, "route").as_deref(), Some("/books"));
        assert_eq!(early.get("tenant"), Some(&FieldValue::I64(8)), "its own");
        assert_eq!(early.get("late"), None, "recorded after the span started");
        assert_eq!(text(&parent, "late").as_deref(), Some("yes"));
        assert_eq!(text(&fields("after"), "late").as_deref(), Some("yes"));
        assert_eq!(text(&fields("plain"), "route").as_deref(), Some("/books"));
        let names: Vec<_> = early.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["tenant", "route"],
            "the innermost first, each name once"
        );
    }

    // proves: L4
    #[test]
    fn each_type_is_kept_under_its_name() {
        let fields = fields_of(|| {
            let error = std::io::Error::other("disk gone");
            let error = &error as &(dyn std::error::Error + 'static);
            let _span = info_span!(
                "types",
                i = -1_i64,
                u = u64::MAX,
                f = 0.5,
                b = true,
                s = "text",
                d = ?[1],
                e = error,
                log.line = 3
            );
        });
        let fields: Vec<_> = fields("types")
            .iter()
            .map(|(name, value)| (name, value.clone()))
            .collect();
        let text = |value: &str| FieldValue::Text(value.to_owned());
        assert_eq!(
            fields,
            [
                ("i", FieldValue::I64(-1)),
                ("u", FieldValue::U64(u64::MAX)),
                ("f", FieldValue::F64(0.5)),
                ("b", FieldValue::Bool(true)),
                ("s", text("text")),
                ("d", text("[1]")),
                ("e", text("disk gone")),
            ]
        );
    }

    // proves: L6
    #[test]
    fn the_error_of_an_event_is_kept_on_its_span_and_no_other_field() {
        let fields = fields_of(|| {
            let outer = info_span!("outer").entered();
            info_span!("inner").in_scope(|| {
                error!(error = "refused", detail = 1, "it failed");
                info!("it goes on");
            });
            drop(outer);
        });
        assert_eq!(text(&fields("inner"), "error").as_deref(), Some("refused"));
        assert_eq!(fields("inner").get("detail"), None);
        assert_eq!(fields("outer").get("error"), None);
    }

    #[test]
    fn two_context_layers_keep_each_field_once() {
        let ended = Ended::default();
        let both = registry().with(context()).with(context());
        with_default(both.with(ended.clone()), || {
            let span = info_span!("work", shelf = "fiction", late = Empty);
            span.record("late", 1);
        });
        let fields = Arc::clone(ended.0.lock().unwrap().get("work").unwrap());
        let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["shelf", "late"]);
    }

    /// A value whose `Debug` logs an event.
    struct Logs;

    impl std::fmt::Debug for Logs {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            error!(error = "while formatting", "a value is formatted");
            f.write_str("formatted")
        }
    }

    #[test]
    fn a_value_may_log_while_it_is_recorded() {
        let (done, recorded) = std::sync::mpsc::channel();
        // A deadlock must not stop the tests.
        std::thread::spawn(move || {
            let fields = fields_of(|| {
                let span = info_span!("work", early = ?Logs, late = Empty);
                span.in_scope(|| span.record("late", tracing::field::debug(Logs)));
            });
            done.send(text(&fields("work"), "late")).unwrap();
        });
        let late = recorded.recv_timeout(std::time::Duration::from_mins(1));
        assert_eq!(late.unwrap().as_deref(), Some("formatted"));
    }

    #[test]
    fn it_sees_every_level_that_its_own_filter_accepts() {
        let fields = fields_of(|| trace_span!("detail", step = 1).in_scope(|| {}));
        assert_eq!(fields("detail").get("step"), Some(&FieldValue::I64(1)));
    }

    #[test]
    fn the_span_that_another_follows_from_is_remembered() {
        let fields = fields_of(|| {
            let (first, plain) = (info_span!("first", trace_id = "4bf9"), info_span!("plain"));
            let second = info_span!(parent: None, "second");
            second.follows_from(&first);
            let third = info_span!(parent: None, "third");
            third.follows_from(&plain);
        });
        let second = fields("second");
        assert_eq!(text(&second, "follows_from").as_deref(), Some("first"));
        assert_eq!(
            text(&second, "follows_from.trace_id").as_deref(),
            Some("4bf9")
        );
        let id = fields("third").get("follows_from.trace_id").cloned();
        assert!(matches!(id, Some(FieldValue::U64(_))), "{id:?}");
    }
}
