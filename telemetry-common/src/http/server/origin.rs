//! Where a request comes from, and which server it addresses.

use std::net::SocketAddr;

use http::header::HOST;

use super::{RequestHead, forwarded, options::Options};
use crate::{edge::Attributes, semconv};

/// The scheme and the addresses of a request.
pub(crate) struct Origin<'r> {
    pub(super) scheme: &'static str,
    server: Option<&'r str>,
    port: Option<i64>,
    peer: Option<SocketAddr>,
    forwarded: Option<&'r str>,
}

impl<'r> Origin<'r> {
    pub(super) fn of(options: &Options, head: &RequestHead<'r>) -> Self {
        // The client writes the scheme of the URI, so what the service declares comes first.
        let scheme = forwarded::scheme(options.client_address, head.headers)
            .or(options.scheme)
            .or_else(|| forwarded::known_scheme(head.uri.scheme_str()?))
            .unwrap_or("http");
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.map_or((None, None), split_port);
        let authority = head.uri.authority();
        let authority = authority.map(|it| (Some(it.host()), it.port_u16()));
        let (server, port) = authority.unwrap_or(host);
        Self {
            scheme,
            server,
            port: port.map(i64::from),
            peer: peer(options, head),
            forwarded: forwarded::client_address(options.client_address, head.headers),
        }
    }

    /// Adds the addresses of the server, the client and the peer.
    pub(crate) fn describe(&self, attributes: &mut Attributes) {
        attributes.add_some(semconv::SERVER_ADDRESS, self.server.map(str::to_owned));
        attributes.add_some(semconv::SERVER_PORT, self.port);
        let peer = self.peer.map(|peer| peer.ip().to_string());
        let client = self.forwarded.map(str::to_owned).or_else(|| peer.clone());
        attributes.add_some(semconv::CLIENT_ADDRESS, client);
        attributes.add_some(semconv::NETWORK_PEER_ADDRESS, peer);
        let port = self.peer.map(|peer| i64::from(peer.port()));
        attributes.add_some(semconv::NETWORK_PEER_PORT, port);
    }
}

/// Splits `example.com:8080` or `[::1]:8080`.
fn split_port(host: &str) -> (Option<&str>, Option<u16>) {
    match host.rsplit_once(':') {
        Some((server, port)) if !port.ends_with(']') => (Some(server), port.parse().ok()),
        _ => (Some(host), None),
    }
}

fn peer(options: &Options, head: &RequestHead<'_>) -> Option<SocketAddr> {
    if let Some(peer) = &options.peer {
        return peer(head);
    }
    #[cfg(feature = "axum")]
    if let Some(info) = head
        .extensions
        .get::<axum::extract::ConnectInfo<SocketAddr>>()
    {
        return Some(info.0);
    }
    None
}
