//! A proxy between the operator and a server, be it the API server or Atlas: it notes every request, and makes go wrong what a test chose.
//!
//! Requests are numbered in the order in which they come. Whether one took effect is certain: before a fault that comes "after", the
//! server's whole answer was read.

mod server;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests;
mod watch;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{net::TcpListener, task::AbortHandle};

/// Before or after the request took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// The server has not seen it, and never will.
    Before,
    /// The server has carried it out; its answer is held.
    After,
}

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection is closed.
    Cut(Moment),
    /// The operator is killed, by what [`FaultProxy::on_kill`] was given, and the connection closed.
    Kill(Moment),
    /// This status; before: instead of asking the server, after: instead of its answer (504, as gateways do).
    Refuse(Moment, u16),
    /// Late by so long.
    Delay(Moment, Duration),
    /// Never answered, and never carried out.
    Hang,
    /// Carried out, and answered with half of the answer, as if that were all.
    Halve,
    /// A list as it was at this resourceVersion.
    StaleList(String),
}

/// What goes wrong with an event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// It is not delivered.
    Drop,
    /// It is delivered twice.
    Repeat,
    /// Instead of it, the watch ends with the status 410, as it does when a resourceVersion is too old.
    Gone,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Counted from 0; watches have their own numbers.
    pub number: usize,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
}

impl Asked {
    /// Whether it is a watch.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.target.contains("watch=true")
    }

    /// Whether it lists objects.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.method == "GET" && self.target.contains("limit=")
    }

    /// Whether it changes nothing by its nature.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.target.contains("dryRun=All")
    }

    /// Whether it asks the server to change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !self.is_dry_run()
    }

    /// Method and path without what differs from run to run: the names of namespaces, projects and Events.
    #[must_use]
    pub fn route(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        let mut segments: Vec<&str> = path.split('/').collect();
        for place in 1..segments.len() {
            if matches!(segments[place - 1], "namespaces" | "groups" | "events") {
                segments[place] = "…";
            }
        }
        format!("{} {}{}", self.method, segments.join("/"), if self.is_dry_run() { " (dry run)" } else { "" })
    }

    /// Method and path, for people.
    #[must_use]
    pub fn label(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let tail = parts.len().saturating_sub(3);
        format!("{} …/{}{}", self.method, parts[tail..].join("/"), if self.is_dry_run() { " (dry run)" } else { "" })
    }
}

/// An event of a watch as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Counted from 0 over all watches.
    pub number: usize,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub type_: String,
    /// Kind and name.
    pub object: String,
    /// The object's resourceVersion after it.
    pub resource_version: String,
}

type RequestPlan = Box<dyn Fn(&Asked) -> Option<Fault> + Send>;
type WatchPlan = Box<dyn Fn(&Happened) -> Option<WatchFault> + Send>;
type StartPlan = Box<dyn Fn(&Asked) -> Option<u16> + Send>;

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    watches: Vec<Asked>,
    happened: Vec<Happened>,
    plan: Option<RequestPlan>,
    watch_plan: Option<WatchPlan>,
    start_plan: Option<StartPlan>,
    on_kill: Option<Arc<dyn Fn() + Send + Sync>>,
    /// So many events are held back in each watch.
    lag: usize,
    /// How often each fault was played.
    played: BTreeMap<String, usize>,
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    upstream: String,
    client: reqwest::Client,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy; it stops when dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Shared,
    task: AbortHandle,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultProxy {
    /// Starts one before the server with this base URL, which is trusted by this CA certificate (PEM) where it speaks TLS.
    ///
    /// # Errors
    /// No port is free, or the certificate cannot be used.
    pub async fn start(upstream: &str, ca_certificate: Option<&[u8]>) -> Result<Self> {
        let mut client = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never());
        if let Some(certificate) = ca_certificate {
            client = client.tls_certs_only([reqwest::Certificate::from_pem(certificate)?]);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.context("could not listen on loopback")?;
        let address = listener.local_addr()?;
        let upstream = upstream.trim_end_matches('/').to_owned();
        let shared = Shared { state: Arc::default(), upstream, client: client.build()? };
        let task = tokio::spawn(server::accept(listener, shared.clone())).abort_handle();
        Ok(Self { address, shared, task })
    }

    /// The base URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks this question about each request from now on.
    pub fn plan(&self, plan: impl Fn(&Asked) -> Option<Fault> + Send + 'static) {
        self.shared.lock().plan = Some(Box::new(plan));
    }

    /// Asks this question about each event of a watch from now on.
    pub fn plan_watches(&self, plan: impl Fn(&Happened) -> Option<WatchFault> + Send + 'static) {
        self.shared.lock().watch_plan = Some(Box::new(plan));
    }

    /// Refuses watches at their start with these statuses from now on.
    pub fn refuse_watches(&self, plan: impl Fn(&Asked) -> Option<u16> + Send + 'static) {
        self.shared.lock().start_plan = Some(Box::new(plan));
    }

    /// What [`Fault::Kill`] does.
    pub fn on_kill(&self, kill: impl Fn() + Send + Sync + 'static) {
        self.shared.lock().on_kill = Some(Arc::new(kill));
    }

    /// Holds so many events back in each watch, until more come or this is set to fewer.
    pub fn lag(&self, events: usize) {
        self.shared.lock().lag = events;
    }

    /// No more faults.
    pub fn clear(&self) {
        let mut state = self.shared.lock();
        (state.plan, state.watch_plan, state.start_plan, state.lag) = (None, None, None, 0);
    }

    /// All requests but watches.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// All watches that were begun.
    #[must_use]
    pub fn watches(&self) -> Vec<Asked> {
        self.shared.lock().watches.clone()
    }

    /// How many requests but watches there were.
    #[must_use]
    pub fn asked_count(&self) -> usize {
        self.shared.lock().asked.len()
    }

    /// All events of watches.
    #[must_use]
    pub fn happened(&self) -> Vec<Happened> {
        self.shared.lock().happened.clone()
    }

    /// How often each fault was played.
    #[must_use]
    pub fn played(&self) -> BTreeMap<String, usize> {
        self.shared.lock().played.clone()
    }
}
