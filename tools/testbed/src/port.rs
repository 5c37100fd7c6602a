//! Free ports on 127.0.0.1, for servers that need a port number before they start or that restart
//! on the same port.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// The range of ports to choose from. It is below Linux's ephemeral ports (32768 and above), so
/// that no outgoing connection takes the port while its server is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Returns a port that is free now.
pub fn free() -> Result<u16> {
    Ok(listener()?.local_addr()?.port())
}

/// Binds a listener to a free port of the range.
pub fn listener() -> Result<TcpListener> {
    let bind = |_| TcpListener::bind(("127.0.0.1", fastrand::u16(PORTS))).ok();
    (0..1000)
        .find_map(bind)
        .context("no free port on 127.0.0.1")
}
