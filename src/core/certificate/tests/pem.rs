//! What is read of a PEM text, and which line is named when it is refused. Each is compared with what OpenSSL reads.

use std::sync::LazyLock;

use std::process::Command;

use super::*;

/// Some certificates.
static CERTIFICATES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let directory = tempfile();
    let key = directory.join("key.pem");
    std::fs::write(&key, openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "")).unwrap();
    let make = |number: usize| {
        let subject = format!("/CN=CA {number}");
        openssl(&["req", "-x509", "-days", "9", "-key", key.to_str().unwrap(), "-subj", &subject], "")
    };
    let made = (0..4).map(make).collect();
    std::fs::remove_dir_all(directory).unwrap();
    made
});

fn one() -> &'static str {
    &CERTIFICATES[0]
}

fn two() -> &'static str {
    &CERTIFICATES[1]
}

/// How many certificates are read, or why none is.
fn count(text: impl AsRef<[u8]>) -> Result<usize, String> {
    read_certificates(text.as_ref()).map(|found| found.len()).map_err(|error| error.to_string())
}

#[test]
fn blocks_may_be_glued_together_and_white_space_may_be_anywhere() {
    let (first, second) = (one().trim_end(), two().trim_end());
    for between in ["", " ", "\t", "\n", "\r", "\r\n", "\n\n", " \n\t\n ", "\u{feff}", "\n\u{feff}", "\x0b\x0c"] {
        assert_eq!(count(format!("{first}{between}{second}")), Ok(2), "{between:?}");
        assert_eq!(count(format!("{between}{first}\n{second}{between}")), Ok(2), "{between:?}");
    }
    for (from, to) in [("\n", "\r\n"), ("\n", "\r"), ("\n", " \n"), ("\n", "\n  "), ("\n", "\n\n"), ("\n", " "), ("\n", "\t\n")]
    {
        assert_eq!(count((one().to_owned() + two()).replace(from, to)), Ok(2), "{to:?}");
    }
    let body: String = one().lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(count(format!("-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----{two}", two = two())), Ok(2));
}

#[rstest]
#[case::attributes("Bag Attributes\n    friendlyName: Müller\n    localKeyID: 54 69 6D 65\nKey Attributes: <No Attributes>\n")]
#[case::names("subject=C = DE, CN = CA\n\nissuer=CN = Root\n")]
#[case::text(" 0 s:/CN=CA\n   i:/CN=Root\n")]
#[case::bundle("GlobalSign Root CA\n==================\n------------------------------------------------\n")]
#[case::front_end("front-end CAs, the end of the chain -- begin here\n")]
#[case::digest("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n")]
#[case::comment("# -----BEGIN CERTIFICATE-----\n#MIIB\n# -----END CERTIFICATE-----\n")]
#[case::parameters("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")]
fn what_is_known_to_be_harmless_is_read_past(#[case] text: &str) {
    for file in [format!("{text}{}{text}{}{text}", one(), two()), format!("{}{text}{}", one(), two()).replace('\n', "\r\n")] {
        assert_eq!(count(file), Ok(2), "{text}");
    }
    let printed = openssl(&["x509", "-text"], one());
    assert_eq!(count(printed + two()), Ok(2));
    let latin = [&b"    friendlyName: M\xFCller\n"[..], one().as_bytes()].concat();
    assert_eq!(count(latin), Ok(1));
}

#[rstest]
#[case::older_label("BEGIN CERTIFICATE", "BEGIN X509 CERTIFICATE", None)]
#[case::hyphen_lost_before("-----BEGIN", "----BEGIN", Some("line 1 looks like a boundary and is damaged"))]
#[case::hyphen_lost_after("CERTIFICATE-----\nM", "CERTIFICATE----\nM", Some("line 1 looks like a boundary"))]
#[case::hyphen_too_many("-----BEGIN", "------BEGIN", Some("line 1 has the character '-' beside a boundary"))]
#[case::dashes("-----BEGIN", "—BEGIN", Some("line 1 looks like a boundary"))]
#[case::all_dashes_lost("-----BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE", Some("line 1 looks like a boundary"))]
#[case::small_letters("-----BEGIN CERTIFICATE-----", "-----begin certificate-----", Some("line 1 looks like a boundary"))]
#[case::word_misspelt("-----BEGIN", "-----BEGN", Some("line 1 looks like a boundary"))]
#[case::spaces("-----BEGIN CERTIFICATE-----", "----- BEGIN CERTIFICATE -----", Some("line 1 looks like a boundary"))]
#[case::label_misspelt(
    "BEGIN CERTIFICATE",
    "BEGIN CERTIFCATE",
    Some("line 1 has a boundary whose label is none that is known")
)]
#[case::label_trusted(
    "BEGIN CERTIFICATE",
    "BEGIN TRUSTED CERTIFICATE",
    Some("line 1 begins a TRUSTED CERTIFICATE, which does not")
)]
#[case::label_request("BEGIN CERTIFICATE", "BEGIN CERTIFICATE REQUEST", Some("line 1 begins a CERTIFICATE REQUEST"))]
#[case::no_beginning(
    "-----BEGIN CERTIFICATE-----\n",
    "",
    Some("line 1 looks like a part of a block and stands outside of one")
)]
#[case::quoted("-----BEGIN", "> -----BEGIN", Some("line 1 has the character '>' beside a boundary"))]
#[case::escaped("-----\nM", "-----\\nM", Some("line 1 has the two characters \\n or \\r where a line should end"))]
#[case::other_space("-----BEGIN", "\u{a0}-----BEGIN", Some("line 1 has the character '\\u{a0}' beside a boundary"))]
#[case::header("-----\nM", "-----\nComment: mine\n\nM", Some("line 2 is a header inside a block"))]
#[case::other_letter("-----\nM", "-----\n…M", Some("line 2 has the character '…' inside a block"))]
#[case::other_content("-----\nM", "-----\nMA", Some("the CERTIFICATE that begins in line 1 is incomplete"))]
fn what_looks_like_a_part_of_a_block_is_refused_with_its_line(
    #[case] from: &str,
    #[case] to: &str,
    #[case] refused: Option<&str>,
) {
    let file = format!("{}{}", one().replacen(from, to, 1), two());
    let (Some(refused), found) = (refused, count(&file)) else {
        let both = file.replacen("END CERTIFICATE", "END X509 CERTIFICATE", 1);
        assert_eq!(count(both), Ok(2));
        return;
    };
    assert!(found.as_ref().is_err_and(|error| error.starts_with(refused)), "{found:?}");
    let later = format!("{}{}", two(), one().replacen(from, to, 1));
    assert!(count(later).is_err(), "the same in a block that is not the first");
}

