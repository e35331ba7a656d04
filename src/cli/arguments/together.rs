//! What may not be given together, where one of it may stand before the verb.
//!
//! clap compares the arguments of a verb before it hands the verb those that stand in front of it. So what clap says of them would depend
//! on the order.

use super::{Arguments, Connection, Selection, Targets, Verb};

impl Connection {
    /// The namespace that was given. An empty one is none, as for kubectl.
    #[must_use]
    pub fn given_namespace(&self) -> Option<&str> {
        given(self.namespace.as_deref())
    }

    /// Whom to act for. An empty name is none, as for kubectl.
    #[must_use]
    pub fn given_user(&self) -> Option<&str> {
        given(self.as_user.as_deref())
    }
}

/// A value that was given and is not empty.
pub(crate) fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}

impl Arguments {
    /// Compares what was given with each other, wherever it stands.
    ///
    /// # Errors
    /// What contradicts what, and what to give instead.
    pub fn check(&self) -> Result<(), String> {
        let connection = &self.connection;
        if !connection.as_group.is_empty() && connection.given_user().is_none() {
            return Err("--as-group needs --as: give the user to act for too".to_owned());
        }
        if self.takes_all_namespaces() && connection.given_namespace().is_some() {
            return Err("-A is all namespaces and -n is one: give one of the two".to_owned());
        }
        match self.verb.targets() {
            Some(targets) => targets.check(),
            None => Ok(()),
        }
    }

    /// Whether all namespaces are meant, and no single one. `check` has `-n` besides: a Secret is tried there.
    const fn takes_all_namespaces(&self) -> bool {
        let selection: &Selection = match &self.verb {
            Verb::Status(arguments) => &arguments.selection,
            Verb::Plan(arguments) => &arguments.selection,
            Verb::Report(arguments) => &arguments.selection,
            Verb::Renew(arguments) => &arguments.targets.selection,
            Verb::Suspend(arguments) | Verb::Resume(arguments) => &arguments.targets.selection,
            Verb::Orphans(arguments) => return arguments.all_namespaces,
            Verb::Why(_) | Verb::Inspect(_) | Verb::Check(_) | Verb::Create(_) | Verb::Migrate(_) | Verb::Print(_) => {
                return false;
            }
        };
        selection.all_namespaces
    }
}

impl Verb {
    /// The certificates that the verb changes.
    const fn targets(&self) -> Option<&Targets> {
        match self {
            Self::Renew(arguments) => Some(&arguments.targets),
            Self::Suspend(arguments) | Self::Resume(arguments) => Some(&arguments.targets),
            _ => None,
        }
    }
}

impl Targets {
    /// Refuses a selector that selects all: the API server takes an empty one so, and a variable of a shell may be empty.
    fn check(&self) -> Result<(), String> {
        match self.selection.selector.as_deref() {
            Some(selector) if selector.trim().is_empty() => {
                Err("the selector of -l is empty, which selects all: give labels, or --all if you mean all".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use crate::arguments::tests::parse;

    /// What is said of the verb with these flags behind it, and of the verb with these flags before it.
    fn checked(verb: &[&str], flags: &[&str]) -> [Result<(), String>; 2] {
        [[verb, flags].concat(), [flags, verb].concat()].map(|line| parse(&line).unwrap().check())
    }

    #[test]
    fn all_namespaces_and_one_exclude_each_other_before_and_after_the_verb() {
        for verb in [
            &["status", "-A"][..],
            &["plan", "-A"],
            &["report", "-A"],
            &["orphans", "-A"],
            &["renew", "-A", "--all", "--yes"],
            &["suspend", "-A", "--all", "--yes"],
            &["resume", "-A", "-l", "a=b"],
        ] {
            for said in checked(verb, &["-n", "shop"]) {
                assert!(said.is_err_and(|why| why.contains("-A") && why.contains("-n")), "{verb:?}");
            }
            assert_eq!(checked(verb, &["-n", ""]), [Ok(()), Ok(())], "{verb:?}: an empty namespace is none");
        }
        assert_eq!(checked(&["check", "-A"], &["-n", "shop"]), [Ok(()), Ok(())]);
        assert_eq!(checked(&["status"], &["-n", "shop"]), [Ok(()), Ok(())]);
    }

    #[test]
    fn a_group_needs_a_user_wherever_both_stand() {
        for (before, after) in [(&["--as", "alice"][..], &["--as-group", "b"][..]), (&["--as-group", "b"], &["--as", "alice"])]
        {
            assert_eq!(parse(&[before, &["status"], after].concat()).unwrap().check(), Ok(()));
        }
        for said in
            [checked(&["status"], &["--as-group", "b"]), checked(&["status", "--as", ""], &["--as-group", "b"])].concat()
        {
            assert!(said.is_err_and(|why| why.contains("--as-group needs --as")));
        }
    }

    #[test]
    fn an_empty_selector_changes_nothing() {
        for verb in ["renew", "suspend", "resume"] {
            for selector in ["", " "] {
                let said = parse(&[verb, "-l", selector]).unwrap().check();
                assert!(said.is_err_and(|why| why.contains("--all")), "{verb} -l {selector:?}");
            }
            assert_eq!(parse(&[verb, "-l", "a=b"]).unwrap().check(), Ok(()));
        }
        assert_eq!(parse(&["status", "-l", ""]).unwrap().check(), Ok(()), "who only asks may ask about all");
    }

    #[test]
    fn a_wait_that_no_clock_can_tell_the_end_of_is_refused() {
        for verb in [&["renew", "orders", "--wait"][..], &["migrate", "orders", "--issuer=ca"]] {
            let timeout = |time: &str| parse(&[verb, &["--timeout", time]].concat());
            for refused in ["2562047788015215h", "8761h", "0s", "-1s"] {
                assert!(timeout(refused).is_err_and(|error| error.exit_code() == 2), "{refused}");
            }
            assert!(timeout("8760h").is_ok());
        }
    }
}
