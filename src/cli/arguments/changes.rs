//! What follows the verbs that change something.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};

use super::{Form, Selection, names::name, time};

/// `create`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  it was created, and with --wait it is ready; with --dry-run: the API server would take it
  1  with --wait: it was created, and is not ready in time
  3  the API server refused it, or could not be asked; the message says what was done

Examples:
  kubectl usercert create orders -n shop --username orders --issuer atlas --months 3 --wait
  kubectl usercert create bills --username bills --issuer cluster/ca --rollout --dry-run > bills.yaml")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct CreateArguments {
    /// The name of the object.
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,
    /// The database user.
    #[arg(long, value_name = "USER")]
    pub username: String,
    /// The issuer: the name of a CertificateIssuer, or cluster/NAME for a ClusterCertificateIssuer.
    #[arg(long, value_name = "NAME", value_parser = IssuerName::parse)]
    pub issuer: IssuerName,
    /// The Secret. Default: the name of the object.
    #[arg(long, value_name = "NAME", value_parser = name)]
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
  0  shown what would be done; with --yes: done, with the certificate as before, or with the new one that was accepted
  1  shown what is in the way and not accepted; with --yes: the Secret was not taken over in time, or a new certificate was issued
  3  the Secret cannot be taken over, with --yes something is in the way, or the API server could not be asked; the message says what, and
     what was done

Examples:
  kubectl usercert migrate orders-tls -n shop --issuer ca
  kubectl usercert migrate orders-tls -n shop --issuer ca --yes")]
pub struct MigrateArguments {
    /// The Secret.
    #[arg(value_name = "SECRET", value_parser = name)]
    pub secret: String,
    /// The issuer that renews the certificate: the name of a CertificateIssuer, or cluster/NAME for a ClusterCertificateIssuer.
    #[arg(long, value_name = "NAME", value_parser = IssuerName::parse)]
    pub issuer: IssuerName,
    /// The name of the new object. Default: the name of the Secret.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,
    /// The PEM file with the CA that signed the certificate, if the Secret does not hold it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// Do it, if nothing is in the way.
    #[arg(long)]
    pub yes: bool,
    /// What is accepted.
    #[command(flatten)]
    pub acceptance: Acceptance,
    /// How long to wait until the Secret is taken over.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub timeout: Duration,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// What is in the way of a takeover, and is accepted.
#[derive(Clone, Copy, Debug, Default, Args)]
#[group(skip)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Acceptance {
    /// Do it although the certificate is due for renewal, so that the operator issues a new one at once. The former one and its key stay in
    /// the Secret beside it until they expire (spec.keepPrevious).
    #[arg(long = "accept-new-certificate")]
    pub new_certificate: bool,
    /// For Atlas: do it although the certificate is not known to be from the project of the issuer. If it is from another CA, the database
    /// may refuse what the renewal brings. The former certificate and its key stay beside the new one (spec.keepPrevious).
    #[arg(long = "accept-unknown-issuer")]
    pub unknown_issuer: bool,
    /// Do it although something goes that programs may rely on: the next certificate is not for servers or grants no roles of MongoDB, or
    /// the entry ca.crt changes. The former certificate and its key stay beside the new one (spec.keepPrevious).
    #[arg(long = "accept-loss")]
    pub loss: bool,
    /// Do it although Terraform, Pulumi or another tool has written the Secret, which would delete it or write its former content back. You
    /// have seen to it that the tool has let go of the Secret.
    #[arg(long = "accept-former-writer")]
    pub former_writer: bool,
}

impl Acceptance {
    /// Whether anything is accepted that makes the former pair worth keeping beside the new one after a renewal, until it expires.
    #[must_use]
    pub const fn keeps_former_pair(self) -> bool {
        self.new_certificate || self.unknown_issuer || self.loss
    }
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
        let (is_of_cluster, issuer) = text.strip_prefix("cluster/").map_or((false, text), |issuer| (true, issuer));
        let issuer = name(issuer).map_err(|_| "give the name of a CertificateIssuer, or cluster/NAME".to_owned())?;
        Ok(Self { is_of_cluster, name: issuer })
    }
}

/// Which certificates are changed: by name, by label, or all.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Targets {
    /// The certificates.
    #[arg(value_name = "NAME", value_parser = name, required_unless_present_any = ["selector", "all"], conflicts_with_all = ["selector", "all", "all_namespaces"])]
    pub names: Vec<String>,
    /// All certificates of the namespace, or with -A of all namespaces.
    #[arg(long, conflicts_with = "selector")]
    pub all: bool,
    /// Do it to all certificates of all namespaces. Only --all with -A needs it.
    #[arg(long)]
    pub yes: bool,
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
  3  the API server refused to have a renewal asked for, or could not be asked

Examples:
  kubectl usercert renew orders -n shop --wait
  kubectl usercert renew -A -l team=orders --dry-run         what would be done, and what the API server says to it
  kubectl usercert renew -A --all --yes --at-most 20/min --wait --timeout 2h
  kubectl usercert renew -A --all --yes --continue 2026-01-01T00:00:00Z        the rest of a run that was interrupted")]
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
    /// Go on with a run that was interrupted: the value that it said at its beginning. What it has asked for is not asked for again.
    #[arg(long = "continue", value_name = "VALUE", value_parser = run_value)]
    pub continued: Option<String>,
    /// Wait until the new certificates are in their Secrets.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// How long to wait for one certificate after it was asked for.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time, requires = "wait")]
    pub timeout: Duration,
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// `suspend` and `resume`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  it was done, or was so already
  3  a change was refused, or it is not known whether it was made; those after it were not tried

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
    /// How the answer is written.
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    pub output: Form,
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

/// Reads the value of a run, as it stands in the annotation of its requests.
fn run_value(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) { Ok(text.to_owned()) } else { Err("give the value that the run has said".to_owned()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::arguments::tests::parse;

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
    fn a_former_pair_is_kept_where_a_renewal_may_bring_what_does_not_work() {
        assert!(!Acceptance::default().keeps_former_pair());
        assert!(!Acceptance { former_writer: true, ..Acceptance::default() }.keeps_former_pair());
        assert!(Acceptance { former_writer: true, loss: true, ..Acceptance::default() }.keeps_former_pair());
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
}
