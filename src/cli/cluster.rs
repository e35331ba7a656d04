//! The API server: how it is found, and requests under a time limit.

use std::{io::IsTerminal, path::PathBuf, pin::pin, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::ListParams,
    client::Body,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;

use crate::{
    arguments::{Connection, given, is_namespace},
    exit::CliError,
    login,
    patient::patient,
    terminal::{PATIENCE, Progress, Terminal},
};

/// How long a request may take if `--request-timeout` is not given.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How many objects a page of a list has.
const PAGE: u32 = 500;

/// A connection to the API server.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace of the kubeconfig, or of `--namespace`.
    pub namespace: String,
    /// The operator's own namespace.
    pub operator_namespace: String,
    /// The Lease in it by which the operator's replicas say who leads.
    pub lease_name: String,
    server: String,
    /// The program of the credential plugin.
    plugin: Option<String>,
    request_timeout: Duration,
    terminal: Terminal,
}

impl Cluster {
    /// Finds the cluster as kubectl does: `--kubeconfig`, else `KUBECONFIG`, else `~/.kube/config`, else the service account of the Pod.
    ///
    /// A credential plugin may ask somebody at a terminal, as long as it takes. Elsewhere it has the time of a request.
    ///
    /// # Errors
    /// There is no kubeconfig, or it cannot be used, or nobody could log in.
    pub async fn connect(connection: &Connection, terminal: Terminal) -> Result<Self, CliError> {
        Self::open(connection, terminal, std::io::stdin().is_terminal()).await
    }

    /// The same for a program that must not be disturbed: no credential plugin asks or says anything.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub async fn connect_in_silence(connection: &Connection) -> Result<Self, CliError> {
        Self::open(connection, Terminal::none(), false).await
    }

    async fn open(connection: &Connection, terminal: Terminal, somebody_is_there: bool) -> Result<Self, CliError> {
        let text = |value: &Option<String>| given(value.as_deref()).map(str::to_owned);
        let options = KubeConfigOptions {
            context: text(&connection.context),
            cluster: text(&connection.cluster),
            user: text(&connection.user),
        };
        let names_any = [&options.context, &options.cluster, &options.user].into_iter().any(Option::is_some);
        let kubeconfig = connection.kubeconfig.as_ref().filter(|path| !path.as_os_str().is_empty());
        let config = match kubeconfig {
            Some(path) => from_file(path.clone(), &options).await,
            None if !names_any => kube::Config::infer()
                .await
                .map_err(|error| login::unreadable_kubeconfig(&error).unwrap_or(CliError::NoCluster(error))),
            None => kube::Config::from_kubeconfig(&options).await.map_err(of_kubeconfig),
        };
        let mut config = config?;
        // A request that failed is told at once: whoever asked decides whether to ask again.
        config.default_retry = false;
        if let Some(token) = connection.token.as_ref().filter(|token| !token.0.is_empty()) {
            config.auth_info = AuthInfo { token: Some(token.0.clone().into()), ..AuthInfo::default() };
        }
        if connection.given_user().is_some() {
            config.auth_info.impersonate.clone_from(&connection.as_user);
            config.auth_info.impersonate_groups = Some(connection.as_group.clone()).filter(|groups| !groups.is_empty());
        }
        let namespace = namespace(connection.given_namespace(), &config.default_namespace)?;
        let server = config.cluster_url.to_string();
        if !somebody_is_there {
            login::ask_nobody(&mut config);
        }
        let request_timeout = connection.request_timeout.unwrap_or(REQUEST_TIMEOUT);
        let is_endless = connection.request_timeout.is_none() && login::may_ask(&config);
        let plugin = login::plugin_of(&config);
        let client = login::client(config, if is_endless { Duration::MAX } else { request_timeout }, &terminal).await?;
        Ok(Self {
            client: patient(client, request_timeout),
            namespace,
            operator_namespace: connection.operator_namespace.clone(),
            lease_name: connection.lease_name.clone(),
            server,
            plugin,
            request_timeout,
            terminal,
        })
    }

    /// Sends one request under the time limit.
    ///
    /// # Errors
    /// It was refused, or not answered in time.
    pub async fn ask<T>(
        &self,
        operation: impl Into<String>,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, CliError> {
        let operation = operation.into();
        let mut answer = pin!(tokio::time::timeout(self.request_timeout, request));
        let answer = if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut answer).await {
            answer
        } else {
            self.terminal.tell(&format!("still trying to {operation}"));
            answer.await
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if let Some(error) = login::failed_login(&source, self.plugin.as_deref()) => Err(error),
            Ok(Err(kube::Error::Api(status))) if is_not_served(&status) => Err(CliError::NotServed { operation }),
            Ok(Err(source @ (kube::Error::Service(_) | kube::Error::HyperError(_)))) => {
                Err(CliError::Unreachable { operation, server: self.server.clone(), source: Box::new(source) })
            }
            Ok(Err(source)) => Err(CliError::Request { operation, source: Box::new(source) }),
            Err(_) => {
                let (seconds, plugin) = (self.request_timeout.as_secs(), self.plugin.clone());
                Err(CliError::TimedOut { operation, seconds, plugin })
            }
        }
    }

    /// The object of this name; `None` if there is none.
    ///
    /// # Errors
    /// The request was refused, or not answered in time; or the API server does not know the kind.
    pub async fn find<K>(&self, operation: String, api: &Api<K>, name: &str) -> Result<Option<K>, CliError>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        match self.ask(operation, api.get(name)).await {
            Ok(found) => Ok(Some(found)),
            Err(CliError::Request { source, .. }) if matches!(source.as_ref(), kube::Error::Api(status) if status.is_not_found()) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What the API server's clock says, to the second; `None` if the API server does not tell.
    ///
    /// # Errors
    /// The request was refused, or not answered in time.
    pub async fn time(&self) -> Result<Option<Timestamp>, CliError> {
        let request = http::Request::get("/version").body(Body::empty());
        let request = request.map_err(|source| CliError::Request {
            operation: "ask for the time".to_owned(),
            source: Box::new(kube::Error::HttpError(source)),
        })?;
        let answer = self.ask("ask for the time", self.client.send(request)).await?;
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()))
    }

    /// All objects that the parameters select, page by page. Where a page comes so late that the API server has forgotten the list, all come
    /// at once. After two seconds it tells how many there are so far.
    ///
    /// # Errors
    /// A page was refused, or not answered in time.
    pub async fn list<K>(&self, what: &str, api: &Api<K>, parameters: &ListParams) -> Result<Vec<K>, CliError>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut progress = Progress::new(&self.terminal);
        let (mut found, mut page) = (Vec::new(), parameters.clone().limit(PAGE));
        loop {
            let list = match self.ask(format!("list {what}"), api.list(&page)).await {
                Err(error) if page.continue_token.is_some() && error.is_expired() => {
                    // As client-go's pager does: a list in one piece cannot expire.
                    return Ok(self.ask(format!("list {what}"), api.list(parameters)).await?.items);
                }
                list => list?,
            };
            found.extend(list.items);
            match list.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(found),
            }
            progress.tell(|| format!("{} {what} so far", found.len()));
        }
    }
}

