//! Starts the system for one test.

use std::time::Duration;

use telemetry_registry::Judge;
use testbed::{
    System,
    process::Spec,
    system::{Binaries, Dependencies},
};
use tokio::sync::OnceCell;

/// The maximum time to wait for an asynchronous effect.
pub(crate) const SOON: Duration = Duration::from_mins(1);

pub(crate) async fn binaries() -> &'static Binaries {
    static BINARIES: OnceCell<Binaries> = OnceCell::const_new();
    BINARIES.get_or_try_init(Binaries::build).await.unwrap()
}

pub(crate) async fn start() -> System {
    start_with(|spec| spec).await
}

pub(crate) async fn start_with(adjust: impl Fn(Spec) -> Spec) -> System {
    let dependencies = Dependencies::for_test().await.unwrap();
    System::start_with(binaries().await, dependencies, adjust)
        .await
        .unwrap()
}

/// Fails if the registry does not declare what both services have sent to the sink.
pub(crate) fn assert_declared(system: &System) {
    let mut judge = Judge::new().unwrap();
    judge.judge(&system.sink, &["bookapp", "backend"]);
    if let Err(problems) = judge.finish_partial() {
        panic!("{problems}");
    }
}
