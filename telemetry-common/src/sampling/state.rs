//! The entry `ot` of a trace state: `th`, the threshold, and `rv`, the randomness. Other values in it are kept.
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-handling/>

use std::fmt::{self, Write};

use opentelemetry::trace::TraceState;

use super::{Randomness, Threshold};

/// The key of OpenTelemetry's entry.
const OT: &str = "ot";
const THRESHOLD: &str = "th";
const RANDOMNESS: &str = "rv";

/// Returns the randomness that `state` carries.
pub(super) fn randomness(state: &TraceState) -> Option<Randomness> {
    value(state, RANDOMNESS).and_then(Randomness::parse)
}

/// Returns the threshold that `state` carries.
pub(super) fn threshold(state: &TraceState) -> Option<Threshold> {
    value(state, THRESHOLD).and_then(Threshold::parse)
}

/// Returns `state` with this threshold and this randomness instead of its own.
pub(super) fn with(
    state: &TraceState,
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
) -> TraceState {
    let mut entry = String::new();
    let mut add = |key: &str, value: &dyn fmt::Display| {
        let separator = if entry.is_empty() { "" } else { ";" };
        let _ = write!(entry, "{separator}{key}:{value}");
    };
    if let Some(threshold) = threshold {
        add(THRESHOLD, &threshold);
    }
    if let Some(randomness) = randomness {
        add(RANDOMNESS, &randomness);
    }
    for (key, value) in pairs(state) {
        if ![THRESHOLD, RANDOMNESS].contains(&key) {
            add(key, &value);
        }
    }
    let changed = match (&*entry, state.get(OT)) {
        ("", None) => return state.clone(),
        ("", Some(_)) => state.delete(OT),
        _ => state.insert(OT, entry),
    };
    // It fails only if there is too much in it already. A threshold that is not ours would be wrong.
    changed.or_else(|_| state.delete(OT)).unwrap_or_default()
}

fn value<'s>(state: &'s TraceState, key: &str) -> Option<&'s str> {
    pairs(state).find_map(|(name, value)| (name == key).then_some(value))
}

fn pairs(state: &TraceState) -> impl Iterator<Item = (&str, &str)> {
    let values = state.get(OT).into_iter().flat_map(|entry| entry.split(';'));
    values.filter_map(|value| value.split_once(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(entries: &[(&str, &str)]) -> TraceState {
        TraceState::from_key_value(entries.iter().copied()).unwrap()
    }

    #[test]
    fn other_values_and_other_entries_are_kept() {
        let before = state(&[("vendor", "1"), ("ot", "p:8;th:c;rv:0123456789abcd;x:y")]);
        let randomness = Randomness::parse("0fedcba9876543");
        let after = with(&before, Threshold::parse("8"), randomness);
        let expected = "ot=th:8;rv:0fedcba9876543;p:8;x:y,vendor=1";
        assert_eq!(after.header(), expected);
        assert_eq!(super::randomness(&after), randomness);
        assert_eq!(threshold(&after), Threshold::parse("8"));
        assert_eq!(with(&after, None, None).header(), "ot=p:8;x:y,vendor=1");
        let only = state(&[("ot", "th:c"), ("vendor", "1")]);
        assert_eq!(with(&only, None, None).header(), "vendor=1");
        assert_eq!(with(&TraceState::default(), None, None).header(), "");
    }

    #[test]
    fn what_is_too_long_is_removed_instead_of_wrong() {
        let long = format!("th:c;x:{}", "y".repeat(240));
        let after = with(
            &state(&[("ot", &long)]),
            None,
            Randomness::parse("0fedcba9876543"),
        );
        assert_eq!(threshold(&after), None);
    }
}
