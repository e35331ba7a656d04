//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

/// What follows the help of the whole program.
const AFTER_HELP: &str = "\
Exit codes:
  0  what was asked is in order, or was done
  1  the question was answered, and something needs attention
  2  the command line cannot be understood
  3  the question could not be answered, or the change could not be made

Examples:
  kubectl usercert status -A                 who expires when, and who fails
  kubectl usercert why orders -n shop        what is decided about one certificate, check by check
  kubectl usercert renew orders -n shop --wait   a new certificate now
  kubectl usercert check -n shop             whether the operator can do its work there
  kubectl usercert report -A                 a bundle for a bug report";

/// Client certificates of database users: who expires when, why one is or is not renewed, and renewals on demand.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubectl-usercert", bin_name = "kubectl usercert", version, about, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Arguments {
    /// How the cluster is reached.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How the cluster is reached: the flags of kubectl.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The kubeconfig file to use. Default: KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use. Default: its current one.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The namespace. Default: that of the context.
    #[arg(long, short, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// How long one request to the API server may take, such as 20s or 1m.
    #[arg(long, global = true, value_name = "TIME", default_value = "20s", value_parser = time, help_heading = "Cluster")]
    pub request_timeout: Duration,
    /// The namespace in which the operator runs.
    #[arg(long, global = true, value_name = "NAME", default_value = "usercert-system", help_heading = "Cluster")]
    pub operator_namespace: String,
}

/// What can be asked or done.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Who expires when, who fails, and what to change.
    Status(StatusArguments),
    /// What is decided about one certificate, and every check behind it, in the operator's order.
    ///
    /// The checks are the operator's own code, run on what you may read. What only the operator knows, from its memory or by the
    /// credentials of the issuer, is marked with a question mark.
    Why(WhyArguments),
    /// Ask for new certificates now, whatever their renewal times.
    ///
    /// It sets the annotation usercert.dev/renew-requested-at, which the operator answers with one new certificate. Atlas cannot
    /// revoke a certificate: the former one works until it expires. One object has five such renewals an hour.
    Renew(RenewArguments),
    /// Leave certificates as they are: nothing is issued, renewed or repaired until they are resumed.
    Suspend(ChangeArguments),
    /// End a suspension. What is due is done at once.
    Resume(ChangeArguments),
    /// What is in a certificate, its chain and its key, and who uses it: of a Secret, or of a PEM file.
    ///
    /// It reads the whole Secret, to see whether the key fits. The key is neither printed nor kept.
    Inspect(InspectArguments),
    /// What nobody looks after: Secrets of the operator without their object, and certificates whose keys nobody here holds.
    Orphans(OrphansArguments),
    /// The renewals of the next 90 days as a chart, with storms, rollout windows, and what expires unrenewed.
    Plan(PlanArguments),
    /// Whether the operator can do its work here: API server, definitions, rights, clock, webhooks, issuers, Atlas.
    Check(CheckArguments),
    /// Write a bundle for a bug report: objects, events, the operator's log, checks. No Secret's content is in it.
    ///
    /// Of Secrets only the metadata are read. Private keys, tokens, passwords, values of environment variables, and annotations of
    /// others are taken out of everything else. Look at the bundle before you hand it on: names of objects, users and hosts are in it.
    Report(ReportArguments),
    /// Ask for a certificate: write a DatabaseUserCertificate, or show it.
    Create(CreateArguments),
    /// Take over a Secret that cert-manager, a script or Terraform made, without a new certificate.
    ///
    /// Without --yes it shows what it would do, and asks the API server whether it would let it be done. It reads the whole Secret; the
    /// key is neither printed nor kept.
    Migrate(MigrateArguments),
    /// Print the completions of a shell, or the manual pages.
    #[command(subcommand)]
    Print(Printed),
}

/// Which objects: those of one namespace, or of all.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// The certificates of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only the certificates with these labels, such as team=orders,tier!=test.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// JSON, for programs.
    Json,
    /// YAML, for programs.
    Yaml,
}

/// `status`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  every certificate works, and nothing keeps its renewal away
  1  a certificate needs attention

Examples:
  kubectl usercert status                    the certificates of this namespace
  kubectl usercert status -A --failing       only those that need attention, of all namespaces
  kubectl usercert status orders             one certificate
  kubectl usercert status -A -o json | jq -r '.certificates[] | select(.state != \"Good\") | .name'")]
