//! No part of a private key stays.

use x509_cert::der::pem::{self, LineEnding};

use super::*;

/// Bytes as base64 in lines of this length.
fn base64(bytes: &[u8], width: usize) -> Vec<String> {
    let text = pem::encode_string("X", LineEnding::LF, bytes).unwrap();
    let letters: Vec<char> = text.lines().filter(|line| !line.starts_with('-')).flat_map(str::chars).collect();
    letters.chunks(width).map(|line| line.iter().collect()).collect()
}

/// The lines as they stand in logs. `prefix`: what is before the first.
fn layouts(prefix: &str, lines: &[String]) -> Vec<String> {
    let plain = lines.join("\n");
    let indented = lines.join("\n    ");
    let json = serde_json::json!({ "m": format!("{prefix}{plain}\nnext") }).to_string();
    let more = serde_json::json!({ "m": format!("{prefix}{}\r\nnext", lines.join("\r\n")), "body": json }).to_string();
    vec![
        format!("a\n{prefix}{plain}\nnext"),
        format!("a\n{prefix}{}\r\nnext", lines.join("\r\n")),
        format!("data:\n  tls.key: |\n    {prefix}{indented}\n  next: x"),
        format!("data:\n  tls.key: {prefix}{indented}\n  password: hunter2\n"),
        json,
        more,
    ]
}

fn assert_none_left(lines: &[String], texts: Vec<String>) -> Result<(), TestCaseError> {
    for text in texts {
        let once = redacted(&text);
        // What is shorter is no part to speak of.
        for line in lines.iter().filter(|line| line.len() > 4 && !line.starts_with('-')) {
            prop_assert!(!once.contains(line.as_str()), "{} is left of {}\n{}", line, text, once);
        }
        prop_assert!(!once.contains("PRIVATE KEY-----") && !once.contains("hunter2"), "{}", once);
        prop_assert_eq!(redacted(&once), once, "once is enough for {}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_line_of_a_key_stays(bytes in prop::collection::vec(any::<u8>(), 48..400), width in prop::sample::select(vec![64, 70, 76])) {
        let lines = base64(&bytes, width);
        assert_none_left(&lines, layouts("", &lines))?;
        assert_none_left(&lines, vec![format!("a {} b", lines.concat()), format!(r#"{{"tls.key":"{}"}}"#, lines.concat())])?;
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            let whole = [vec![format!("-----BEGIN {label}-----")], lines.clone(), vec![format!("-----END {label}-----")]].concat();
            assert_none_left(&lines, layouts("Bag Attributes: <Empty> ", &whole))?;
            // Its beginning or its end was cut off.
            assert_none_left(&lines, layouts("", &whole[1..]))?;
            assert_none_left(&lines, layouts("", &whole[whole.len() - 2..]))?;
            assert_none_left(&lines, layouts("", &whole[..whole.len() - 1]))?;
            // As it stands in a Secret.
            let of_secret = base64(whole.join("\n").as_bytes(), width);
            assert_none_left(&of_secret, layouts("", &of_secret))?;
        }
    }

    #[test]
    fn a_certificate_beside_a_key_stays(certificate in prop::collection::vec(any::<u8>(), 300..900), key in prop::collection::vec(any::<u8>(), 48..200)) {
        let certificate = pem::encode_string("CERTIFICATE", LineEnding::LF, &certificate).unwrap();
        let key = pem::encode_string("PRIVATE KEY", LineEnding::LF, &key).unwrap();
        for (text, kept) in [
            (format!("{certificate}{key}{certificate}"), certificate.clone()),
            (serde_json::json!({ "m": format!("{key}{certificate}") }).to_string(), certificate.replace('\n', "\\n")),
        ] {
            let once = redacted(&text);
            prop_assert!(once.contains(&kept) && !once.contains("PRIVATE KEY-----"), "{}", once);
        }
    }
}

#[rstest]
#[case::in_pem("a -----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY----- b", "a [taken out] b")]
#[case::without_its_end("x -----BEGIN EC PRIVATE KEY-----\nMIIB", "x [taken out]")]
#[case::whose_beginning_was_cut_off("MIIB+/\nAAAA==\n-----END EC PRIVATE KEY-----\nnext", "[taken out]\nnext")]
#[case::two(
    "-----BEGIN PRIVATE KEY-----A-----END PRIVATE KEY-----,-----BEGIN PRIVATE KEY-----B-----END PRIVATE KEY-----",
    "[taken out],[taken out]"
)]
#[case::of_other_programs(
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nA\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    "[taken out]"
)]
#[case::a_block_for_others("-----BEGIN PGP PRIVATE KEY BLOCK-----\nA\n-----END PGP PRIVATE KEY BLOCK-----", "[taken out]")]
#[case::of_openssl("priv:\n    0a:1b:\n    2c\npub:", "priv:[taken out]\npub:")]
#[case::in_a_url("-----BEGIN%20PRIVATE%20KEY-----%0AMIIB%2B%0A-----END%20PRIVATE%20KEY-----%0A", "[taken out]%0A")]
#[case::a_line_after_it(
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\nxY9=\npassword: x",
    "[taken out]\npassword: [taken out]"
)]
fn keys_are_taken_out(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(redacted(text), expected);
    assert_eq!(redacted(expected), expected, "once is enough");
}

#[test]
fn a_key_in_numbers_is_taken_out_and_digests_stay() {
    let bytes = |count: usize| (0..count).map(|byte| format!("{:02x}", byte * 7 % 256));
    for kept in [bytes(64).collect::<String>(), bytes(64).collect::<Vec<_>>().join(":")] {
        assert_eq!(redacted(&kept), kept);
    }
    for taken in [
        bytes(66).collect::<String>(),
        bytes(128).collect::<Vec<_>>().join(":"),
        bytes(128).collect::<Vec<_>>().join(":\n    "),
    ] {
        assert_eq!(redacted(&format!("key {taken}.")), "key [taken out].");
    }
    let numbers: Vec<u8> = (0..48).map(|byte| byte * 5).collect();
    for numbers in [format!("{numbers:?}"), format!("{numbers:#?}"), format!("{numbers:?}").replace(',', "")] {
        assert!(!redacted(&numbers).contains("45"), "{numbers}");
    }
}
