//! A TCP proxy that can become a black hole for the client: its connections stay open, and no byte passes, as
//! if the host of the server were lost without a word. The server's side is closed, as by a restart.

use std::{future::pending, net::SocketAddr};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
    task::JoinSet,
};

use crate::port;

/// A running proxy. It stops on drop.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    swallowed: watch::Sender<()>,
    _server: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy to an address, for example `127.0.0.1:5432`.
    pub fn start(target: &str) -> Result<Self> {
        let listener = port::listener()?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let swallowed = watch::Sender::new(());
        let (target, events) = (target.to_owned(), swallowed.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, target.clone(), events.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            swallowed,
            _server: server,
        })
    }

    /// Returns the address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Swallows what the clients of the connections that exist now send. New connections work.
    pub fn swallow(&self) {
        self.swallowed.send_replace(());
    }
}

async fn pass(mut client: TcpStream, target: String, mut swallowed: watch::Receiver<()>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = swallowed.changed() => drop(server),
    }
    // Keeps the client's connection open.
    pending::<()>().await;
}