pub struct StatusArguments {
    /// Only the certificates with these names.
    #[arg(value_name = "NAME", conflicts_with_all = ["all_namespaces", "selector"])]
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
  1  a person should look: a check that is not passed holds something up

Examples:
  kubectl usercert why orders -n shop
  kubectl usercert why orders --read-secret  check the content of the Secret too, with its key")]
pub struct WhyArguments {
    /// The certificate.
    #[arg(value_name = "NAME")]
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
  0  the certificate is in date, its key fits, and its chain leads to ca.crt
  1  one of these does not hold

Examples:
  kubectl usercert inspect orders-mongodb -n shop
  kubectl usercert inspect --file client.pem --ca ca.pem
  kubectl get secret old -o jsonpath='{.data.tls\\.crt}' | base64 -d | kubectl usercert inspect --file -")]
pub struct InspectArguments {
    /// The Secret.
    #[arg(value_name = "SECRET", required_unless_present = "file", conflicts_with = "file")]
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
    #[arg(long, short = 'A', conflicts_with = "namespace")]
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
  1  there is a storm, or a certificate that expires unrenewed

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
  kubectl usercert check -n shop --operator-namespace databases --service-account my-release-usercert-operator")]
pub struct CheckArguments {
    /// The operator's service account.
    #[arg(long, value_name = "NAME", default_value = "usercert-operator")]
    pub service_account: String,
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
    /// The operator's service account.
    #[arg(long, value_name = "NAME", default_value = "usercert-operator")]
    pub service_account: String,
}

/// `create`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  it was created, and with --wait it is ready
  1  with --wait: it was created, and is not ready in time

Examples:
  kubectl usercert create orders -n shop --username orders --issuer atlas --months 3 --wait
  kubectl usercert create bills --username bills --issuer cluster/ca --rollout --dry-run > bills.yaml")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct CreateArguments {
    /// The name of the object.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The database user.
    #[arg(long, value_name = "USER")]
    pub username: String,
    /// The issuer: the name of a CertificateIssuer, or cluster/NAME for a ClusterCertificateIssuer.
    #[arg(long, value_name = "NAME", value_parser = IssuerName::parse)]
    pub issuer: IssuerName,
    /// The Secret. Default: the name of the object.
    #[arg(long, value_name = "NAME")]
    pub secret_name: Option<String>,
    /// For Atlas: how many months the certificate is valid.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["duration", "subject"], value_parser = clap::value_parser!(u8).range(1..=24))]
    pub months: Option<u8>,
    /// For a CA: how long the certificate is valid, such as 2160h.
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// For a CA: the exact subject, such as CN=orders,OU=apps,O=Acme.
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,
    /// How long before its expiry the certificate is renewed, such as 840h.
    #[arg(long, value_name = "TIME")]
    pub renew_before: Option<String>,
    /// Keep the Secret when the object is deleted.
    #[arg(long)]
    pub retain: bool,
    /// Have every workload that uses the Secret follow each new certificate.
    #[arg(long)]
    pub rollout: bool,
    /// Print the object as YAML, after the API server has checked it. Nothing is created.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the certificate is in its Secret.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time, requires = "wait")]
    pub timeout: Duration,
}

/// `migrate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  shown what would be done; with --yes: done, with the certificate as before
  1  with --yes: the Secret was not taken over in time, or a new certificate was issued
  3  the Secret cannot be taken over; the message says why

Examples:
  kubectl usercert migrate orders-tls -n shop --issuer ca
  kubectl usercert migrate orders-tls -n shop --issuer ca --yes")]
pub struct MigrateArguments {
    /// The Secret.
    #[arg(value_name = "SECRET")]
    pub secret: String,
    /// The issuer that renews the certificate: the name of a CertificateIssuer, or cluster/NAME for a ClusterCertificateIssuer.
    #[arg(long, value_name = "NAME", value_parser = IssuerName::parse)]
    pub issuer: IssuerName,
    /// The name of the new object. Default: the name of the Secret.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Do it.
    #[arg(long)]
    pub yes: bool,
    /// How long to wait until the Secret is taken over.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub timeout: Duration,
}

/// An issuer as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerName {
    /// Whether it is a `ClusterCertificateIssuer`.
    pub is_of_cluster: bool,
    /// Its name.
    pub name: String,
}

impl IssuerName {
    /// Reads `NAME` and `cluster/NAME`.
    fn parse(text: &str) -> Result<Self, String> {
        let (is_of_cluster, name) = text.strip_prefix("cluster/").map_or((false, text), |name| (true, name));
        if name.is_empty() || name.contains('/') {
            return Err("give the name of a CertificateIssuer, or cluster/NAME".to_owned());
        }
        Ok(Self { is_of_cluster, name: name.to_owned() })
    }
}

/// Which certificates are changed: by name, by label, or all.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Targets {
    /// The certificates.
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "all"], conflicts_with_all = ["selector", "all", "all_namespaces"])]
    pub names: Vec<String>,
    /// All certificates of the namespace, or with -A of all namespaces.
    #[arg(long, conflicts_with = "selector")]
    pub all: bool,
    /// Which certificates.
    #[command(flatten)]
    pub selection: Selection,
}

/// `renew`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  every renewal was asked for, and with --wait every one was carried out
  1  a certificate was left out, or its renewal failed or did not come in time

Examples:
  kubectl usercert renew orders -n shop --wait
  kubectl usercert renew -A -l team=orders --dry-run         what would be done, and what the API server says to it
  kubectl usercert renew -A --all --at-most 20/min --wait --timeout 2h")]
