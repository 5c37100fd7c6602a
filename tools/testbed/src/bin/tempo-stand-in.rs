//! Replaces Tempo in a container where Tempo's own image cannot be pulled. It receives OTLP on port
//! 4317, returns traces by id on port 3200 as Tempo does, and implements Tempo's health check. It
//! stores traces in memory and does not support search. It ignores Tempo's other arguments.
#![expect(clippy::print_stdout, reason = "its log shows that it receives traces")]

use std::{
    env,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use testbed::sink;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};

const OTLP: u16 = 4317;
const API: u16 = 3200;
/// The maximum number of span export requests that it stores. The collector sends up to a few
/// thousand spans in one request.
const MAX_REQUESTS: usize = 5_000;

fn main() -> Result<ExitCode> {
    if env::args().any(|argument| argument == "-health") {
        let ready = is_ready().unwrap_or(false);
        return Ok(ExitCode::from(u8::from(!ready)));
    }
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let addresses = [OTLP, API].map(|port| SocketAddr::from((unspecified, port)));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let report = |requests| println!("Traces received in {requests} requests");
        // The first process of a container is not ended by SIGTERM unless it handles the signal.
        let mut stop = signal(SignalKind::terminate())?;
        select! {
            served = sink::serve(&addresses, MAX_REQUESTS, report) => served,
            _ = stop.recv() => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn is_ready() -> Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, API));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.contains(" 200 "))
}
