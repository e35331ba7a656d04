//! Names of objects and of namespaces, as the API server takes them.

/// The most characters of a label of a DNS name (RFC 1123), which the name of a namespace is.
const LABEL: usize = 63;

/// The most characters of a DNS subdomain (RFC 1123), which the name of an object is.
const SUBDOMAIN: usize = 253;

/// Reads the name of an object. The name becomes a part of a path, so one with a slash would be another request.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_name = text.len() <= SUBDOMAIN && text.split('.').all(is_label);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        "give NAME alone, and the namespace with -n: it has lowercase letters, digits, - and ., and begins and ends with a letter or a digit"
            .to_owned()
    })
}

/// Reads the name of a namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    is_namespace(text).then(|| text.to_owned()).ok_or_else(|| {
        "the name of a namespace has at most 63 lowercase letters, digits and -, and begins and ends with a letter or a digit"
            .to_owned()
    })
}

/// Reads the name of a namespace, or an empty text, which kubectl takes for none.
pub(super) fn namespace_or_none(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { namespace(text) }
}

/// Whether a namespace may have this name. An empty one would be all namespaces for the API server.
pub(crate) fn is_namespace(text: &str) -> bool {
    text.len() <= LABEL && is_label(text)
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::parse;

    #[test]
    fn a_name_is_that_of_one_object() {
        for taken in ["orders", "a", "1", "orders.shop", "orders-2", &"a".repeat(253)] {
            assert_eq!(name(taken).as_deref(), Ok(taken));
        }
        let long = "a".repeat(254);
        for refused in ["", " ", "orders/status", "duc/orders", "a b", "Orders", "..", "a..b", "-a", "a-", "%2e", "é", &long] {
            assert!(
                name(refused).is_err_and(|why| why.starts_with("give NAME alone, and the namespace with -n")),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn every_verb_refuses_what_is_no_name() {
        let (user, issuer) = ("--username=orders", "--issuer=ca");
        for name in ["orders/status", ""] {
            for verb in [
                &["status", name][..],
                &["why", name],
                &["inspect", name],
                &["renew", name],
                &["suspend", name],
                &["resume", "orders", name],
                &["create", name, user, issuer],
                &["create", "orders", user, issuer, "--secret-name", name],
                &["create", "orders", user, "--issuer", &format!("cluster/{name}")],
                &["migrate", name, issuer],
                &["migrate", "orders", issuer, "--name", name],
                &["check", "--service-account", name],
                &["status", "--operator-namespace", name],
                &["status", "--lease-name", name],
            ] {
                assert!(parse(verb).is_err_and(|error| error.exit_code() == 2), "{verb:?}");
            }
        }
    }

    #[test]
    fn a_namespace_is_a_label_and_an_empty_one_is_none() {
        for refused in ["shop/orders", "a.b", "Shop", "..", " ", &"a".repeat(64)] {
            assert!(parse(&["status", "-n", refused]).is_err_and(|error| error.exit_code() == 2), "{refused:?}");
        }
        for taken in ["", "shop", &"a".repeat(63)] {
            assert!(parse(&["-n", taken, "status"]).is_ok_and(|found| found.connection.namespace.as_deref() == Some(taken)));
        }
    }
}
