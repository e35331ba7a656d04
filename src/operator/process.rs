//! From the arguments to running controllers, and down again.
//!
//! | What happens | What follows |
//! | --- | --- |
//! | first SIGTERM or Ctrl-C | the work ends, the lease is released, the process ends with success |
//! | the lead is lost | the work ends, the process ends with an error |
//! | second signal | the process ends at once with code 1 |
//!
//! The work ends in this order: nothing new is begun, what is under way is finished, certificates that are only in memory are
//! saved.
//!
//! # Assumptions
//!
//! - The container is started anew after the process ends. What was remembered is rebuilt from the Secrets and statuses.
//!
//! # Errors
//!
//! - [`OperatorError`] says what to change before the next start.

use std::{
    io::{ErrorKind, Write},
    pin::pin,
    sync::Arc,
};

use futures::{FutureExt, future::join_all};
use kube::Client;
use tracing::{info, warn};

use super::{
    Arguments, Candidate, CheckArguments, CheckError, Command, ELECTION_LIMIT, Election, Health, LeaseError, RunArguments,
    SecureMetricsError, check,
    debug::serve_debug,
    exposition::metrics_router,
    health::listen,
    logging::{LogLevel, start_logging},
    process_name,
    review::Reviewer,
    secure_metrics::{Files, serve_secure},
    serve,
};
use crate::{
    api::custom_resource_definitions,
    controller::{self, AtlasDefaults, DatabaseUsers, Keys, Scope, Settings, Turns, chain},
    issuer::atlas::{AllowedEndpoints, AtlasClient},
    runtime::{Leadership, LeadershipTeller, Liveness, Metrics, Readiness, system_clock},
};

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no cluster to talk to.
    #[error("could not find the cluster: run in a Pod or set KUBECONFIG")]
    Configuration(#[source] kube::config::InferConfigError),
    /// The Kubernetes client cannot be made.
    #[error("could not make the Kubernetes client")]
    Client(#[source] kube::Error),
    /// The HTTP client for Atlas cannot be made.
    #[error("could not make the HTTP client for Atlas")]
    Atlas(#[source] crate::issuer::atlas::AtlasClientError),
    /// The CA bundle cannot be read.
    #[error("could not read the CA bundle: correct --atlas-ca-file")]
    CaFile(#[source] std::io::Error),
    /// The address for health and metrics cannot be listened on.
    #[error("could not serve health and metrics: choose another --http-address")]
    Http(#[source] std::io::Error),
    /// Metrics cannot be served by HTTPS.
    #[error("could not serve metrics by HTTPS")]
    SecureMetrics(#[source] SecureMetricsError),
    /// The system gives no thread.
    #[error("could not start a thread: raise the limit on processes of the container")]
    Thread(#[source] std::io::Error),
    /// Signals cannot be received.
    #[error("could not listen for SIGTERM")]
    Signal(#[source] std::io::Error),
    /// Another process may lead by now. The container is restarted and begins with nothing remembered.
    #[error("this process leads no longer")]
    LeadershipLost(#[source] LeaseError),
    /// Another TLS provider was installed first.
    #[error("another TLS provider than aws-lc-rs is installed in this process")]
    Provider,
    /// The operator that was asked is not well.
    #[error("the check has failed")]
    Check(#[source] CheckError),
    /// The definitions cannot be written as YAML.
    #[error("could not write the custom resource definitions as YAML: {0}")]
    Yaml(String),
    /// Standard output takes no answer.
    #[error("could not write the answer: see whether the disk is full")]
    Answer(#[source] std::io::Error),
}

/// Does what the arguments say.
///
/// # Errors
/// [`OperatorError`] says what to change.
pub fn execute(arguments: Arguments) -> Result<(), OperatorError> {
    match arguments.command {
        Some(Command::Crds) => print_definitions(),
        Some(Command::Check(arguments)) => print_check(&arguments),
        Some(Command::Run(arguments)) => run(&arguments),
        None => match <Arguments as clap::Parser>::parse_from(["usercert-operator", "run"]).command {
            Some(Command::Run(arguments)) => run(&arguments),
            _ => Ok(()),
        },
    }
}

fn print_definitions() -> Result<(), OperatorError> {
    let mut definitions = String::new();
    for definition in custom_resource_definitions() {
        let yaml = serde_saphyr::to_string(&definition).map_err(|error| OperatorError::Yaml(error.to_string()))?;
        definitions.push_str("---\n");
        definitions.push_str(&yaml);
    }
    print(&definitions)
}

#[tokio::main]
async fn print_check(arguments: &CheckArguments) -> Result<(), OperatorError> {
    let answer = check(arguments).await.map_err(OperatorError::Check)?;
    print(&format!("{answer}\n"))
}

/// Writes an answer to standard output. A pipe that its reader has closed, as `head` does, is no error.
fn print(answer: &str) -> Result<(), OperatorError> {
    let mut out = std::io::stdout();
    match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(OperatorError::Answer(error)),
        _ => Ok(()),
    }
}

#[tokio::main]
async fn run(arguments: &RunArguments) -> Result<(), OperatorError> {
    let (log_level, export) = start_logging(arguments.log_format);
    let result = operate(arguments, log_level).await;
    export.end();
    result
}

async fn operate(arguments: &RunArguments, log_level: LogLevel) -> Result<(), OperatorError> {
    let client = kubernetes_client().await?;
    let host = host_name().unwrap_or_else(|| "usercert-operator".to_owned());
    let process = process_name(arguments.pod_name.as_deref(), &host);
    let (leadership, teller) = leadership(arguments, &process);
    tokio::spawn(stop_on_signal(leadership.clone()).map_err(OperatorError::Signal)?);
    let scopes = scopes(arguments);
    let readiness = Readiness::awaiting(scopes.len());
    let liveness = Liveness::default();
    liveness.watch_clocks().map_err(OperatorError::Thread)?;
    let metrics =
        Arc::new(Metrics::new(leadership.clone(), liveness.clone(), readiness.clone(), arguments.certificate_metrics.into()));
    info!(version = env!("CARGO_PKG_VERSION"), scopes = ?scopes, address = %arguments.http_address, "usercert-operator starts");
    let shared = Shared {
        atlas: atlas_client(arguments)?,
        metrics: Arc::clone(&metrics),
        leadership: leadership.clone(),
        liveness: liveness.clone(),
    };
    let settings = settings(arguments, scopes, shared);
    let controllers = join_all(settings.map(|settings| controller::run(client.clone(), settings, readiness.clone())));
    let work = controllers.map(|_| ());
    let health = Health { liveness: liveness.clone(), readiness, leadership: leadership.clone() };
    let (secure, open) = if arguments.metrics_secure { (Some(metrics), None) } else { (None, Some(metrics)) };
    let server = serve(arguments.http_address, health, open);
    let secure_server = serve_metrics(arguments, client.clone(), secure);
    if let Some(address) = arguments.debug_address.0 {
        tokio::spawn(serve_debug(address, log_level));
    }
    tokio::select! {
        result = lead(client.clone(), arguments, process, leadership, teller, &liveness, work) => result?,
        result = server => result.map_err(OperatorError::Http)?,
        result = secure_server => result.map_err(OperatorError::SecureMetrics)?,
    }
    info!("usercert-operator has stopped");
    Ok(())
}

async fn kubernetes_client() -> Result<Client, OperatorError> {
    // Only one TLS provider is compiled in. Installing it explicitly keeps rustls working if a dependency ever brings another.
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| OperatorError::Provider)?;
    let mut config = kube::Config::infer().await.map_err(OperatorError::Configuration)?;
    // kube must not repeat a request, because the first try may have taken effect. Each pass looks anew instead.
    config.default_retry = false;
    // HTTPS_PROXY is for Atlas. The API server is reached directly.
    config.proxy_url = None;
    Client::try_from(config).map_err(OperatorError::Client)
}

/// Whether this process leads, and who tells. Without an election it leads alone, and nobody tells.
fn leadership(arguments: &RunArguments, process: &str) -> (Leadership, Option<LeadershipTeller>) {
    if arguments.leader_elect {
        let (leadership, teller) = Leadership::standing_by();
        (leadership, Some(teller))
    } else {
        (Leadership::alone(Some(process.to_owned())), None)
    }
}

/// What the controllers of all scopes share, besides what the arguments say.
struct Shared {
    atlas: AtlasClient,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    liveness: Liveness,
}

/// What the controllers of each scope are given.
fn settings(arguments: &RunArguments, scopes: Vec<Scope>, shared: Shared) -> impl Iterator<Item = Settings> {
    let Shared { atlas, metrics, leadership, liveness } = shared;
    let atlas_defaults = AtlasDefaults {
        endpoint: arguments.atlas_endpoint.clone(),
        credentials: arguments.atlas_operator_secret.clone(),
        lending: arguments.lend_credentials_to.iter().cloned().collect(),
    };
    let endpoint_rule = arguments.allowed_atlas_endpoints.iter().cloned().collect::<AllowedEndpoints>().into_rule();
    let rollout_kinds = arguments.rollout.then(|| arguments.rollout_kinds.clone());
    let turns = Turns::new(atlas.clone(), arguments.max_concurrent, liveness.clone());
    let (users, keys) = (Arc::<DatabaseUsers>::default(), Keys::default());
    scopes.into_iter().map(move |scope| Settings {
        scope,
        max_concurrent: arguments.max_concurrent,
        clock: system_clock(),
        atlas: atlas.clone(),
        atlas_defaults: atlas_defaults.clone(),
        endpoint_rule: Arc::clone(&endpoint_rule),
        turns: turns.clone(),
        keys: keys.clone(),
        users: Arc::clone(&users),
        metrics: Arc::clone(&metrics),
        leadership: leadership.clone(),
        liveness: liveness.clone(),
        rollout_kinds: rollout_kinds.clone(),
        stop_limit: arguments.stop_limit,
    })
}

/// Serves the metrics by HTTPS for ever, if they are given.
async fn serve_metrics(
    arguments: &RunArguments,
    client: Client,
    metrics: Option<Arc<Metrics>>,
) -> Result<(), SecureMetricsError> {
    let Some(metrics) = metrics else { return std::future::pending().await };
    let files = arguments.metrics_cert_file.clone().zip(arguments.metrics_key_file.clone());
    let files = files.map(|(certificate, key)| Files { certificate, key });
    let listener = listen(arguments.metrics_secure_address).await.map_err(SecureMetricsError::Listen)?;
    serve_secure(listener, files, metrics_router(metrics), Reviewer::new(client)).await
}

/// Works while this process leads. When it is told to stop or has lost the lead, goes on for as long as it takes to save
/// certificates that were made. A lease that is still held is kept until then, and then released.
async fn lead(
    client: Client,
    arguments: &RunArguments,
    process: String,
    leadership: Leadership,
    teller: Option<LeadershipTeller>,
    liveness: &Liveness,
    work: impl Future<Output = ()>,
) -> Result<(), OperatorError> {
    let Some(teller) = teller else {
        work.await;
        return Ok(());
    };
    let candidate = Candidate::new(&arguments.operator_namespace, &arguments.lease_name, process);
    let heartbeat = liveness.expect("lease", ELECTION_LIMIT);
    let mut election = Election::new(client, candidate, teller).with_heartbeat(heartbeat);
    tokio::select! {
        () = election.acquire() => {}
        () = leadership.end() => return Ok(()),
    }
    let mut work = pin!(work);
    let error = tokio::select! {
        () = &mut work => {
            election.release().await;
            return Ok(());
        }
        error = election.hold() => error,
    };
    warn!(error = chain(&error), "this process leads no longer: nothing is begun any more");
    work.await;
    Err(OperatorError::LeadershipLost(error))
}

/// The host name, which in a Pod is the name of the Pod.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn atlas_client(arguments: &RunArguments) -> Result<AtlasClient, OperatorError> {
    let bundle = arguments.atlas_ca_file.as_ref().map(std::fs::read).transpose().map_err(OperatorError::CaFile)?;
    AtlasClient::new(arguments.atlas_timeout, bundle.as_deref()).map_err(OperatorError::Atlas)
}

fn scopes(arguments: &RunArguments) -> Vec<Scope> {
    let mut namespaces: Vec<String> =
        arguments.watch_namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    namespaces.sort();
    namespaces.dedup();
    if namespaces.is_empty() {
        return vec![Scope::Cluster { operator_namespace: arguments.operator_namespace.clone() }];
    }
    namespaces.into_iter().map(Scope::Namespace).collect()
}

/// Stops the work at the first SIGTERM or Ctrl-C, and ends the process at the second.
fn stop_on_signal(leadership: Leadership) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    Ok(async move {
        let mut signal = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        signal().await;
        info!("stopping: what is under way is finished; a second signal ends it at once");
        leadership.stop();
        signal().await;
        warn!("stopped at once: what was under way is looked at again at the next start");
        std::process::exit(1);
    })
}
