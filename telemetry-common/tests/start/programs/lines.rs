//! Programs that print lines.

use std::{iter, sync::OnceLock};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request},
    routing::get,
};
use telemetry_common::{
    builder,
    http::server,
    layers::{self, SpanFields},
    service,
};
use tower::ServiceExt;
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::{Callsite, Identifier},
    debug, dispatcher, error,
    field::FieldSet,
    instrument,
    metadata::Kind,
    span::Id,
    subscriber::Interest,
    trace_span, warn,
};
use tracing_subscriber::{
    Layer, layer::Context, layer::SubscriberExt, registry, registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::Outcome;

#[instrument(name = "books.find", skip_all, fields(book.id = id))]
async fn find(Path(id): Path<u32>) -> &'static str {
    warn!(shelf = "fiction", "the book is not on its shelf");
    "Persuasion"
}

#[tokio::test]
#[ignore = "a program that other tests start"]
async fn one_request() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    let router = Router::new().route("/books/{id}", get(find));
    let router = router.layer(server::layer());
    let request = Request::get("/books/7").body(Body::empty())?;
    let response = router.oneshot(request).await?;
    to_bytes(response.into_body(), usize::MAX).await?;
    Ok(())
}

/// A layer that prints the fields of each span that ends.
struct PrintFields;

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for PrintFields {
    #[expect(clippy::print_stdout, reason = "the test reads it")]
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("the span ends");
        let fields = SpanFields::of(&span).unwrap_or_default();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        println!("kept: {}", fields.join(" "));
    }
}

#[test]
#[ignore = "a program that other tests start"]
fn context_alone() -> Outcome {
    let reads = std::env::var_os("READ").map(|_| PrintFields);
    registry().with(layers::context()).with(reads).try_init()?;
    trace_span!("work", shelf = "fiction").in_scope(|| {
        debug!("working");
        error!(error = "out of paper", "it broke");
    });
    Ok(())
}

/// Returns names and values of fields, with characters of every kind.
pub(crate) fn random_pairs() -> Vec<(String, String)> {
    const COUNT: usize = 10_000;
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = move || -> String {
        let length = random.usize(..12);
        let mut character = || match random.u8(..8) {
            0 => '"',
            1 => '\\',
            2 => '=',
            3 => ' ',
            4 => char::from(random.u8(..32)),
            5 => random.char(..),
            6 => random.alphanumeric(),
            _ => char::from(random.u8(32..=127)),
        };
        iter::repeat_with(&mut character).take(length).collect()
    };
    iter::repeat_with(|| (text(), text())).take(COUNT).collect()
}

/// A call site that is created at run time.
struct Site(OnceLock<Metadata<'static>>);

impl Callsite for Site {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("it is set at once")
    }
}

#[test]
#[ignore = "a program that other tests start"]
fn random_fields() -> Outcome {
    let _telemetry = builder(service!()).install()?;
    for (name, value) in random_pairs() {
        let site: &'static Site = Box::leak(Box::new(Site(OnceLock::new())));
        let names: &'static [&'static str] = vec![&*name.leak()].leak();
        let metadata = site.0.get_or_init(|| {
            let fields = FieldSet::new(names, Identifier(site));
            let (file, module) = (Some(file!()), Some(module_path!()));
            let kind = Kind::EVENT;
            Metadata::new(
                "random",
                "start",
                Level::INFO,
                file,
                Some(1),
                module,
                fields,
                kind,
            )
        });
        let field = metadata.fields().iter().next().expect("it has one");
        let value: &dyn tracing::Value = &&*value;
        let values = [(&field, Some(value))];
        dispatcher::get_default(|dispatch| {
            if dispatch.enabled(metadata) {
                dispatch.event(&Event::new(metadata, &metadata.fields().value_set(&values)));
            }
        });
    }
    Ok(())
}
