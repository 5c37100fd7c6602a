//! Consistent probability sampling:
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>.

use std::fmt;

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use super::state;

/// The number of values of the randomness of a trace: 2⁵⁶.
const VALUES: f64 = 72_057_594_037_927_936.0;
/// The number of hexadecimal digits of such a value.
const DIGITS: usize = 14;
/// The number of significant hexadecimal digits of a threshold, as the specification recommends.
const PRECISION: u32 = 4;
/// The maximum number of digits of a threshold that is computed.
const MAX_DIGITS: u32 = 12;

/// The randomness of a trace: 56 bits, which all its spans and the traces that link to it share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Randomness(u64);

impl Randomness {
    /// Returns the randomness that the trace state of a span carries as `rv`, or else that of its trace id.
    pub fn of(span: &SpanContext) -> Self {
        state::randomness(span.trace_state()).unwrap_or_else(|| Self::of_trace(span.trace_id()))
    }

    /// Returns the randomness of a trace id: its last seven bytes.
    pub fn of_trace(id: TraceId) -> Self {
        let [.., _, b1, b2, b3, b4, b5, b6, b7] = id.to_bytes();
        Self(u64::from_be_bytes([0, b1, b2, b3, b4, b5, b6, b7]))
    }

    /// Parses the value of `rv`: 14 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let has_all = text.len() == DIGITS;
        has_all.then(|| parse(text)).flatten().map(Self)
    }
}

/// As the value of `rv`.
impl fmt::Display for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014x}", self.0)
    }
}

/// The threshold of a probability: a trace is sampled if its randomness is at least this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u64);

impl Threshold {
    /// Returns the threshold of a probability, rounded to four significant hexadecimal digits. `None` if no
    /// trace is sampled, because the probability is less than 2⁻⁵⁶.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the values are between 0 and 2^56, and rounded"
    )]
    pub fn of(probability: f64) -> Option<Self> {
        if probability.is_nan() || probability * VALUES < 1.0 {
            return None;
        }
        let probability = probability.min(1.0);
        // The leading digits `f` of the threshold of a small probability are not significant.
        let leading = (-probability.log2()).ceil().max(1.0) as u32 - 1;
        let digits = (PRECISION + leading / 4).min(MAX_DIGITS);
        let units = 16_f64.powi(digits.cast_signed());
        let rejected = ((1.0 - probability) * units).round().min(units - 1.0);
        Some(Self((rejected / units * VALUES) as u64))
    }

    /// Parses the value of `th`: 1 to 14 hexadecimal digits, without the zeros at the end.
    pub fn parse(text: &str) -> Option<Self> {
        let missing = DIGITS.checked_sub(text.len())?;
        Some(Self(parse(text)? << (4 * missing)))
    }

    /// Whether a trace with this randomness is sampled.
    pub fn accepts(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }

    /// Returns how many traces a sampled one stands for.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 of 56 bits are enough for an estimate"
    )]
    pub fn adjusted_count(self) -> f64 {
        VALUES / ((1 << (4 * DIGITS)) - self.0) as f64
    }
}

/// As the value of `th`.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the zeros at the end, but with one digit.
        let zeros = (self.0.trailing_zeros() as usize / 4).min(DIGITS - 1);
        let digits = self.0 >> (4 * zeros);
        write!(f, "{digits:0width$x}", width = DIGITS - zeros)
    }
}

/// Parses hexadecimal digits, of which there must be one at least, and no sign.
fn parse(digits: &str) -> Option<u64> {
    let is_valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_valid
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Samples a share of the traces, and records the threshold in the trace state of their spans, as `ot=th:…`.
///
/// The decision follows from the randomness of the trace. So a trace that is sampled with one probability is
/// also sampled with each higher one, in whichever service.
#[derive(Clone, Debug)]
pub struct ConsistentProbability(Option<Threshold>);

impl ConsistentProbability {
    /// Samples with this probability, from 0 to 1.
    pub fn new(probability: f64) -> Self {
        Self(Threshold::of(probability))
    }
}

impl ShouldSample for ConsistentProbability {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().trace_state().clone());
        let parent = parent.unwrap_or_default();
        let randomness = state::randomness(&parent);
        let used = randomness.unwrap_or_else(|| Randomness::of_trace(trace_id));
        let threshold = self.0.filter(|threshold| threshold.accepts(used));
        SamplingResult {
            decision: match threshold {
                Some(_) => SamplingDecision::RecordAndSample,
                None => SamplingDecision::Drop,
            },
            attributes: Vec::new(),
            trace_state: state::with(&parent, threshold, randomness),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification, for a precision of four digits.
    #[test]
    fn thresholds_are_those_of_the_specification() {
        for (count, expected) in [
            (1.0, "0"),
            (2.0, "8"),
            (3.0, "aaab"),
            (4.0, "c"),
            (5.0, "cccd"),
            (8.0, "e"),
            (10.0, "e666"),
            (16.0, "f"),
            (100.0, "fd70a"),
            (1_000.0, "ffbe77"),
            (10_000.0, "fff9724"),
            (100_000.0, "ffff583a"),
            (1_000_000.0, "ffffef39"),
        ] {
            let threshold = Threshold::of(1.0 / count).unwrap();
            assert_eq!(threshold.to_string(), expected, "1 in {count}");
            assert_eq!(Threshold::parse(expected), Some(threshold));
            let difference = threshold.adjusted_count() / count - 1.0;
            assert!(difference.abs() < 1e-4, "1 in {count}: {difference}");
        }
        assert_eq!(Threshold::of(0.0), None);
        assert_eq!(Threshold::of(f64::NAN), None);
        let smallest = Threshold::of(1.0 / VALUES).unwrap();
        assert_eq!(smallest.to_string(), "ffffffffffff");
        let rarest = Threshold::parse("ffffffffffffff").unwrap();
        assert!(rarest.adjusted_count().is_finite());
    }

    #[test]
    fn invalid_values_are_ignored() {
        for text in ["", "g", "+1", "-1", "fd70a4fd70a4fd7", "0x1", " 1"] {
            assert_eq!(Threshold::parse(text), None, "{text:?}");
        }
        for text in [
            "",
            "1",
            "0123456789abcdef",
            "0123456789abcg",
            "+123456789abcd",
        ] {
            assert_eq!(Randomness::parse(text), None, "{text:?}");
        }
        let randomness = Randomness::parse("00000000000abc").unwrap();
        assert_eq!(randomness.to_string(), "00000000000abc");
    }

    // proves: N30
    #[test]
    fn adjusted_counts_add_up_to_the_number_of_traces() {
        let mut random = fastrand::Rng::with_seed(28);
        for probability in [0.5, 0.1, 0.01, 0.003] {
            let sampler = ConsistentProbability::new(probability);
            let traces = 200_000;
            let mut estimate = 0.0;
            for _ in 0..traces {
                let id = TraceId::from(random.u128(..));
                let result = sampler.should_sample(None, id, "", &SpanKind::Internal, &[], &[]);
                if result.decision == SamplingDecision::RecordAndSample {
                    estimate += state::threshold(&result.trace_state)
                        .unwrap()
                        .adjusted_count();
                }
            }
            let traces = f64::from(traces);
            let standard_error = (traces * (1.0 - probability) / probability).sqrt();
            let error = (estimate - traces).abs();
            assert!(error < 3.0 * standard_error, "{probability}: {estimate}");
        }
    }
}