pub struct RenewArguments {
    /// Which certificates.
    #[command(flatten)]
    pub targets: Targets,
    /// How many renewals are asked for in a time, such as 20/min or 1/s.
    #[arg(long, value_name = "NUMBER/TIME", default_value = "20/min", value_parser = Rate::parse)]
    pub at_most: Rate,
    /// Say what would be done, and ask the API server whether it would let it be done. Nothing is changed.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the new certificates are in their Secrets.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// How long to wait for one certificate after it was asked for.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time, requires = "wait")]
    pub timeout: Duration,
}

/// `suspend` and `resume`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  it was done, or was so already

Examples:
  kubectl usercert suspend orders -n shop
  kubectl usercert resume -n shop --all")]
pub struct ChangeArguments {
    /// Which certificates.
    #[command(flatten)]
    pub targets: Targets,
    /// Say what would be done, and ask the API server whether it would let it be done. Nothing is changed.
    #[arg(long)]
    pub dry_run: bool,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time between one and the next.
    pub interval: Duration,
}

impl Rate {
    /// Reads `20/min`, `1/s`, `100/h`.
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = || "give a number and a time, such as 20/min, 1/s or 100/h".to_owned();
        let (number, per) = text.split_once('/').ok_or_else(invalid)?;
        let number: u32 = number.parse().ok().filter(|number| (1..=1000).contains(number)).ok_or_else(invalid)?;
        let per = match per {
            "s" | "sec" | "second" => Duration::from_secs(1),
            "m" | "min" | "minute" => Duration::from_mins(1),
            "h" | "hour" => Duration::from_hours(1),
            _ => return Err(invalid()),
        };
        Ok(Self { interval: per / number })
    }
}

/// What the program prints about itself.
#[derive(Clone, Debug, Subcommand)]
pub enum Printed {
    /// The completions of a shell.
    #[command(after_help = "\
Examples:
  kubectl-usercert print completion bash > /etc/bash_completion.d/kubectl-usercert
  kubectl-usercert print completion zsh > \"${fpath[1]}/_kubectl-usercert\"")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The manual pages: one file for the program and one for each verb.
    Man {
        /// The folder to write them to.
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

/// Reads a time such as `30s`, `5m`, `1h30m`; `0` is not one.
fn time(text: &str) -> Result<Duration, String> {
    let invalid = || "give a time such as 20s, 5m or 1h".to_owned();
    let duration = text.parse::<jiff::SignedDuration>().map_err(|_| invalid())?;
    Duration::try_from(duration).ok().filter(|duration| !duration.is_zero()).ok_or_else(invalid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("kubectl-usercert").chain(arguments.iter().copied()))
    }

    #[test]
    fn the_definition_of_the_command_line_holds() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_flags_of_kubectl_may_stand_before_and_after_the_verb() {
        for arguments in [["-n", "shop", "status"], ["status", "-n", "shop"]] {
            assert_eq!(parse(&arguments).unwrap().connection.namespace.as_deref(), Some("shop"));
        }
        let timeout = |text: &str| parse(&["status", "--request-timeout", text]).map(|found| found.connection.request_timeout);
        assert_eq!(timeout("1m").unwrap(), Duration::from_mins(1));
        for refused in ["", "0", "0s", "-1s", "soon", "20"] {
            assert!(timeout(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        let rate = |text| Rate::parse(text).map(|rate| rate.interval);
        assert_eq!(rate("20/min"), Ok(Duration::from_secs(3)));
        assert_eq!(rate("1/s"), Ok(Duration::from_secs(1)));
        assert_eq!(rate("100/h"), Ok(Duration::from_secs(36)));
        for refused in ["", "20", "0/min", "-1/min", "1/day", "1001/s", "/min"] {
            assert!(rate(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn who_changes_certificates_says_which() {
        assert!(parse(&["renew"]).is_err());
        for refused in
            [&["orders", "--all"][..], &["orders", "-A"], &["-A"], &["--all", "-l", "a=b"], &["orders", "--wait", "--dry-run"]]
        {
            assert!(parse(&[&["renew"], refused].concat()).is_err(), "{refused:?}");
        }
        for taken in [&["orders", "bills"][..], &["--all", "-A"], &["-l", "a=b"], &["-A", "-l", "a=b"], &["orders", "--wait"]] {
            parse(&[&["renew"], taken].concat()).unwrap();
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for refused in
            [&["status", "orders", "-A"][..], &["status", "-A", "-n", "shop"], &["status", "orders", "-l", "a=b"], &[]]
        {
            assert!(parse(refused).is_err_and(|error| error.exit_code() == 2), "{refused:?}");
        }
    }

    #[test]
    fn the_help_of_every_verb_shows_an_example() {
        let command = Arguments::command();
        for verb in command.get_subcommands().flat_map(|verb| std::iter::once(verb).chain(verb.get_subcommands())) {
            if verb.has_subcommands() || verb.get_name() == "man" {
                continue;
            }
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  kubectl"), "{}: {help}", verb.get_name());
        }
    }
}
