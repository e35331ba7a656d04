//! The command line. Every flag has an environment variable, which the Helm chart sets.

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Arg, Args, Parser, Subcommand, ValueEnum, builder::TypedValueParser, error::ErrorKind};
use kube::{core::GroupVersionKind, discovery::ApiResource};
use url::Url;
use usercert_operator_core::api::SecretLocation;

use crate::runtime::CertificateSeries;

use super::CheckArguments;

/// Obtains X.509 client certificates for database users, keeps them in Kubernetes TLS Secrets, and renews them in time.
#[derive(Clone, Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Arguments {
    /// What to do; default: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the operator. It finds the cluster by the Pod's service account, or by KUBECONFIG.
    Run(Box<RunArguments>),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Ask a running operator whether it is well, as helm test does.
    Check(CheckArguments),
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// Serve only this namespace; may be repeated. ClusterCertificateIssuers are not served then. Default: all namespaces.
    #[arg(long = "watch-namespace", env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,
    /// The operator's own namespace, where the Secrets of ClusterCertificateIssuers live.
    #[arg(long, env = "POD_NAMESPACE", default_value = "usercert-system", value_name = "NAMESPACE")]
    pub operator_namespace: String,
    /// Let one of several replicas lead and work while the others stand by. Who leads is decided by a Lease in the operator's own
    /// namespace.
    #[arg(
        long,
        env = "LEADER_ELECT",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub leader_elect: bool,
    /// The name of that Lease; operators that serve different namespaces need different ones.
    #[arg(long, env = "LEASE_NAME", default_value = "usercert-operator", value_name = "NAME")]
    pub lease_name: String,
    /// The name of the Pod. The name of this process in the Lease is made of it and something random. A process that knows its Pod knows that
    /// the one before it in this Pod has ended. Default: the host's name is in the Lease.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// For how many seconds after SIGTERM the operator keeps trying to save certificates that were made but are not in a Secret
    /// yet.
    #[arg(long, env = "STOP_LIMIT_SECONDS", default_value = "240", value_parser = stop_seconds, value_name = "SECONDS")]
    pub stop_limit: Duration,
    /// Where /livez, /readyz and /metrics are served. `[::]` means all addresses, of IPv4 too; on a machine without IPv6 it means
    /// those of IPv4.
    #[arg(long, env = "HTTP_ADDRESS", default_value = "[::]:8080", value_name = "ADDRESS")]
    pub http_address: SocketAddr,
    /// Where the log level can be changed while the operator runs (PUT, DELETE and GET of /debug/log-level): a loopback address,
    /// which kubectl port-forward reaches, or `off`.
    #[arg(long, env = "DEBUG_ADDRESS", default_value = "127.0.0.1:8081", value_parser = debug_address, value_name = "ADDRESS")]
    pub debug_address: DebugAddress,
    /// Serve /metrics by HTTPS alone, to whoever the API server lets get /metrics: a request needs a token, such as that of a
    /// service account. The operator then needs the rights to create tokenreviews and subjectaccessreviews.
    #[arg(
        long,
        env = "METRICS_SECURE",
        default_value_t = false,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub metrics_secure: bool,
    /// Where /metrics is served with --metrics-secure.
    #[arg(long, env = "METRICS_SECURE_ADDRESS", default_value = "[::]:8443", value_name = "ADDRESS")]
    pub metrics_secure_address: SocketAddr,
    /// PEM file with the certificate for that, and those that lead to its root. It is read again when it changes. Default: a
    /// certificate that is made at start, which nobody can verify.
    #[arg(long, env = "METRICS_CERT_FILE", requires = "metrics_key_file", value_name = "FILE")]
    pub metrics_cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    #[arg(long, env = "METRICS_KEY_FILE", requires = "metrics_cert_file", value_name = "FILE")]
    pub metrics_key_file: Option<PathBuf>,
    /// How many certificates are worked on at once, at least 4. Half of them may wait for Atlas at the same time.
    #[arg(long, env = "MAX_CONCURRENT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(4..))]
    pub max_concurrent: u16,
    /// Time limit of one request to Atlas, in seconds.
    #[arg(long, env = "ATLAS_TIMEOUT_SECONDS", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub atlas_timeout: Duration,
    /// PEM file with CA certificates that are trusted for Atlas in addition to those of the system, such as that of a proxy that
    /// inspects TLS.
    #[arg(long, env = "ATLAS_CA_FILE", value_name = "FILE")]
    pub atlas_ca_file: Option<PathBuf>,
    /// The Atlas API for objects with a userRef, which name no issuer.
    #[arg(
        long,
        env = "ATLAS_ENDPOINT",
        default_value = "https://cloud.mongodb.com",
        value_parser = Endpoint,
        value_name = "URL"
    )]
    pub atlas_endpoint: Url,
    /// An endpoint that a CertificateIssuer may name, by its scheme, host and port; may be repeated. An endpoint with http is
    /// asked without TLS. A ClusterCertificateIssuer may name any endpoint.
    #[arg(
        long = "allowed-atlas-endpoint",
        env = "ALLOWED_ATLAS_ENDPOINTS",
        value_delimiter = ',',
        default_values = ["https://cloud.mongodb.com", "https://cloud.mongodbgov.com"],
        value_parser = Endpoint,
        value_name = "URL"
    )]
    pub allowed_atlas_endpoints: Vec<Url>,
    /// The Secret with the Atlas Kubernetes Operator's own credentials, as NAMESPACE/NAME. It is used for objects with a userRef
    /// whose user and project name no Secret, in the namespaces of --lend-credentials-to. Default: none.
    #[arg(long, env = "ATLAS_OPERATOR_SECRET", value_parser = namespaced_name, value_name = "NAMESPACE/NAME")]
    pub atlas_operator_secret: Option<SecretLocation>,
    /// Let the objects of this namespace use projects and credentials of other namespaces, as their userRef and its project name
    /// them; may be repeated. Whoever may write the Atlas Kubernetes Operator's users there then gets certificates for the users
    /// of every project. Default: none.
    #[arg(long = "lend-credentials-to", env = "LEND_CREDENTIALS_TO", value_delimiter = ',', value_name = "NAMESPACE")]
    pub lend_credentials_to: Vec<String>,
    /// Change workloads for objects with spec.rollout, so that their pods get each new certificate. The operator then needs the
    /// rights to look at workloads, Pods and Jobs and to change workloads. Default: false.
    #[arg(
        long,
        env = "ROLLOUT",
        default_value_t = false,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub rollout: bool,
    /// A further kind of workloads that rollouts may change, and its resource as RBAC rules name it, as
    /// GROUP/VERSION/KIND=RESOURCE, such as argoproj.io/v1alpha1/Rollout=rollouts; may be repeated. Its objects have spec.template
    /// and spec.selector as a Deployment has.
    #[arg(
        long = "rollout-kind",
        env = "ROLLOUT_KINDS",
        value_delimiter = ',',
        value_parser = workload_kind,
        value_name = "GROUP/VERSION/KIND=RESOURCE"
    )]
    pub rollout_kinds: Vec<ApiResource>,
    /// Which metrics tell of certificates. Totals are for clusters with so many certificates that several series for each are too many.
    #[arg(long, env = "CERTIFICATE_METRICS", value_enum, default_value_t = CertificateMetrics::Each)]
    pub certificate_metrics: CertificateMetrics,
    /// The format of log lines; RUST_LOG selects which lines are written (default: info).
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Which metrics tell of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificateMetrics {
    /// Series for each certificate.
    Each,
    /// Totals for each issuer.
    Totals,
}

