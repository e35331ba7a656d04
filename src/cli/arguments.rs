//! The command line.

mod changes;
mod names;
mod questions;
mod together;

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use self::{
    changes::{Acceptance, ChangeArguments, CreateArguments, IssuerName, MigrateArguments, Rate, RenewArguments, Targets},
    questions::{
        CheckArguments, InspectArguments, OrphansArguments, PlanArguments, ReportArguments, StatusArguments, WhyArguments,
    },
};
pub(crate) use self::{names::is_namespace, together::given};

/// The name under which kubectl and shells find the program.
pub(crate) const PROGRAM: &str = "kubectl-usercert";

/// What follows the help of the whole program.
const AFTER_HELP: &str = "\
Exit codes:
  0  what was asked is in order, or was done
  1  the question was answered, and something needs attention: a certificate, a check, or a clock that is wrong
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
#[command(name = PROGRAM, bin_name = "kubectl usercert", version, max_term_width = 100, after_help = AFTER_HELP)]
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
    /// The cluster of the kubeconfig to use. Default: that of the context.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub cluster: Option<String>,
    /// The user of the kubeconfig to use. Default: that of the context.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub user: Option<String>,
    /// A bearer token, in place of what the kubeconfig has.
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Cluster")]
    pub token: Option<Token>,
    /// Whom to act for, such as system:serviceaccount:shop:default. It needs the right to impersonate.
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Cluster")]
    pub as_user: Option<String>,
    /// A group to act for; it may be repeated.
    #[arg(long, global = true, value_name = "GROUP", help_heading = "Cluster")]
    pub as_group: Vec<String>,
    /// The namespace. Default: that of the context.
    #[arg(long, short, global = true, value_name = "NAME", value_parser = names::namespace_or_none, help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// How long one request to the API server may take, such as 20s, 1m or 30, which are seconds; 0 is no limit. Default: 20s. A
    /// credential plugin of the kubeconfig has the same limit. If it may ask you on a terminal, the login has none by default.
    #[arg(long, global = true, value_name = "TIME", value_parser = request_timeout, help_heading = "Cluster")]
    pub request_timeout: Option<Duration>,
    /// The namespace in which the operator runs.
    #[arg(long, global = true, value_name = "NAME", value_parser = names::namespace, default_value = "usercert-system", help_heading = "Cluster")]
    pub operator_namespace: String,
    /// The Lease of the operator there: the name of its Deployment.
    #[arg(long, global = true, value_name = "NAME", value_parser = names::name, default_value = "usercert-operator", help_heading = "Cluster")]
    pub lease_name: String,
}

/// A token. It is shown nowhere.
#[derive(Clone)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

/// What can be asked or done.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Show which certificates expire when, which fail, and what to change.
    Status(StatusArguments),
    /// Explain what the operator decides about one certificate: every check, in the operator's order.
    ///
    /// The checks are the operator's own code, run on what you may read. A question mark stands beside what only the operator
    /// knows: from its memory, or by the credentials of the issuer.
    Why(WhyArguments),
    /// Ask for new certificates now, whatever their renewal times.
    ///
    /// It sets the annotation usercert.dev/renew-requested-at, which the operator answers with one new certificate. Atlas cannot
    /// revoke a certificate: the former one works until it expires. One object has five such renewals an hour.
    Renew(RenewArguments),
    /// Leave certificates as they are: nothing is issued, renewed or repaired until they are resumed.
    ///
    /// It sets spec.suspend. Flux and Argo CD take such a change back: if one of them writes the object, set the field in its source instead.
    Suspend(ChangeArguments),
    /// End a suspension. What is due is done at once.
    Resume(ChangeArguments),
    /// Show a certificate, its chain and its key, and who uses it: from a Secret, or from a PEM file.
    ///
    /// It reads the whole Secret, to see whether the key fits. The key is neither printed nor kept.
    Inspect(InspectArguments),
    /// List Secrets of the operator without their object, and certificates whose keys nobody here holds.
    Orphans(OrphansArguments),
    /// Draw the renewals of the next 90 days, with storms, limits, rollout windows, and what expires unrenewed.
    Plan(PlanArguments),
    /// Check whether the operator can work here: API server, definitions, rights, clock, webhooks, issuers, Atlas.
    Check(CheckArguments),
    /// Write a bundle for a bug report: objects, events, the operator's log, checks. No Secret's content is in it.
    ///
    /// Of Secrets only the metadata are read. Private keys, tokens, passwords, values of environment variables, arguments and headers of
    /// probes, and annotations of others are taken out of everything else. Look at the bundle before you hand it on: names of objects, users and hosts are in it.
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
    #[arg(long, short = 'A')]
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
    /// Write the file by which kubectl completes `kubectl usercert`: kubectl_complete-usercert, in a folder of the PATH.
    ///
    /// kubectl runs it whenever somebody presses the tab key after `kubectl usercert`. Names of certificates, Secrets, issuers and
    /// namespaces come from the cluster.
    #[command(after_help = "\
