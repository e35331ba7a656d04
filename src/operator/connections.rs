//! The connections of clients: how many there may be, and for how long.
//!
//! Whoever reaches the Pod may open connections before anybody asks who it is. Each costs memory and a file descriptor, and a process that runs
//! out of either loses what is in memory alone.
//!
//! # Guarantees
//!
//! - No more than [`MOST`] connections are open at a port, and no more than [`MOST_OF_ONE`] of them are from one address. What comes beyond
//!   that is closed at once, so that one client keeps neither the kubelet nor Prometheus out.
//! - A connection carries one request. The request has to come within [`PATIENCE`], after a handshake that may take as long.
//! - No connection lives longer than [`LIFE`], whatever its client does or does not read.

use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::connect_info::IntoMakeServiceWithConnectInfo};
use axum_server::{Server, accept::Accept};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

use super::places::{Place, Places};

/// How many connections one port has at most.
const MOST: usize = 128;

/// How many of them may be from one address: two Prometheus servers behind one, and probes.
const MOST_OF_ONE: usize = 16;

/// How long a client may take for its handshake, and then until its request.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may live: longer than handshake, request, reviews and the longest scrape take together.
const LIFE: Duration = Duration::from_mins(2);

/// The head of a request may have so many bytes: a token of 16 KiB, and what else there is.
const MOST_BYTES: usize = 64 * 1024;

/// A server of plain HTTP. `map` puts TLS around its connections.
///
/// # Errors
/// The listener cannot be used.
pub(super) fn server(listener: TcpListener) -> io::Result<Server<SocketAddr, Doorkeeper>> {
    let server = axum_server::from_tcp(listener.into_std()?)?.acceptor(Doorkeeper(Places::new(MOST, MOST_OF_ONE)));
    let mut server = server.http1_only().first_request_timeout(PATIENCE);
    server.http_builder().http1().keep_alive(false).max_buf_size(MOST_BYTES);
    Ok(server)
}

/// Serves plain HTTP for ever.
///
/// # Errors
/// The listener cannot be used.
pub(super) async fn serve_plain(listener: TcpListener, router: Router) -> io::Result<()> {
    server(listener)?.serve(with_address(router)).await
}

/// The router, whose handlers may ask for the address of the client (`ConnectInfo`).
pub(super) fn with_address(router: Router) -> IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
    router.into_make_service_with_connect_info()
}

/// Lets connections in while there are places.
#[derive(Clone)]
pub(super) struct Doorkeeper(Places);

impl Doorkeeper {
    fn let_in(&self, stream: TcpStream) -> io::Result<Connection> {
        let place = self.0.take(stream.peer_addr()?.ip());
        let place = place.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionRefused, "too many connections"))?;
        Ok(Connection { stream, end: Box::pin(sleep(LIFE)), _place: place })
    }
}

impl<S> Accept<TcpStream, S> for Doorkeeper {
    type Stream = Connection;
    type Service = S;
    type Future = Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.let_in(stream).map(|connection| (connection, service)))
    }
}

/// A connection that has a place, and an end.
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    /// The stream, while the connection may live. Whoever waits for it is woken at its end.
    fn live(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.live(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.live(context)?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.live(context)?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live(context)?.poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use axum::{body::Body, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// A server with a short answer at `/` and one without end at `/endless`.
    async fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endless = async || Body::from_stream(futures::stream::repeat_with(|| Ok::<_, io::Error>("0".repeat(65_536))));
        let router = Router::new().route("/", get(async || "ok")).route("/endless", get(endless));
        tokio::spawn(serve_plain(listener, router));
        address
    }

    /// From another address of the same machine.
    async fn connect_from(address: &str, server: SocketAddr) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        socket.connect(server).await.unwrap()
    }

    /// More than sockets buffer.
    const TOO_MANY_BYTES: u64 = 100_000_000;

    /// What comes until the server closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        // A connection that is closed with bytes unread is reset.
        let _ = stream.take(TOO_MANY_BYTES).read_to_end(&mut bytes).await;
        assert!(bytes.len() < usize::try_from(TOO_MANY_BYTES).unwrap(), "the connection does not end");
        String::from_utf8(bytes).unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> String {
        let _ = stream.write_all(REQUEST).await;
        rest(stream).await
    }

    #[tokio::test]
    async fn a_client_that_opens_all_it_can_keeps_no_other_out() {
        let server = serve().await;
        let mut idle = Vec::new();
        for _ in 0..2 * MOST_OF_ONE {
            idle.push(connect_from("127.0.0.2", server).await);
        }
        assert_eq!(ask(&mut connect_from("127.0.0.2", server).await).await, "", "it has no place any more");
        let answer = ask(&mut connect_from("127.0.0.1", server).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close"), "{answer}");
        drop(idle);
        let mut answer = String::new();
        for _ in 0..100 {
            answer = ask(&mut connect_from("127.0.0.2", server).await).await;
            if !answer.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(answer.ends_with("ok"), "its places are free: {answer}");
    }

    /// With time that passes by itself when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_whatever_its_client_does() {
        let server = serve().await;
        let started = tokio::time::Instant::now();
        for (said, limit) in
            [("", PATIENCE), ("GET / HTTP/1.1\r\nHost: ", PATIENCE), ("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n", LIFE)]
        {
            let mut stream = TcpStream::connect(server).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let begun = started.elapsed();
            // It reads nothing until then.
            tokio::time::sleep(limit + Duration::from_secs(1)).await;
            rest(&mut stream).await;
            let took = started.elapsed().checked_sub(begun).unwrap();
            assert!(took < limit + Duration::from_secs(2), "{said:?} took {took:?}");
        }
    }
}
