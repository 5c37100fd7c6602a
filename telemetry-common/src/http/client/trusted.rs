//! The hosts that a client trusts with data about users.

use std::sync::Arc;

use reqwest::{Url, redirect::Policy};

/// The maximum number of redirects, as in reqwest's own policy.
const MAX_REDIRECTS: usize = 10;

/// The hosts that receive the baggage and the request id, which may be about users.
#[derive(Clone, Debug)]
pub struct TrustedHosts(Option<Arc<[String]>>);

impl TrustedHosts {
    /// Trusts no host.
    pub fn none() -> Self {
        Self::only::<&str>([])
    }

    /// Trusts these hosts: names or addresses as in a URL, without port.
    pub fn only<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self(Some(hosts.into_iter().map(Into::into).collect()))
    }

    /// Trusts every host. Use it only if all requests stay inside your system.
    pub fn all() -> Self {
        Self(None)
    }

    /// Returns a policy that follows up to 10 redirects, but none from a trusted host to another host.
    /// The caller then receives the redirect as the response.
    pub fn redirect_policy(&self) -> Policy {
        let trusted = self.clone();
        Policy::custom(move |attempt| {
            let first = attempt.previous().first();
            let leaves = first.is_some_and(|first| trusted.contains(first))
                && !trusted.contains(attempt.url());
            match attempt.previous().len() {
                _ if leaves => attempt.stop(),
                ..=MAX_REDIRECTS => attempt.follow(),
                _ => attempt.error("too many redirects"),
            }
        })
    }

    pub(super) fn contains(&self, url: &Url) -> bool {
        let Some(hosts) = &self.0 else { return true };
        let host = url.host_str();
        host.is_some_and(|host| hosts.iter().any(|it| it.eq_ignore_ascii_case(host)))
    }
}