impl From<CertificateMetrics> for CertificateSeries {
    fn from(metrics: CertificateMetrics) -> Self {
        match metrics {
            CertificateMetrics::Each => Self::Each,
            CertificateMetrics::Totals => Self::Totals,
        }
    }
}

/// Where the log level can be changed; nowhere if there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugAddress(pub Option<SocketAddr>);

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads the URL of an API. It is a parser of its own because clap quotes the value that a parsing function refuses, and this
/// value may have a password in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint;

impl TypedValueParser for Endpoint {
    type Value = Url;

    fn parse_ref(&self, command: &clap::Command, argument: Option<&Arg>, value: &OsStr) -> Result<Url, clap::Error> {
        let refusal = |why| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{argument}': {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        };
        endpoint(&value.to_string_lossy()).map_err(refusal)
    }
}

fn endpoint(text: &str) -> Result<Url, &'static str> {
    match text.trim().parse::<Url>() {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("give it without a user and a password: credentials for Atlas are in Secrets")
        }
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => Ok(url),
        _ => Err("give a URL such as https://cloud.mongodb.com"),
    }
}

fn namespaced_name(text: &str) -> Result<SecretLocation, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(SecretLocation::new(namespace, name))
        }
        _ => Err("give NAMESPACE/NAME".to_owned()),
    }
}

/// The resource is given and not guessed: rights and the admission policy are about the resource, and it is no more than usual that
/// it is the plural of the kind.
fn workload_kind(text: &str) -> Result<ApiResource, String> {
    match text.trim().split(['/', '=']).collect::<Vec<_>>()[..] {
        [group, version, kind, resource]
            if text.trim().ends_with(&format!("/{kind}={resource}")) && ![group, version, kind, resource].contains(&"") =>
        {
            Ok(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), resource))
        }
        _ => Err("give GROUP/VERSION/KIND=RESOURCE, such as argoproj.io/v1alpha1/Rollout=rollouts".to_owned()),
    }
}

/// Only loopback: whoever reaches the Pod by the network may read its metrics, and is not asked who it is.
fn debug_address(text: &str) -> Result<DebugAddress, String> {
    match text.trim() {
        "off" => Ok(DebugAddress(None)),
        text => match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(DebugAddress(Some(address))),
            _ => Err("give a loopback address such as 127.0.0.1:8081, or off".to_owned()),
        },
    }
}

