//! The context layer: each span keeps the fields of all spans around it.

use std::time::{Duration, Instant};

use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{ERROR, FieldValue, field::ForEach, is_error};
use crate::subscriber::always_evaluated;

/// Returns the layer that keeps the fields of spans for other layers, which read them as
/// [`SpanFields`] from the extensions of a span. Alone, it has no visible effect.
///
/// A span starts with the fields of its parent as they are at that moment. Later records of the
/// parent are not added to it. A field of the span itself replaces an inherited one.
///
/// It sees spans of every level; another filter can be added.
pub fn context<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    ContextLayer.with_filter(always_evaluated(|metadata| {
        metadata.is_span() || is_error(metadata)
    }))
}

struct ContextLayer;

/// What the layer of [`context`] keeps of a span.
///
/// Besides the fields of the spans, it has `parent_span` (the id of the parent), `error` (of the last
/// event with a field of this name), `follows_from` (the name of the span that this one follows from)
/// and `follows_from.trace_id` (the field `trace_id` of that span, or else its id).
#[derive(Clone, Debug, Default)]
pub struct SpanFields {
    fields: Vec<(&'static str, FieldValue)>,
    first_entered: Option<Instant>,
    latency: Option<Duration>,
}

impl SpanFields {
    /// Returns the value of a field.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        let found = self.fields.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value)
    }

    /// Iterates over the fields, in the order in which they were first set, outermost span first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &FieldValue)> {
        self.fields.iter().map(|(name, value)| (*name, value))
    }

    /// Returns the time from the first enter of the span to its end. `None` before its end, or if it
    /// was never entered.
    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    fn set(&mut self, name: &'static str, value: FieldValue) {
        match self.fields.iter_mut().find(|(key, _)| *key == name) {
            Some((_, previous)) => *previous = value,
            None => self.fields.push((name, value)),
        }
    }
}

impl<S> Layer<S> for ContextLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut own = span.parent().map_or_else(SpanFields::default, |parent| {
            let extensions = parent.extensions();
            let inherited = extensions.get::<SpanFields>();
            let fields = inherited.map(|inherited| inherited.fields.clone());
            let mut own = SpanFields {
                fields: fields.unwrap_or_default(),
                ..SpanFields::default()
            };
            own.set("parent_span", FieldValue::U64(parent.id().into_u64()));
            own
        });
        attributes.record(&mut ForEach(|name, value| own.set(name, value)));
        span.extensions_mut().insert(own);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        with_fields(id, &context, |fields| {
            values.record(&mut ForEach(|name, value| fields.set(name, value)));
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // Its filter accepts only events with an error.
        let Some(span) = context.event_span(event) else {
            return;
        };
        with_fields(&span.id(), &context, |fields| {
            event.record(&mut ForEach(|name, value| {
                if name == ERROR {
                    fields.set(name, value);
                }
            }));
        });
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let Some(followed) = context.span(follows) else {
            return;
        };
        let trace = {
            let extensions = followed.extensions();
            let fields = extensions.get::<SpanFields>();
            let trace = fields.and_then(|fields| fields.get("trace_id")).cloned();
            trace.unwrap_or(FieldValue::U64(follows.into_u64()))
        };
        let name = FieldValue::Text(followed.name().to_owned());
        with_fields(id, &context, |fields| {
            fields.set("follows_from", name);
            fields.set("follows_from.trace_id", trace);
        });
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        with_fields(id, &context, |fields| {
            fields.first_entered.get_or_insert_with(Instant::now);
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        with_fields(&id, &context, |fields| {
            fields.latency = fields.first_entered.map(|entered| entered.elapsed());
        });
    }
}

fn with_fields<S>(id: &Id, context: &Context<'_, S>, work: impl FnOnce(&mut SpanFields))
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if let Some(span) = context.span(id)
        && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
    {
        work(fields);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::{Arc, Mutex},
    };

    use tracing::{error, field::Empty, info, info_span, subscriber::with_default, trace_span};
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    /// A layer that keeps what the context layer kept of each span that ended.
    #[derive(Clone, Default)]
    struct Ended(Arc<Mutex<Vec<(&'static str, SpanFields)>>>);

    impl<S> Layer<S> for Ended
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        fn on_close(&self, id: Id, context: Context<'_, S>) {
            let span = context.span(&id).unwrap();
            let fields = span.extensions().get::<SpanFields>().cloned();
            self.0.lock().unwrap().push((span.name(), fields.unwrap()));
        }
    }

    /// Returns the fields of each span of `work`, by its name.
    fn fields_of(work: impl FnOnce()) -> impl Fn(&str) -> SpanFields {
        let ended = Ended::default();
        with_default(registry().with(context()).with(ended.clone()), work);
        move |name| {
            let ended = ended.0.lock().unwrap();
            let found = ended.iter().find(|(found, _)| *found == name);
            found.expect("the span has ended").1.clone()
        }
    }

    fn text(fields: &SpanFields, name: &str) -> Option<String> {
        fields.get(name).map(ToString::to_string)
    }

    // proves: L3
    #[test]
    fn a_child_starts_with_the_fields_of_its_parent_as_they_are_then() {
        let parent_id = Cell::new(0);
        let fields = fields_of(|| {
            let parent = info_span!("parent", route = "/books", tenant = 7, late = Empty);
            parent_id.set(parent.id().unwrap().into_u64());
            parent.in_scope(|| {
                let early = info_span!("early", tenant = 8);
                parent.record("late", "yes");
                early.in_scope(|| info_span!("inner").in_scope(|| {}));
                info_span!("after").in_scope(|| {});
            });
        });
        let (parent, early) = (fields("parent"), fields("early"));
        assert_eq!(parent.get("parent_span"), None, "a root span");
        let id = FieldValue::U64(parent_id.get());
        assert_eq!(early.get("parent_span"), Some(&id));
        assert_eq!(text(&early, "route").as_deref(), Some("/books"));
        assert_eq!(early.get("tenant"), Some(&FieldValue::I64(8)), "its own");
        assert_eq!(early.get("late"), None, "recorded after the span started");
        assert_eq!(text(&parent, "late").as_deref(), Some("yes"));
        assert_eq!(text(&fields("after"), "late").as_deref(), Some("yes"));
        assert_eq!(text(&fields("inner"), "route").as_deref(), Some("/books"));
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

    // proves: L7
    #[test]
    fn latency_runs_from_the_first_enter_to_the_end() {
        let pause = Duration::from_millis(20);
        let wait = || {
            let until = Instant::now() + pause;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        };
        let longest = Cell::new(Duration::ZERO);
        let fields = fields_of(|| {
            let span = info_span!("polled");
            wait(); // not part of the latency
            let before = Instant::now();
            span.in_scope(|| {});
            wait();
            span.in_scope(|| {});
            wait();
            drop(span);
            longest.set(before.elapsed());
            let _never = info_span!("never");
        });
        let latency = fields("polled").latency().unwrap();
        assert!(
            (2 * pause..=longest.get()).contains(&latency),
            "{latency:?}"
        );
        assert_eq!(fields("never").latency(), None);
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