#[test]
fn what_is_cut_short_or_no_text_is_refused_with_its_line() {
    let lines = |text: &str, range: std::ops::Range<usize>| text.lines().collect::<Vec<_>>()[range].join("\n");
    let length = one().lines().count();
    for (file, refused) in [
        (lines(one(), 0..length - 1) + "\n" + two(), "the CERTIFICATE that begins in line 1 has no end"),
        (lines(one(), 0..3), "the CERTIFICATE that begins in line 1 has no end"),
        (two().to_owned() + "-----END CERTIFICATE-----\n", "the CERTIFICATE that ends in line"),
        (lines(one(), 0..3) + "\n-----END CERTIFICATE-----\n", "the CERTIFICATE that begins in line 1 "),
        (one().replace("END CERTIFICATE", "END PRIVATE KEY"), "line 10 ends a PRIVATE KEY, and what it ends is a CERTIFICATE"),
        (one().replace("-----END", "----END"), "line 10 looks like a boundary"),
        (two().to_owned() + &lines(one(), 1..3), "line 11 looks like a part of a block"),
        (
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned(),
            "the CERTIFICATE that begins in line 1 cannot be read as one",
        ),
        (one().replace('\n', "\\n"), "line 1 has the two characters \\n"),
    ] {
        let length = one().lines().count();
        let refused = refused.replace("line 10", &format!("line {length}")).replace("line 11", &format!("line {}", length + 1));
        let found = count(&file);
        assert!(found.as_ref().is_err_and(|error| error.starts_with(&refused)), "{refused}: {found:?}");
    }
    let wide: Vec<u8> = one().encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(count(wide).unwrap_err().starts_with("line 1 has a NUL byte"));
    assert_eq!(count("garbage"), Err("there is no certificate in PEM form".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever OpenSSL reads is either read here too or refused. It is never dropped silently.
    #[test]
    fn no_certificate_is_lost_whatever_stands_around_it(
        parts in proptest::collection::vec((0..4_usize, r"(-{0,2}|[ \t\r\n]{0,3}|# [a-z]{0,5}\n|[a-zA-Z=: -]{0,12}\n|\\n|\u{feff}){0,3}"), 1..4),
        last in r"[ \t\r\n]{0,3}",
    ) {
        let mut file = String::new();
        for (index, before) in &parts {
            file.push_str(before);
            file.push_str(CERTIFICATES[*index].trim_end());
        }
        file.push_str(&last);
        match count(&file) {
            Ok(found) => prop_assert_eq!(found, parts.len() - commented(&file), "{}", file),
            Err(error) => prop_assert!(error.contains("line ") && !error.contains("-----"), "{}", error),
        }
    }
}

/// How many blocks begin in comments.
fn commented(file: &str) -> usize {
    file.split(['\n', '\r'])
        .filter(|line| {
            line.trim_start_matches(|c: char| c.is_ascii_whitespace()).starts_with('#') && line.contains("-----BEGIN")
        })
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_openssl_reads_is_read_or_refused(cut in 0..2000_usize, piece in r"(-|\n|\r|\\n| |=|A|B:|#|\u{feff}){0,2}", drop in 0..3_usize) {
        let mut file = format!("{}{}", one(), two());
        let at = cut % file.len();
        let end = (at + drop).min(file.len());
        file.replace_range(at..end, &piece);
        let directory = tempfile();
        let path = directory.join("file.pem");
        std::fs::write(&path, &file).unwrap();
        let output = Command::new("openssl").args(["storeutl", "-noout", "-certs", path.to_str().unwrap()]).output().unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let read = printed.lines().find_map(|line| line.strip_prefix("Total found: ")).and_then(|count| count.parse::<usize>().ok());
        if let (Ok(ours), Some(theirs), true) = (count(&file), read, output.status.success()) {
            prop_assert!(ours >= theirs, "{} and {}: {}", ours, theirs, file);
        }
    }
}

#[test]
fn a_long_text_costs_no_more_than_its_length() {
    // As much as fits into a Secret (1 MiB): lines of text, and blocks that are skipped.
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let started = std::time::Instant::now();
    for piece in ["a\n", parameters] {
        assert_eq!(count(piece.repeat(1_000_000 / piece.len()) + one()), Ok(1));
    }
    assert!(started.elapsed() < std::time::Duration::from_mins(1), "{:?}", started.elapsed());
}
