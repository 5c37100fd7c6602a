//! TLS for the sinks and the broker: a self-signed certificate, and a listener that uses it.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Result;
use axum::serve;
use rcgen::{CertifiedKey, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    server::TlsStream,
};

/// Creates an acceptor with a self-signed certificate for 127.0.0.1. Also returns the certificate
/// as PEM, which clients need as their certificate authority.
pub(crate) fn self_signed() -> Result<(TlsAcceptor, String)> {
    let CertifiedKey { cert, signing_key } = certificate()?;
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), cert.pem()))
}

/// Creates a self-signed certificate for 127.0.0.1, and its key.
pub(crate) fn certificate() -> Result<CertifiedKey<KeyPair>> {
    Ok(rcgen::generate_simple_self_signed(
        ["127.0.0.1".to_owned()],
    )?)
}

pub(crate) struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    pub(crate) fn new(tcp: TcpListener, tls: TlsAcceptor) -> Self {
        Self { tcp, tls }
    }
}

impl serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = serve::Listener::accept(&mut self.tcp).await;
            // A client that does not trust the certificate fails its handshake; accept the next
            // one.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
