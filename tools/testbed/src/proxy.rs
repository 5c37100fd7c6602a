//! A TCP proxy that can become a black hole: connections stay open, and no byte passes, as if the host of
//! the server were lost without a word. The server's side is closed, as by a restart.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

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
    /// Whether no byte passes on new connections.
    is_dark: Arc<AtomicBool>,
    /// What happens to the connections that exist.
    fate: watch::Sender<Fate>,
    target: Arc<Mutex<String>>,
    _server: JoinSet<()>,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It stays open, and no byte passes.
    Lost,
    /// It is closed.
    Closed,
}

impl Proxy {
    /// Starts a proxy to an address, for example `127.0.0.1:5432`.
    pub fn start(target: &str) -> Result<Self> {
        let listener = port::listener()?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let target = Arc::new(Mutex::new(target.to_owned()));
        let is_dark = Arc::new(AtomicBool::new(false));
        let fate = watch::Sender::new(Fate::Closed);
        let (targets, dark, fates) = (Arc::clone(&target), Arc::clone(&is_dark), fate.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if dark.load(Ordering::Relaxed) {
                    connections.spawn(keep_open(client));
                } else {
                    let target = lock(&targets).clone();
                    connections.spawn(pass(client, target, fates.subscribe()));
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            is_dark,
            fate,
            target,
            _server: server,
        })
    }

    /// Returns the address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another address.
    pub fn set_target(&self, target: &str) {
        target.clone_into(&mut lock(&self.target));
    }

    /// Makes the proxy a black hole, in which no byte passes on connections that exist and on new ones; or
    /// lets new connections pass again. Those from before stay open and silent.
    pub fn set_dark(&self, is_dark: bool) {
        self.is_dark.store(is_dark, Ordering::Relaxed);
        if is_dark {
            self.fate.send_replace(Fate::Lost);
        }
    }

    /// Closes the connections that exist. New ones pass.
    pub fn cut(&self) {
        self.fate.send_replace(Fate::Closed);
    }
}

fn lock(target: &Mutex<String>) -> MutexGuard<'_, String> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass(mut client: TcpStream, target: String, mut fate: watch::Receiver<Fate>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = fate.changed() => drop(server),
    }
    let fate = *fate.borrow();
    match fate {
        Fate::Lost => keep_open(client).await,
        Fate::Closed => {}
    }
}

async fn keep_open(_client: TcpStream) {
    pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_from_before_the_dark_is_silent_and_a_new_one_passes() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap().to_string();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = echo.accept().await {
                connections.spawn(async move {
                    let (mut reader, mut writer) = stream.into_split();
                    tokio::io::copy(&mut reader, &mut writer).await.ok();
                });
            }
        });
        let proxy = Proxy::start(&target).unwrap();
        let connect = async || TcpStream::connect(proxy.address()).await.unwrap();
        let mut before = connect().await;
        answer(&mut before).await.unwrap();
        proxy.set_dark(true);
        proxy.set_dark(false);
        let silence = timeout(Duration::from_millis(200), answer(&mut before)).await;
        assert!(silence.is_err(), "{silence:?}");
        let mut after = connect().await;
        answer(&mut after).await.unwrap();
        proxy.cut();
        answer(&mut after).await.unwrap_err();
    }

    async fn answer(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"?").await?;
        stream.read_u8().await
    }
}
