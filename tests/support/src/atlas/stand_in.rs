//! A running stand-in: what a test sets up in it and asks of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use tokio::{net::TcpListener, task::AbortHandle};

use super::{
    Fault, KeyPool, LoggedRequest, Mint, Point, RateLimit, Refusal, StandInConfig, X509Type,
    certificate::{self, Order},
    certs::common_name,
    digest::Nonces,
    server::accept,
    state::{State, lock},
    token::{Account, Tokens},
};
use crate::{evidence, tls::TlsFiles};

/// A running stand-in; it stops when the last handle is dropped.
#[derive(Clone)]
pub struct StandIn {
    address: SocketAddr,
    tls: Option<TlsFiles>,
    state: Arc<Mutex<State>>,
    _task: Arc<Task>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StandIn {
    /// Starts it.
    ///
    /// # Errors
    /// The address cannot be listened on, or the keys cannot be made.
    pub async fn start(config: StandInConfig) -> Result<Self> {
        let pool = config.key_pool.clone();
        let pool = tokio::task::spawn_blocking(move || KeyPool::open(&pool)).await??;
        let state = Arc::new(Mutex::new(State {
            nonces: Nonces::new(config.digest, config.nonce_lifetime),
            certificate_limit: config.certificate_limit,
            keys: [].into(),
            projects: [].into(),
            faults: [].into(),
            question_faults: [].into(),
            observer: None,
            tokens: Tokens::new(config.token_lifetime),
            rate_limit: config.rate_limit,
            buckets_open: jiff::Timestamp::UNIX_EPOCH,
            buckets: [].into(),
            mints: Vec::new(),
            requests: Vec::new(),
            clock_offset: SignedDuration::ZERO,
            list_lag: SignedDuration::ZERO,
            pool,
            next_serial: jiff::Timestamp::now().as_microsecond(),
        }));
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("could not listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let tls = config.tls.then(TlsFiles::new).transpose()?;
        let acceptor = tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state))).abort_handle();
        Ok(Self { address, tls, state, _task: Arc::new(Task(task)) })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// PEM of the CA that its TLS certificate is from.
    #[must_use]
    pub fn ca_certificate(&self) -> Option<String> {
        self.tls.as_ref().map(TlsFiles::ca_certificate)
    }

    /// Adds a service account that may use a project.
    pub fn add_service_account(&self, project_id: &str, client_id: &str, client_secret: &str) {
        let mut state = lock(&self.state);
        state.projects.entry(project_id.to_owned()).or_default();
        let account = state
            .tokens
            .accounts
            .entry(client_id.to_owned())
            .or_insert_with(|| Account { secret: String::new(), projects: Vec::new() });
        evidence::secret(client_secret);
        evidence::secret(&format!("{client_id}:{client_secret}"));
        client_secret.clone_into(&mut account.secret);
        account.projects.push(project_id.to_owned());
    }

    /// Ends all tokens before their time.
    pub fn revoke_tokens(&self) {
        lock(&self.state).tokens.revoke_all();
    }

    /// Every token that was given out.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        lock(&self.state).tokens.all()
    }

    /// Answers questions about this user, its certificates included, with a refusal.
    pub fn refuse_questions(&self, username: &str, refusal: Refusal) {
        lock(&self.state).question_faults.insert(username.to_owned(), refusal);
    }

    /// Answers questions about this user again.
    pub fn answer_questions(&self, username: &str) {
        lock(&self.state).question_faults.remove(username);
    }

    /// Calls `observer` at each point of each mint with the user's name.
    pub fn observe(&self, observer: impl Fn(Point, &str) + Send + Sync + 'static) {
        lock(&self.state).observer = Some(Arc::new(observer));
    }

    /// Sets the limit of all projects, each with a full bucket that gives nothing for so long.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>, closed: Duration) {
        let mut state = lock(&self.state);
        state.rate_limit = limit;
        state.buckets_open = jiff::Timestamp::now().saturating_add(closed).unwrap_or(jiff::Timestamp::MAX);
        state.buckets.clear();
    }

    /// Mints a certificate beside the API, as another program would.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn mint_for(&self, project_id: &str, username: &str, not_after: jiff::Timestamp) -> Result<Mint> {
        let mut state = lock(&self.state);
        let (serial, now) = (state.take_serial(), state.now());
        let common_name = common_name(username);
        let order = Order { project_id, username, common_name, months: 1, not_after: Some(not_after), serial, now };
        let mint = certificate::mint(&state.pool, &order)?;
        state.mints.push(mint.clone());
        Ok(mint)
    }

    /// Adds a project and an API key that may use it.
    pub fn add_project(&self, id: &str, public_key: &str, private_key: &str) {
        let mut state = lock(&self.state);
        state.projects.entry(id.to_owned()).or_default();
        let key = state.keys.entry(public_key.to_owned()).or_default();
        evidence::secret(private_key);
        private_key.clone_into(&mut key.0);
        key.1.push(id.to_owned());
    }

    /// Takes an API key away.
    pub fn revoke_key(&self, public_key: &str) {
        lock(&self.state).keys.remove(public_key);
    }

    /// Adds a database user.
    pub fn add_user(&self, project_id: &str, username: &str, type_: X509Type) {
        lock(&self.state).projects.entry(project_id.to_owned()).or_default().insert(username.to_owned(), type_);
    }

    /// Deletes a database user; its certificates stay valid.
    pub fn remove_user(&self, project_id: &str, username: &str) {
        if let Some(users) = lock(&self.state).projects.get_mut(project_id) {
            users.remove(username);
        }
    }

    /// Plays a fault at each request for a certificate of this user.
    pub fn fault(&self, username: &str, fault: Fault) {
        lock(&self.state).faults.insert(username.to_owned(), [(fault, true)].into());
    }

    /// Plays a fault at the next such request only, after those that wait already.
    pub fn fault_once(&self, username: &str, fault: Fault) {
        lock(&self.state).faults.entry(username.to_owned()).or_default().push_back((fault, false));
    }

    /// No more faults for this user.
    pub fn clear_faults(&self, username: &str) {
        lock(&self.state).faults.remove(username);
    }

    /// From now on a certificate is listed so long after it was made.
    pub fn set_list_lag(&self, lag: SignedDuration) {
        lock(&self.state).list_lag = lag;
    }

    /// Moves its clock.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        lock(&self.state).clock_offset = offset;
    }

    /// Everything that was minted.
    #[must_use]
    pub fn mints(&self) -> Vec<Mint> {
        lock(&self.state).mints.clone()
    }

    /// What was minted for this user.
    #[must_use]
    pub fn mints_of(&self, username: &str) -> Vec<Mint> {
        self.mints().into_iter().filter(|mint| mint.username == username).collect()
    }

    /// Every request.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        lock(&self.state).requests.clone()
    }
}