Examples:
  kubectl usercert print kubectl-completion ~/.local/bin")]
    KubectlCompletion {
        /// The folder to write it to.
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// The manual pages: one file for the program and one for each verb.
    Man {
        /// The folder to write them to.
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

/// Reads the time limit of a request as kubectl does: a time, or a number of seconds, and `0` for no limit, which is [`Duration::MAX`].
fn request_timeout(text: &str) -> Result<Duration, String> {
    let limit = match (text.parse(), text.parse::<jiff::SignedDuration>()) {
        (Ok(seconds), _) => Some(Duration::from_secs(seconds)),
        (Err(_), parsed) => parsed.ok().and_then(|limit| Duration::try_from(limit).ok()),
    };
    match limit {
        Some(limit) if limit.is_zero() => Ok(Duration::MAX),
        Some(limit) => Ok(limit),
        None => Err("give a time such as 20s or 1m, a number of seconds, or 0 for no limit".to_owned()),
    }
}

/// The longest wait. No clock of a machine can tell a time that is as far ahead as a time can be long.
const LONGEST_WAIT: Duration = Duration::from_hours(8760);

/// Reads a time such as `30s`, `5m`, `1h30m`; neither `0` nor what is more than a year is one.
fn time(text: &str) -> Result<Duration, String> {
    let invalid = || "give a time such as 20s, 5m or 1h, of 8760h at most".to_owned();
    let duration = text.parse::<jiff::SignedDuration>().map_err(|_| invalid())?;
    Duration::try_from(duration).ok().filter(|time| !time.is_zero() && *time <= LONGEST_WAIT).ok_or_else(invalid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    pub(super) fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
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
        let asked =
            parse(&["status", "--as", "a", "--as-group", "b", "--as-group", "c", "--user", "u", "--token", "hunter2"]).unwrap();
        assert_eq!((asked.connection.as_user.as_deref(), asked.connection.as_group.len()), (Some("a"), 2));
        assert!(!format!("{asked:?}").contains("hunter2"));
        let timeout = |text: &str| parse(&["status", "--request-timeout", text]).map(|found| found.connection.request_timeout);
        for (text, expected) in [
            ("1m", Duration::from_mins(1)),
            ("1m30s", Duration::from_secs(90)),
            ("20", Duration::from_secs(20)),
            ("0", Duration::MAX),
            ("0s", Duration::MAX),
        ] {
            assert_eq!(timeout(text).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(parse(&["status"]).unwrap().connection.request_timeout, None);
        for refused in ["", "-1", "-1s", "soon", "20 seconds of rest"] {
            assert!(timeout(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for refused in [&["status", "orders", "-A"][..], &["status", "orders", "-l", "a=b"], &[]] {
            assert!(parse(refused).is_err_and(|error| error.exit_code() == 2), "{refused:?}");
        }
    }

    #[test]
    fn the_exit_codes_of_the_help_are_those_of_the_docs() {
        let docs = include_str!("../../docs/cli.md");
        let codes = AFTER_HELP.lines().skip(1).take_while(|line| !line.is_empty());
        let codes: Vec<(&str, &str)> = codes.map(|line| line.trim().split_once("  ").unwrap()).collect();
        assert_eq!(codes.len(), 4);
        for (code, meaning) in codes {
            assert!(docs.lines().any(|line| line == format!("| {code} | {meaning} |")), "{code}: {meaning}");
        }
        // The docs say so of these verbs.
        assert!(docs.contains("`status`, `plan`, `why` and `check` name a clock that is off"));
        for verb in ["status", "plan", "why"] {
            let help = Arguments::command().find_subcommand(verb).unwrap().get_after_help().unwrap().to_string();
            assert!(help.contains("or a clock is wrong"), "{help}");
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
