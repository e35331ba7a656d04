//! What follows the verbs that ask.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{Form, Selection, names::name};

/// `status`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  every certificate works, and nothing keeps its renewal away
  1  a certificate needs attention, no operator leads, or a clock is wrong

Examples:
  kubectl usercert status                    the certificates of this namespace
  kubectl usercert status -A --failing       only those that need attention, of all namespaces
  kubectl usercert status orders             one certificate
  kubectl usercert status -A -o json | jq -r '.certificates[] | select(.state != \"Good\") | .name'")]
pub struct StatusArguments {
    /// Only the certificates with these names.
    #[arg(value_name = "NAME", value_parser = name, conflicts_with_all = ["all_namespaces", "selector"])]
    pub names: Vec<String>,
    /// Which certificates.
    #[command(flatten)]
    pub selection: Selection,
    /// Only the certificates that need attention.
    #[arg(long)]
    pub failing: bool,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `why`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the certificate is kept, or a new one is on its way
  1  a person should look: a check that is not passed holds something up, no operator leads, or a clock is wrong

Examples:
  kubectl usercert why orders -n shop
  kubectl usercert why orders --read-secret  check the content of the Secret too, with its key")]
pub struct WhyArguments {
    /// The certificate.
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,
    /// Read the Secret with its content, and check it as the operator does. Without this, only its metadata are read, and the
    /// content counts as the operator found it last.
    #[arg(long)]
    pub read_secret: bool,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `inspect`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the certificate is in date, its key fits, and its chain leads to a ca.crt that is in date
  1  one of these does not hold, or there is no key in --key or in a Secret of the type kubernetes.io/tls

Examples:
  kubectl usercert inspect orders-mongodb -n shop
  kubectl usercert inspect --file client.pem --ca ca.pem
  kubectl get secret old -o jsonpath='{.data.tls\\.crt}' | base64 -d | kubectl usercert inspect --file -")]
pub struct InspectArguments {
    /// The Secret.
    #[arg(value_name = "SECRET", value_parser = name, required_unless_present = "file", conflicts_with = "file")]
    pub secret: Option<String>,
    /// A PEM file instead, with certificates, and the key or none; - is standard input. No cluster is asked.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The PEM file with the key, if it is in a file of its own.
    #[arg(long, value_name = "FILE", requires = "file", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// The PEM file with the CA.
    #[arg(long, value_name = "FILE", requires = "file", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `orphans`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  there are none, or only Secrets that deletionPolicy: Retain keeps
  1  there are Secrets without their object, or certificates whose keys nobody here holds

Examples:
  kubectl usercert orphans -A")]
pub struct OrphansArguments {
    /// Those of all namespaces.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `plan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  every certificate is renewed in time, and no hour has too many renewals
  1  there is a storm, a limit that makes a renewal late, a certificate that expires unrenewed or has no renewal ahead; no operator leads, or a clock is wrong

Examples:
  kubectl usercert plan -A
  kubectl usercert plan -n shop --days 30 --storm 5")]
pub struct PlanArguments {
    /// Which certificates.
    #[command(flatten)]
    pub selection: Selection,
    /// How many days ahead.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=730))]
    pub days: u16,
    /// How many renewals of one issuer within an hour are a storm.
    #[arg(long, default_value_t = 20, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(2..))]
    pub storm: u16,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A check that could not be made is skipped, which is no pass. A Secret is tried in the namespace by a dry run, which stores nothing.

Exit codes:
  0  no check failed
  1  a check failed

Examples:
  kubectl usercert check -n shop
  kubectl usercert check -n shop --operator-namespace databases --lease-name my-release-usercert-operator")]
pub struct CheckArguments {
    /// The issuers of all namespaces, and not only those of this one and of the cluster. A Secret is tried in this one.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// The operator's service account. Default: that of its Deployment, which has the name of its Lease.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub service_account: Option<String>,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `report`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the bundle is written; what could not be read is named in its README.txt

Examples:
  kubectl usercert report -A
  kubectl usercert report -n shop --to bundle/          a folder, to look at first")]
pub struct ReportArguments {
    /// Which certificates.
    #[command(flatten)]
    pub selection: Selection,
    /// The file to write, a tar.gz; or a folder, if it ends with a slash. Nothing that is there is overwritten. Default:
    /// usercert-report-TIME.tar.gz.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub to: Option<PathBuf>,
    /// How many lines of the log of each of the operator's Pods.
    #[arg(long, default_value_t = 5000, value_name = "NUMBER")]
    pub log_lines: u32,
    /// The operator's service account. Default: that of its Deployment, which has the name of its Lease.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub service_account: Option<String>,
}
