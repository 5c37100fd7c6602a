//! The metrics of the process in the Prometheus text format.

use prometheus::{Encoder, Registry, TextEncoder};

/// The metrics of the process for a Prometheus scrape: the same metrics that OTLP exports.
///
/// ```
/// use telemetry_common::Scrape;
///
/// /// The response to a scrape: its media type and its body.
/// fn respond(scrape: &Scrape) -> Result<(&'static str, String), prometheus::Error> {
///     Ok((Scrape::MEDIA_TYPE, scrape.text()?))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Scrape(pub(crate) Registry);

impl Scrape {
    /// The media type of [`text`](Self::text), for the header `content-type`.
    pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

    /// Returns all metrics in the Prometheus text format, version 0.0.4.
    ///
    /// Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
