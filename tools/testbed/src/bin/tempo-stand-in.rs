//! Stands in for Tempo in a container where Tempo's own image cannot be pulled: it receives OTLP on
//! port 4317, returns traces by their id on port 3200 as Tempo does, and answers Tempo's health
//! check. It keeps traces in memory and searches nothing. Tempo's other arguments have no effect.
#![expect(clippy::print_stdout, reason = "its log shows that traces arrive")]

use std::{
    env,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use testbed::sink;

const OTLP: u16 = 4317;
const API: u16 = 3200;
/// How many export requests of spans it keeps; the collector batches up to some thousand spans.
const MOST: usize = 5_000;

fn main() -> Result<ExitCode> {
    if env::args().any(|argument| argument == "-health") {
        let ready = is_ready().unwrap_or(false);
        return Ok(ExitCode::from(u8::from(!ready)));
    }
    let any = Ipv4Addr::UNSPECIFIED;
    let addresses = [OTLP, API].map(|port| SocketAddr::from((any, port)));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(sink::serve(&addresses, MOST, |requests| {
        println!("Traces arrived in {requests} requests");
    }))?;
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
