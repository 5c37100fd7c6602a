//! Conversions between counts and floating-point numbers.

/// Converts a count to `f64`.
#[expect(
    clippy::cast_precision_loss,
    reason = "a run counts less than 2^52 of anything"
)]
pub fn to_f64(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or_default() as f64
}

/// Converts a whole number to `u64`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a run counts less than 2^52 of anything"
)]
pub fn to_u64(count: f64) -> u64 {
    count as u64
}
