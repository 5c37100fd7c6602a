//! A TCP proxy that can become a black hole: connections stay open, and no byte passes, as if the host of
//! the server were lost without a word. The server's side is closed, as by a restart.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    state: watch::Sender<State>,
    target: Arc<Mutex<String>>,
    _server: JoinSet<()>,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes pass.
    Open,
    /// No byte passes, on the connections that exist and on new ones.
    Dark,
    /// All connections are closed.
    Closed,
}

impl Proxy {
    /// Starts a proxy to an address, for example `127.0.0.1:5432`.
    pub fn start(target: &str) -> Result<Self> {
        let listener = port::listener()?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let state = watch::Sender::new(State::Open);
        let target = Arc::new(Mutex::new(target.to_owned()));
        let (targets, states) = (Arc::clone(&target), state.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let target = lock(&targets).clone();
                connections.spawn(serve(client, target, states.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            state,
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

    /// Becomes a black hole.
    pub fn go_dark(&self) {
        self.state.send_replace(State::Dark);
    }

    /// Lets new connections pass. The connections of before and from within the dark stay dead.
    pub fn come_back(&self) {
        self.state.send_replace(State::Open);
    }

    /// Closes all connections. New connections pass.
    pub fn cut(&self) {
        self.state.send_replace(State::Closed);
        self.state.send_replace(State::Open);
    }
}

fn lock(target: &Mutex<String>) -> MutexGuard<'_, String> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut client: TcpStream, target: String, mut states: watch::Receiver<State>) {
    let mut state = *states.borrow_and_update();
    if state == State::Open {
        let Ok(mut server) = TcpStream::connect(target).await else {
            return;
        };
        select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = states.changed() => state = *states.borrow_and_update(),
        }
    }
    if state == State::Dark {
        // Keeps the client's connection open.
        pending::<()>().await;
    }
}