/// The namespace that was given, else that of the context, else `default`, as for kubectl. An empty one is none: in a path it would be all
/// namespaces.
fn namespace(flag: Option<&str>, of_context: &str) -> Result<String, CliError> {
    let namespace = flag.or_else(|| given(Some(of_context))).unwrap_or("default");
    if is_namespace(namespace) {
        return Ok(namespace.to_owned());
    }
    Err(CliError::Unusable(
        "the context of the kubeconfig has a namespace that cannot be one: correct it, or give -n".to_owned(),
    ))
}

async fn from_file(path: PathBuf, options: &KubeConfigOptions) -> Result<kube::Config, CliError> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(of_kubeconfig)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(of_kubeconfig)
}

fn of_kubeconfig(error: kube::config::KubeconfigError) -> CliError {
    login::unreadable_kubeconfig(&error).unwrap_or(CliError::Kubeconfig(error))
}

/// Whether the API server knows nothing of the path, rather than of the object: its answer is these words, and no `Status`.
fn is_not_served(status: &kube::core::Status) -> bool {
    status.code == 404 && status.message == "404 page not found"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_namespace_is_none_and_what_cannot_be_one_is_refused() {
        let of = |flag, context| namespace(flag, context).ok();
        assert_eq!(of(Some("shop"), "other").as_deref(), Some("shop"));
        assert_eq!(of(None, "other").as_deref(), Some("other"));
        assert_eq!(of(None, "").as_deref(), Some("default"));
        for refused in ["shop/x", "..", " "] {
            assert_eq!(of(None, refused), None, "{refused:?}");
        }
    }
}
