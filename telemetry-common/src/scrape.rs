//! The process's metrics as Prometheus text.

use prometheus::{Encoder, Registry, TextEncoder};

/// Answers a scrape: the very metrics that are pushed, as they are now.
#[derive(Clone, Debug)]
pub struct Scrape(pub(crate) Registry);

impl Scrape {
    /// The media type of [`text`](Self::text).
    pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
