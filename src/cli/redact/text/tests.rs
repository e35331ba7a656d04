#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod kept;
mod keys;
mod shapes;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[test]
fn every_rule_can_be_read() {
    assert_eq!(Rules::new().err(), None);
}

#[rstest]
#[case::a_url("see mongodb://user:pass@host/db", "see mongodb://[taken out]@host/db")]
#[case::a_url_without_a_password(
    "see https://host/a@b and https://host:8443/a",
    "see https://host/a@b and https://host:8443/a"
)]
#[case::a_password_that_is_not_encoded("mongodb+srv://app:p/a?s#s w\"ord@host/db", "mongodb+srv://[taken out]@host/db")]
#[case::a_password_that_looks_like_a_port("mongodb://app:123/4 5@host, https://a:1/b@c", "mongodb://[taken out]@c")]
#[case::a_token_in_a_url("https://ghp_1@host/x", "https://[taken out]@host/x")]
#[case::a_url_that_is_cut_off("in mongodb://app:pa55 more", "in mongodb://[taken out] more")]
#[case::no_scheme("at user:hunter2@cluster0.mongodb.net once", "at [taken out]@cluster0.mongodb.net once")]
#[case::other_letters("größer://übel:pässe@höst", "größer://[taken out]@höst")]
#[case::an_image("ghcr.io:5000/x:0.2.0@sha256:0a", "ghcr.io:5000/x:0.2.0@sha256:0a")]
#[case::an_id_of_an_image("docker-pullable://ghcr.io:5000/x@sha256:0a", "docker-pullable://ghcr.io:5000/x@sha256:0a")]
#[case::hosts_with_ports("mongodb://a:27017,b:27017/db http://[::1]:80/", "mongodb://a:27017,b:27017/db http://[::1]:80/")]
#[case::a_bearer("Authorization: Bearer abc.def, more\nnext", "Authorization: [taken out]\nnext")]
#[case::a_bearer_without_its_header("sent Bearer abc.def, Bearer:x", "sent Bearer [taken out], Bearer:[taken out]")]
#[case::what_is_no_bearer("invalid bearer token, and basic constraints", "invalid bearer token, and basic constraints")]
#[case::basic("sent Basic YTpi", "sent Basic [taken out]")]
#[case::curl("curl -u app:x y https://host", "curl -u [taken out]")]
#[case::a_secret_of_a_service_account("sent mdb_sa_sk_aB-c_9. Next", "sent [taken out]. Next")]
#[case::a_short_name("pw=hunter2 db_pw: hunter2", "pw=[taken out]")]
#[case::a_name_of_two_words("pass phrase hunter2 is wrong", "pass phrase [taken out]")]
#[case::a_key_of_a_database("encryptionKey: x", "encryptionKey: [taken out]")]
#[case::a_key_with_an_equals_sign("run encryption_key=x", "run encryption_key=[taken out]")]
#[case::a_license("license_key=x", "license_key=[taken out]")]
#[case::a_database_of_go("dsn=app:hunter2@tcp(db:3306)/x failed", "dsn=[taken out]@tcp(db:3306)/x failed")]
#[case::a_socket_of_go("open app:hun/ter2@unix(/tmp/my.sock)/x", "open [taken out]@unix(/tmp/my.sock)/x")]
#[case::a_webhook(
    "POST https://hooks.slack.com/services/T00/B00/X9 failed",
    "POST https://hooks.slack.com/services/[taken out] failed"
)]
#[case::another_webhook("\"https://discord.com/api/webhooks/1/a-b\"", "\"https://discord.com/api/webhooks/[taken out]\"")]
#[case::github("with ghp_16C7e42F292c6912E7710c838347Ae178B4a.", "with [taken out].")]
#[case::github_of_one_repository("with github_pat_11ABCDEFG0_abc, more", "with [taken out], more")]
#[case::gitlab("with glpat-a1B2-c3D4_e5F6g7H8, more", "with [taken out], more")]
#[case::slack("with xoxb-1234567890-aBcDeF, xoxp-1234567890-a", "with [taken out], [taken out]")]
#[case::vault("with hvs.CAESIJ1zr-a_b more", "with [taken out] more")]
#[case::aws(
    "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY and AKIAIOSFODNN7EXAMPLE alone",
    "AKIAIOSFODNN7EXAMPLE:[taken out] and AKIAIOSFODNN7EXAMPLE alone"
)]
#[case::digest(
    "sent username=\"a\", response=\"6629fae49393a05397450978507c4ef1\", qop=auth",
    "sent username=\"a\", response=\"[taken out]\", qop=auth"
)]
#[case::digest_in_json(r#"{"m":"response=\"6629fae49393a05397450978507c4ef1\""}"#, r#"{"m":"response=\"[taken out]\""}"#)]
#[case::what_begins_like_a_token(
    "ghp_ and glpat-x, hvs.x, xoxb, response=\"no\"",
    "ghp_ and glpat-x, hvs.x, xoxb, response=\"no\""
)]
#[case::a_token("sa eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl. End", "sa [taken out] End")]
#[case::an_encrypted_token(
    "sa eyJhbGciOi..AxY8DCtDaGlsbGljb3RoZQ.KDlTtXchhZTGufMYmOYGS4HffxPSUrfmqCHXaI9wOGY.a",
    "sa [taken out]"
)]
#[case::a_certificate_that_ends_like_a_name(
    "-----BEGIN CERTIFICATE-----\nMIIB/sig==\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nMIIB/sig==\n-----END CERTIFICATE-----\n"
)]
#[case::a_certificate_in_json_that_ends_like_a_name(
    r#"{"m":"-----BEGIN CERTIFICATE-----\nMIIB\npwd=\n-----END CERTIFICATE-----\n"}"#,
    r#"{"m":"-----BEGIN CERTIFICATE-----\nMIIB\npwd=\n-----END CERTIFICATE-----\n"}"#
)]
#[case::a_password_in_a_certificate(
    "-----BEGIN CERTIFICATE-----\npassword=hunter2\n-----END CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\npassword=[taken out]\n-----END CERTIFICATE-----"
)]
#[case::no_token("eyJust a word eyJ.x", "eyJust a word eyJ.x")]
#[case::a_field_takes_its_line("a, password=x, more\nnext", "a, password=[taken out]\nnext")]
#[case::a_field_of_json(r#"{"user":"a","password":"hun\"ter2"}"#, r#"{"user":"a","password":[taken out]"#)]
#[case::a_field_of_yaml_with_its_value_below(
    "a:\n  password:\n    x\n\n    y\n  user: a",
    "a:\n  password:[taken out]\n  user: a"
)]
#[case::a_block_of_yaml("'client-secret': |-\n  x\n\n   y\nnext", "'client-secret': [taken out]\nnext")]
#[case::a_list_of_yaml("tokens:\n- x\n- y\nuser: a", "tokens:[taken out]\nuser: a")]
#[case::a_quote_over_two_lines("password: \"a\nb\"\nnext", "password: [taken out]\nnext")]
#[case::a_line_that_is_not_below("the token:\nnext line", "the token:\nnext line")]
#[case::the_environment_of_a_container(
    "- name: MONGO_PASSWORD\n  value: x\n- name: B",
    "- name: MONGO_PASSWORD\n  value: [taken out]\n- name: B"
)]
#[case::a_flag("run --user a --password x", "run --user a --password [taken out]")]
#[case::a_flag_in_a_list("- --password\n- x\n- -v", "- --password\n- [taken out]\n- -v")]
#[case::a_word_in_quotes("the passphrase \"x y\" is wrong", "the passphrase [taken out]")]
#[case::a_word_that_is_none("the password hunter2 is wrong", "the password [taken out]")]
#[case::prose("the token has expired, a password must be longer", "the token has expired, a password must be longer")]
#[case::a_field_of_the_log("the keystore's password attempt=3", "the keystore's password attempt=3")]
#[case::a_path_of_rust("controller::token::renew failed", "controller::token::renew failed")]
#[case::plain("certificate 0A for CN=orders is valid", "certificate 0A for CN=orders is valid")]
fn what_must_not_be_seen_is_taken_out_of_texts(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(redacted(text), expected);
    assert_eq!(redacted(expected), expected, "once is enough");
}

/// What the rules look at, and letters.
const PARTS: [&str; 43] = [
    "a",
    "ß",
    " ",
    ":",
    "=",
    "\"",
    "'",
    "\\",
    "(",
    "{",
    ",",
    "\n",
    "\n  ",
    "- ",
    "x1",
    "@",
    "/",
    "://",
    "u:p@h.x",
    "password",
    "token",
    "--token",
    "the Secret ",
    "name: ",
    "value: ",
    "<",
    "|",
    "\\n",
    "[taken out]",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "-----BEGIN CERTIFICATE-----",
    "-----END CERTIFICATE-----",
    "eyJabcdefgh.",
    "Bearer ",
    "basic ",
    "-u ",
    "is ",
    "\u{1b}[0m",
    "27017",
    "[",
    "::",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
];

proptest! {
    #[test]
    fn every_text_can_be_looked_through_and_once_is_enough(
        parts in prop::collection::vec(prop::sample::select(PARTS.as_slice()), 0..12),
        any in ".{0,60}",
    ) {
        for text in [parts.concat(), any] {
            let once = redacted(&text);
            prop_assert_eq!(redacted(&once), once, "{}", text);
        }
    }
}
