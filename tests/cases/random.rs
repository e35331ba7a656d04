//! Random files of a CA's certificates: whatever can be verified with the file can be verified with what is handed on.

use std::sync::{LazyLock, Mutex};

use jiff::Timestamp;
use proptest::prelude::*;
use usercert_operator::issuer::ca::CaIssuer;

use crate::{assert_is_sentence, authority::Authority, authority::P256, request};

/// A CA that has a certificate of each of two issuers, and all that is above it.
struct Universe {
    authority: Mutex<Authority>,
    certificates: Vec<String>,
    roots: [String; 2],
    key: String,
}

static UNIVERSE: LazyLock<Universe> = LazyLock::new(|| {
    let authority = Authority::new();
    let ca = |name: &str, key: &str, subject: &str, parent| authority.ca(name, key, subject, parent, &[]);
    let root = ca("root", "root", "/CN=Root", None);
    let other = ca("other", "other", "/CN=Other Root", None);
    let cross = ca("cross", "root", "/CN=Root", Some(("other", "other")));
    let expired =
        authority.by_request("expired", "root", "/CN=Root", "expired", "-1", Some("basicConstraints=critical,CA:TRUE\n"));
    // The key of the root was changed: issued to itself, and signed with the key before (RFC 4210 section 4.4).
    let changed = ca("changed", "changed", "/CN=Root", Some(("root", "root")));
    let middle = ca("middle", "middle", "/CN=Middle", Some(("changed", "changed")));
    let issuing = authority.ca("issuing", "issuing", "/CN=Issuing", Some(("middle", "middle")), &[]);
    let direct = ca("direct", "issuing", "/CN=Issuing", Some(("other", "other")));
    let key = authority.key("issuing", P256);
    Universe {
        authority: Mutex::new(authority),
        certificates: vec![issuing, middle, changed, root.clone(), cross, other.clone(), expired, direct],
        roots: [root, other],
        key,
    }
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_the_file_verifies_is_verified_by_what_is_handed_on(
        parts in proptest::collection::vec((0..8_usize, r"[ \t\r\n]{0,2}|# [a-z]{0,4}\n|subject=CN = a\n|\u{feff}"), 1..9),
        by_first in any::<bool>(),
    ) {
        let universe = &*UNIVERSE;
        let mut file = if by_first { universe.certificates[0].clone() } else { String::new() };
        for (index, before) in &parts {
            // A comment begins a line of its own.
            let before = if before.contains(['#', '=']) { format!("\n{before}") } else { before.clone() };
            file = format!("{}{before}{}", file.trim_end_matches('\n'), universe.certificates[*index]);
        }
        let ca = match CaIssuer::from_secret(Some(file.as_bytes()), Some(universe.key.as_bytes()), Timestamp::now()) {
            Ok(ca) => ca,
            Err(refusal) => {
                assert_is_sentence(&refusal.to_string());
                return Ok(());
            }
        };
        let issued = ca.issue(&request("CN=reports")).unwrap();
        let got = issued.pair.certificates_pem();
        let authority = universe.authority.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for root in &universe.roots {
            prop_assert!(!got.contains(root.as_str()), "a root is handed on: {:?}", parts);
            let leaf = &issued.pair.certificates()[..1];
            let mut distinct: Vec<usize> = Vec::new();
            for index in by_first.then_some(0).into_iter().chain(parts.iter().map(|(index, _)| *index)) {
                if !distinct.contains(&index) {
                    distinct.push(index);
                }
            }
            let clean: String = distinct.iter().map(|index| universe.certificates[*index].as_str()).collect();
            // OpenSSL takes the first certificate that may be the issuer and looks for no other: what depends on the order is left out.
            let mut reversed: Vec<&str> = clean.split_inclusive("-----END CERTIFICATE-----\n").collect();
            reversed.reverse();
            let is_sure = [clean.clone(), reversed.concat()].iter().all(|rest| authority.verifies(&(pem(leaf) + rest), root).is_ok());
            if is_sure {
                prop_assert_eq!(authority.verifies(&got, root), Ok(()), "{:?} below {}", parts, root);
            }
        }
        let top = issued.ca_certificate.unwrap_or_default();
        if universe.roots.contains(&top) {
            prop_assert_eq!(authority.verifies(&got, &top), Ok(()), "by itself: {:?}", parts);
        }
    }
}

fn pem(certificates: &[impl AsRef<[u8]>]) -> String {
    let encode = |certificate: &[u8]| der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, certificate).unwrap();
    certificates.iter().map(|certificate| encode(certificate.as_ref())).collect()
}