fn stop_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("give whole seconds from 1 to 3600".to_owned()),
    }
}

/// At most a minute: a longer request would not fit into the time limit of a pass.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=60) => Ok(Duration::from_secs(seconds)),
        _ => Err("give whole seconds from 1 to 60".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    /// What the flags alone say, whatever is in the environment of the tests.
    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let alone = |command: clap::Command| command.mut_args(|argument| argument.env(None::<&str>));
        let command = Arguments::command().mut_subcommand("run", alone).mut_subcommand("check", alone);
        Arguments::from_arg_matches(&command.try_get_matches_from([&["usercert-operator"], arguments].concat())?)
    }

    #[test]
    fn an_endpoint_has_no_user_and_no_password_and_neither_is_shown() {
        assert_eq!(endpoint("https://cloud.mongodb.com").unwrap().as_str(), "https://cloud.mongodb.com/");
        for flag in ["--atlas-endpoint", "--allowed-atlas-endpoint"] {
            for refused in
                ["https://user:password@host", "https://user@host", "https://:password@host", "ftp://host", "host", ""]
            {
                let error = parse(&["run", flag, refused]).expect_err("it is no endpoint");
                assert_eq!(error.kind(), ErrorKind::ValueValidation);
                let text = format!("{error} {error:?}");
                assert!(text.contains(&format!("'{flag} <URL>'")) && !text.contains("password@"), "{text}");
            }
        }
        let error = parse(&["check", "http://user:password@host/readyz"]);
        assert!(!error.expect_err("it has a password").to_string().contains("password@"));
    }

    fn run(arguments: &[&str]) -> RunArguments {
        match parse(&[&["run"], arguments].concat()).unwrap().command {
            Some(Command::Run(arguments)) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_atlas_is_allowed_and_nothing_is_lent_unless_it_is_said() {
        let hosts = |arguments: &RunArguments| -> Vec<String> {
            arguments.allowed_atlas_endpoints.iter().map(ToString::to_string).collect()
        };
        let by_default = run(&[]);
        assert_eq!(hosts(&by_default), ["https://cloud.mongodb.com/", "https://cloud.mongodbgov.com/"]);
        assert!(by_default.lend_credentials_to.is_empty());
        let said = run(&[
            "--allowed-atlas-endpoint=https://a, http://b:8080",
            "--allowed-atlas-endpoint=https://c",
            "--lend-credentials-to=shop,bank",
            "--lend-credentials-to",
            "post",
        ]);
        assert_eq!(hosts(&said), ["https://a/", "http://b:8080/", "https://c/"]);
        assert_eq!(said.lend_credentials_to, ["shop", "bank", "post"]);
    }

    #[test]
    fn the_log_level_is_changed_from_within_the_pod_alone() {
        assert_eq!(run(&[]).debug_address, DebugAddress(Some(([127, 0, 0, 1], 8081).into())));
        assert_eq!(run(&["--debug-address=[::1]:9"]).debug_address, DebugAddress(Some("[::1]:9".parse().unwrap())));
        assert_eq!(run(&["--debug-address=off"]).debug_address, DebugAddress(None));
        for refused in ["0.0.0.0:8081", "[::]:8081", "10.0.0.1:8081", "localhost:8081", "8081", ""] {
            assert!(debug_address(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_certificate_for_metrics_comes_with_its_key() {
        let parses = |arguments: &[&str]| parse(&[&["run", "--metrics-secure"], arguments].concat()).is_ok();
        assert!(!run(&[]).metrics_secure && run(&["--metrics-secure"]).metrics_secure);
        assert!(parses(&[]) && parses(&["--metrics-cert-file=a", "--metrics-key-file=b"]));
        assert!(!parses(&["--metrics-cert-file=a"]) && !parses(&["--metrics-key-file=b"]));
    }

    #[test]
    fn rollouts_are_off_unless_it_is_said_and_further_kinds_have_a_resource() {
        assert!(!run(&[]).rollout && run(&["--rollout"]).rollout && !run(&["--rollout=false"]).rollout);
        let kinds = run(&["--rollout-kind=argoproj.io/v1alpha1/Rollout=rollouts,example.com/v1/Proxy=proxies"]).rollout_kinds;
        let read =
            |kind: &ApiResource| [&kind.group, &kind.version, &kind.api_version, &kind.kind, &kind.plural].map(Clone::clone);
        assert_eq!(read(&kinds[0]), ["argoproj.io", "v1alpha1", "argoproj.io/v1alpha1", "Rollout", "rollouts"]);
        assert_eq!(read(&kinds[1]), ["example.com", "v1", "example.com/v1", "Proxy", "proxies"]);
        for refused in ["Rollout", "v1/Pod=pods", "a//C=c", "a/b/c/d", "a/b/c", "a/b/c=", "a/b=c/d", "a=b/c/d", "a/b/c=d=e"] {
            assert!(workload_kind(refused).is_err(), "{refused}");
        }
    }
}
