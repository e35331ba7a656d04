use rstest::rstest;

use super::*;

#[rstest]
#[case::a_key("a -----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY----- b", "a [taken out] b")]
#[case::a_key_of_another_kind("-----BEGIN RSA PRIVATE KEY-----\\nMIIB\\n-----END RSA PRIVATE KEY-----", "[taken out]")]
#[case::a_key_without_its_end("x -----BEGIN EC PRIVATE KEY-----\nMIIB", "x [taken out]")]
#[case::two_keys(
    "-----BEGIN PRIVATE KEY-----A-----END PRIVATE KEY-----,-----BEGIN PRIVATE KEY-----B-----END PRIVATE KEY-----",
    "[taken out],[taken out]"
)]
#[case::a_certificate_stays(
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
)]
#[case::a_url("see mongodb://user:pass@host/db and https://host/a@b", "see mongodb://[taken out]@host/db and https://host/a@b")]
#[case::a_bearer("Authorization: Bearer abc.def, more", "Authorization: [taken out]")]
#[case::a_bearer_without_its_header("sent Bearer abc.def", "sent Bearer [taken out]")]
#[case::digest("authorization: Digest username=\"key\", response=\"0a\"", "authorization: [taken out]")]
#[case::digest_in_json(
    r#"{"header":"Authorization: Digest username=\"key\", response=\"0a\"","next":1}"#,
    r#"{"header":"Authorization: [taken out]","next":1}"#
)]
#[case::a_password_in_json(r#"{"password":"hunter2","user":"a"}"#, r#"{"password":"[taken out]","user":"a"}"#)]
#[case::a_password_with_quotes(
    r#"{"keystorePassword": "hun\"ter2", "a": 1}"#,
    r#"{"keystorePassword": "[taken out]", "a": 1}"#
)]
#[case::a_password_in_escaped_json(r#"body: {\"password\": \"hunter2\"}"#, r#"body: {\"password\": \"[taken out]\"}"#)]
#[case::what_is_no_text_stays(r#"{"password": null, "token": {"a": 1}}"#, r#"{"password": null, "token": {"a": 1}}"#)]
#[case::credentials_of_atlas(
    r#"{"clientSecret":"x","privateApiKey":"y-z","client_secret":"w"}"#,
    r#"{"clientSecret":"[taken out]","privateApiKey":"[taken out]","client_secret":"[taken out]"}"#
)]
#[case::a_token_in_a_query("GET /a?token=abc&x=1", "GET /a?token=[taken out]&x=1")]
#[case::a_secret_of_a_service_account("sent mdb_sa_sk_aB-c_9. Next", "sent [taken out]. Next")]
#[case::a_key_in_base64("tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t= next", "tls.key: [taken out] next")]
#[case::a_key_whose_begin_was_cut_off("MIIB+/\nAAAA==\n-----END EC PRIVATE KEY-----\nnext", "[taken out]\nnext")]
#[case::a_line_before_the_rest_of_a_key("a line\nAAAA==\n-----END PRIVATE KEY-----", "a line\n[taken out]")]
#[case::the_name_of_a_secret_stays("secret=orders-tls, secretName: \"a\"", "secret=orders-tls, secretName: \"a\"")]
#[case::a_password("error password=hunter2; next", "error password=[taken out]; next")]
#[case::a_token("sa eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl end", "sa [taken out] end")]
#[case::a_field_of_yaml("privateApiKey: x-1, token: y", "privateApiKey: [taken out], token: [taken out]")]
#[case::a_field_of_yaml_with_its_value_below(
    "a:\n  password:\n    x\n    y\n  user: a",
    "a:\n  password:\n    [taken out]\n  user: a"
)]
#[case::a_block_of_yaml(
    "'client-secret': |-\n  x\n\n   y\nnext",
    "'client-secret': [taken out]\n  [taken out]\n\n   [taken out]\nnext"
)]
#[case::a_folded_header_of_yaml("Authorization: >2\n  Digest a\n", "Authorization: [taken out]\n  [taken out]\n")]
#[case::a_value_below_in_json(r#"{"m":"password:\n  x\nnext"}"#, r#"{"m":"password:\n  [taken out]"}"#)]
#[case::a_line_that_is_not_below("the token:\nnext line", "the token:\nnext line")]
#[case::a_field_in_single_quotes("{'client_secret': 'x', 'user': 'a'}", "{'client_secret': '[taken out]', 'user': 'a'}")]
#[case::an_assignment_with_spaces("password = x", "password = [taken out]")]
#[case::a_value_with_commas("password=a,b;c. Next", "password=[taken out]. Next")]
#[case::a_flag("run --password x --token -y --api-key=z", "run --password [taken out] --token -y --api-key=[taken out]")]
#[case::flags_of_a_json_list(
    r#"{"args":["--password","hun\"ter2","--token", "x","--api-key=y","-v"]}"#,
    r#"{"args":["--password","[taken out]","--token", "[taken out]","--api-key=[taken out]","-v"]}"#
)]
#[case::flags_of_an_escaped_list(
    r#"{\"args\":[\"--password\",\"hunter2\"]}"#,
    r#"{\"args\":[\"--password\",\"[taken out]\"]}"#
)]
#[case::flags_in_single_quotes("['run', '-password', 'x', 'y']", "['run', '-password', '[taken out]', 'y']")]
#[case::a_flag_before_another_in_a_list(r#"["--token","--verbose"]"#, r#"["--token","--verbose"]"#)]
#[case::a_list_of_names_of_fields(r#"["password","user"]"#, r#"["password","user"]"#)]
#[case::a_flag_for_a_header("curl --cookie session=x https://host", "curl --cookie [taken out] https://host")]
#[case::a_flag_for_a_header_in_a_list(r#"["--cookie","a=b; c","-v"]"#, r#"["--cookie","[taken out]","-v"]"#)]
#[case::a_word_in_quotes("the passphrase \"x y\" is wrong", "the passphrase \"[taken out]\" is wrong")]
#[case::a_word_that_is_none("the password hunter2 is wrong", "the password [taken out] is wrong")]
#[case::prose("the token has expired, a password must be longer", "the token has expired, a password must be longer")]
#[case::rust("Key { token: Some(\"x\"), user: \"a\" }", "Key { token: [taken out]), user: \"a\" }")]
#[case::rust_in_json(r#"{"m":"token: Some(\"x\"), a"}"#, r#"{"m":"token: [taken out]), a"}"#)]
#[case::a_path_of_rust("controller::token::renew failed", "controller::token::renew failed")]
#[case::a_quote_in_escaped_json(r#"{\"password\": \"hun\\\"ter2\"}"#, r#"{\"password\": \"[taken out]\"}"#)]
#[case::a_value_at_the_end_of_a_string(r#"{"m":"password: x","n":1}"#, r#"{"m":"password: [taken out]","n":1}"#)]
#[case::a_header_as_a_field(
    r#"{"authorization":"Digest username=\"key\", response=\"0a\"","Set-Cookie":"a=b; c"}"#,
    r#"{"authorization":"[taken out]","Set-Cookie":"[taken out]"}"#
)]
#[case::a_header_as_an_escaped_field(
    r#"{\"authorization\": \"Digest username=\\\"key\\\"\", \"a\": 1}"#,
    r#"{\"authorization\": \"[taken out]\", \"a\": 1}"#
)]
#[case::numbers_of_json(r#"{"automountServiceAccountToken": true}"#, r#"{"automountServiceAccountToken": true}"#)]
#[case::no_token("eyJust a word eyJ.x", "eyJust a word eyJ.x")]
#[case::other_letters("größer://übel:pässe@höst", "größer://[taken out]@höst")]
#[case::plain("certificate 0A for CN=orders is valid", "certificate 0A for CN=orders is valid")]
fn what_must_not_be_seen_is_taken_out_of_texts(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(redacted(text), expected);
    assert_eq!(redacted(expected), expected, "once is enough");
}
/// Letters, and all that the rules above look at.
const ALPHABET: [&str; 11] = ["a", "ß", " ", ":", "=", "\"", "'", "\\", "(", "{", ","];

#[test]
fn every_text_can_be_looked_through_and_once_is_enough() {
    for number in 0..ALPHABET.len().pow(4) {
        let after: String = (0..4).map(|place| ALPHABET[number / ALPHABET.len().pow(place) % ALPHABET.len()]).collect();
        for name in ["token", "\"authorization", "-password"] {
            let once = redacted(&format!("{name}{after}x1"));
            assert_eq!(redacted(&once), once, "{name}{after}");
        }
    }
}
