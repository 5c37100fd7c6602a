//! The values of variables. Each error says what is wrong with the value.

use std::{fmt::Display, str::FromStr};

use crate::Exporter;

/// Sets a field to a value that was parsed.
pub(super) fn set<T>(field: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *field = parsed?;
    Ok(())
}

pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

pub(super) fn ratio(value: &str) -> Result<f64, String> {
    let ratio: f64 = parse(value.trim())?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(format!("{value:?} is not between 0 and 1"))
    }
}

pub(super) fn pairs(value: &str) -> Result<(), String> {
    match value.split(',').find(|pair| !pair.contains('=')) {
        None => Ok(()),
        // The value of a header may be a secret.
        Some(_) => Err("an item is not a key=value pair".to_owned()),
    }
}

pub(super) fn count(value: &str) -> Result<usize, String> {
    parse(value.trim())
}

pub(super) fn parse<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{value:?}: {error}"))
}

/// Sets `list` to the accepted items of `value`; `none` is the empty list. Returns what is wrong
/// with the others.
pub(super) fn list<T>(
    list: &mut Vec<T>,
    value: &str,
    accepts: impl Fn(T) -> bool,
) -> Result<(), String>
where
    T: FromStr<Err = String> + PartialEq + Copy,
{
    let (mut accepted, mut wrong, mut none) = (Vec::new(), Vec::new(), false);
    for text in value
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        match text.parse() {
            Err(_) if text.eq_ignore_ascii_case("none") => none = true,
            Err(reason) => wrong.push(reason),
            Ok(item) if !accepts(item) => wrong.push(format!("{text:?} is not supported here")),
            Ok(item) if accepted.contains(&item) => {}
            Ok(item) => accepted.push(item),
        }
    }
    if none || !accepted.is_empty() {
        *list = accepted;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// Whether an exporter sends data, in contrast to one that is read.
pub(super) fn is_push(exporter: Exporter) -> bool {
    exporter != Exporter::Prometheus
}
