//! An HTTP proxy that understands CONNECT, as companies put one before the internet.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A running proxy. It leads every name to one address, and notes the names.
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that leads everywhere to this address.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("could not listen on loopback")?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A connection that breaks is its client's affair.
                tokio::spawn(serve(client, target, Arc::clone(&notes)));
            }
        });
        Ok(Self { address, asked })
    }

    /// The value for `HTTPS_PROXY`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The hosts and ports that were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(client: TcpStream, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> Result<()> {
    let mut client = BufReader::new(client);
    let (mut first, mut line) = (String::new(), String::new());
    client.read_line(&mut first).await?;
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let host = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("not CONNECT")?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(host.to_owned());
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
