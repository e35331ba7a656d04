//! A running stand-in: what a test sets up in it and asks of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    commands,
    ledger::{Ledger, Login, Refusal, Refused, lock},
    session::Session,
    users::Identity,
    wire,
};
use crate::tls::TlsFiles;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How a stand-in is set up.
pub struct StandInConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it shows to clients.
    pub tls: TlsFiles,
    /// PEM of the CAs whose client certificates it takes.
    pub ca: String,
}

/// A running stand-in; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct StandIn {
    address: SocketAddr,
    state: Arc<State>,
    _task: Arc<Task>,
}

struct State {
    users: Mutex<BTreeSet<String>>,
    ledger: Ledger,
    clock: Arc<Clock>,
    connections: Mutex<BTreeMap<u64, AbortHandle>>,
    next: AtomicU64,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The time by which certificates are verified: the machine's, moved by so many seconds.
#[derive(Debug, Default)]
struct Clock(AtomicI64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let moved = UnixTime::now().as_secs().checked_add_signed(self.0.load(Ordering::SeqCst))?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(moved)))
    }
}

impl StandIn {
    /// Starts one.
    ///
    /// # Errors
    /// The address cannot be listened on, or a CA cannot be read.
    pub async fn start(config: StandInConfig) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(config.ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let clock = Arc::<Clock>::default();
        let acceptor = config.tls.acceptor_for(verifier, Arc::clone(&clock) as Arc<dyn TimeProvider>)?;
        let listener = TcpListener::bind(config.listen).await.context("could not listen")?;
        let (users, ledger, connections) = (Mutex::default(), Ledger::default(), Mutex::default());
        let state = Arc::new(State { users, ledger, clock, connections, next: AtomicU64::new(1) });
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Ok(Self { address, state, _task: Arc::new(Task(task.abort_handle())) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Creates the user of this name in `$external`.
    pub fn add_user(&self, name: &str) {
        lock(&self.state.users).insert(name.to_owned());
    }

    /// Who has logged in so far.
    #[must_use]
    pub fn logins(&self) -> Vec<Login> {
        self.state.ledger.logins()
    }

    /// Who was refused so far.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refused> {
        self.state.ledger.refusals()
    }

    /// Closes every connection, as a failover does.
    pub fn drop_connections(&self) {
        for (_, connection) in std::mem::take(&mut *lock(&self.state.connections)) {
            connection.abort();
        }
    }

    /// Has it verify certificates by a clock that is so far from the machine's.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        self.state.clock.0.store(offset.as_secs(), Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let number = state.next.fetch_add(1, Ordering::SeqCst);
        let (acceptor, own) = (acceptor.clone(), Arc::clone(&state));
        // It is known before it can be served, or `drop_connections` could miss it.
        let mut known = lock(&state.connections);
        let handle = connections.spawn(async move {
            // A client that breaks off is no concern of the others.
            let _ = serve(stream, acceptor, number, &own).await;
            lock(&own.connections).remove(&number);
        });
        known.insert(number, handle);
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, connection: u64, state: &State) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await? {
        Ok(stream) => stream,
        Err(error) => {
            state.ledger.refuse(connection, Refusal::of_handshake(&error));
            return Err(error.into());
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).context("no certificate")?;
    let identity = Identity::of(shown)?;
    let (driver, users, ledger) = (String::new(), &state.users, &state.ledger);
    let mut session = Session { connection, identity, driver, user: None, users, ledger };
    while let Some(request) = wire::read(&mut stream).await? {
        let answer = commands::answer(&mut session, &request.command);
        if request.wants_answer {
            wire::answer(&mut stream, &request, &answer).await?;
        }
    }
    Ok(())
}
