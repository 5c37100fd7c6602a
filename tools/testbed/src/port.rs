//! Ports of 127.0.0.1 for servers that must know theirs before they start, or that start again where
//! they were.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// Below the ports that Linux gives to outgoing connections (32768 and above): no connection takes
/// the port while its server is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A port that is free now.
pub fn free() -> Result<u16> {
    Ok(listener()?.local_addr()?.port())
}

/// Listens on a port of that range.
pub fn listener() -> Result<TcpListener> {
    let bind = |_| TcpListener::bind(("127.0.0.1", fastrand::u16(PORTS))).ok();
    (0..1000)
        .find_map(bind)
        .context("no port of 127.0.0.1 is free")
}
