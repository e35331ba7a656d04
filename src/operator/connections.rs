//! The connections of clients: how many there may be, and for how long.
//!
//! Whoever reaches the Pod may open connections before anybody asks who it is. Each costs memory and a file descriptor, and a process that runs
//! out of either loses what is in memory alone.
//!
//! # Guarantees
//!
//! - About [`MOST`] connections are open at a port, and [`MOST_OF_ONE`] of them from one address.
//! - Whoever comes is let in, and the oldest connection gives way. So clients that keep connections open keep nobody out, neither the kubelet
//!   nor Prometheus, not even where both come from one address: a probe is over in milliseconds, so it is never the oldest for long.
//! - A connection carries one request. The request has to come within [`PATIENCE`], after a handshake that may take as long.
//! - No connection lives longer than [`LIFE`], whatever its client does or does not read.

use std::{
    collections::{BTreeMap, HashMap},
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::connect_info::IntoMakeServiceWithConnectInfo};
use axum_server::{Server, accept::Accept};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Sleep, sleep},
};

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
    let server = axum_server::from_tcp(listener.into_std()?)?.acceptor(Doorkeeper::default());
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

/// Lets each connection in, and has another one give way where there are too many.
#[derive(Clone, Default)]
pub(super) struct Doorkeeper(Arc<Mutex<Open>>);

/// The connections that are open, by when they came.
#[derive(Default)]
struct Open {
    came: u64,
    by_number: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
}

impl Open {
    /// Which one gives way to one that comes from this address: the oldest of the address that has too many, or else most.
    fn gives_way(&self, address: IpAddr) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (of, _) in self.by_number.values() {
            *counts.entry(*of).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let has_to = |of: &IpAddr| match counts.get(&address) {
            Some(of_one) if *of_one >= MOST_OF_ONE => *of == address,
            _ => self.by_number.len() >= MOST && counts.get(of) == Some(&most),
        };
        self.by_number.iter().find(|(_, (of, _))| has_to(of)).map(|(number, _)| *number)
    }
}

impl Doorkeeper {
    fn let_in(&self, stream: TcpStream) -> io::Result<Connection> {
        let address = stream.peer_addr()?.ip().to_canonical();
        let (keeps, displaced) = oneshot::channel();
        let mut open = self.open();
        if let Some(other) = open.gives_way(address) {
            // Its end is dropped, which the connection notices.
            open.by_number.remove(&other);
        }
        let number = open.came;
        open.came += 1;
        open.by_number.insert(number, (address, keeps));
        drop(open);
        Ok(Connection { stream, displaced, end: Box::pin(sleep(LIFE)), number, doorkeeper: self.clone() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A connection that lives until its end, or until it gives way.
pub(super) struct Connection {
    stream: TcpStream,
    displaced: oneshot::Receiver<()>,
    end: Pin<Box<Sleep>>,
    number: u64,
    doorkeeper: Doorkeeper,
}

impl Connection {
    /// The stream, while the connection may live. Whoever waits for it is woken at its end.
    fn live(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.displaced.is_terminated() || Pin::new(&mut self.displaced).poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.doorkeeper.open().by_number.remove(&self.number);
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
    async fn whoever_comes_is_let_in_and_the_oldest_connection_of_its_address_gives_way() {
        let server = serve().await;
        let mut idle = Vec::new();
        for _ in 0..=MOST_OF_ONE {
            idle.push(connect_from("127.0.0.2", server).await);
        }
        let answer = ask(&mut connect_from("127.0.0.2", server).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close"), "{answer}");
        assert_eq!(rest(&mut idle[0]).await, "", "it has given way");
        assert!(ask(&mut idle[MOST_OF_ONE]).await.ends_with("ok"), "the newest has not");
    }

    #[tokio::test]
    async fn clients_of_many_addresses_keep_no_other_out() {
        let server = serve().await;
        let mut idle = Vec::new();
        for last in 2..20 {
            for _ in 0..MOST_OF_ONE {
                idle.push(connect_from(&format!("127.0.0.{last}"), server).await);
            }
        }
        assert!(ask(&mut connect_from("127.0.0.1", server).await).await.ends_with("ok"));
    }

    #[test]
    fn the_oldest_of_the_address_that_has_most_gives_way() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut open = Open::default();
        let come = |open: &mut Open, from: IpAddr| {
            open.by_number.insert(open.came, (from, oneshot::channel().0));
            open.came += 1;
        };
        for number in 0..MOST - 1 {
            come(&mut open, address(u8::try_from(number % 100).unwrap()));
        }
        assert_eq!(open.gives_way(address(1)), None, "there is room for one more");
        come(&mut open, address(5));
        assert_eq!(open.gives_way(address(200)), Some(5), "this address has three");
        for _ in 0..MOST_OF_ONE {
            come(&mut open, address(200));
        }
        assert_eq!(open.gives_way(address(200)), Some(u64::try_from(MOST).unwrap()), "its own oldest");
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
