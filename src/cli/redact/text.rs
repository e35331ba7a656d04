//! What is taken out of texts: logs, messages, and objects once they are written.

/// What stands in the place of what was taken out.
pub(super) const TAKEN_OUT: &str = "[taken out]";

/// The ends of names whose values must not be seen, in small letters. A name is a field, a flag, or a word before its value.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "token",
    "clientsecret",
    "client_secret",
    "client-secret",
    "apikey",
    "api_key",
    "api-key",
    "secretkey",
    "secret_key",
    "secret-key",
    "secretaccesskey",
    "secret_access_key",
];

/// The ends of names of headers, which have several parts: the rest of the line or of the string is taken out.
const HEADERS: &[&str] = &["authorization", "cookie"];

/// Words before a value that must not be seen.
const MARKS: &[&str] = &["bearer ", "basic "];

/// How the secrets of Atlas's service accounts begin.
const SERVICE_ACCOUNT_SECRET: &str = "mdb_sa_sk_";

/// How PEM begins in base64: `-----BEGIN`.
const PEM_IN_BASE64: &str = "LS0tLS1CRUdJTi";

/// The least length of a token that is recognised by its form.
const TOKEN: usize = 20;

/// The text without what must not be seen.
pub(crate) fn redacted(text: &str) -> String {
    let text = without_rests_of_keys(&without_keys(text));
    let of_line = |line: &str| {
        let line = without_named_values(&without_passwords(&without_headers(line)));
        let line = without_words(&line, SERVICE_ACCOUNT_SECRET, |character| {
            character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
        });
        let line = without_words(&line, PEM_IN_BASE64, is_of_base64);
        without_tokens(&line)
    };
    text.split('\n').map(of_line).collect::<Vec<_>>().join("\n")
}

const fn is_of_base64(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=')
}

/// Takes out what stands between the begin of a private key in PEM and its end, or the end of the text.
fn without_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    const KEY: &str = "PRIVATE KEY-----";
    let (mut result, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(begin);
        let label_ends = block[BEGIN.len()..].find("-----").map_or(block.len(), |at| BEGIN.len() + at + 5);
        result.push_str(before);
        if !block[..label_ends].ends_with(KEY) {
            result.push_str(&block[..label_ends]);
            rest = &block[label_ends..];
            continue;
        }
        result.push_str(TAKEN_OUT);
        let end = block.find(END).and_then(|end| Some(end + END.len() + block[end + END.len()..].find("-----")? + 5));
        rest = end.map_or("", |end| &block[end..]);
    }
    result + rest
}

/// Takes out the end of a key whose beginning is not there, because a log was cut off at its head.
fn without_rests_of_keys(text: &str) -> String {
    let is_end = |line: &str| line.find("-----END ").is_some_and(|at| line[at..].contains("PRIVATE KEY-----"));
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        if !is_end(line) {
            lines.push(line.to_owned());
            continue;
        }
        while lines.last().is_some_and(|line| !line.trim().is_empty() && line.trim().chars().all(is_of_base64)) {
            lines.pop();
        }
        lines.push(TAKEN_OUT.to_owned());
    }
    lines.join("\n")
}

/// Takes out the values of headers.
fn without_headers(line: &str) -> String {
    without_values(line, HEADERS, |name, after| {
        let (_, rest) = quote(after);
        let Some(value) = rest.trim_start().strip_prefix([':', '=']).map(str::trim_start) else {
            return named_value(name, after).filter(|_| is_flag(name));
        };
        let length = match quote(value) {
            (Some(quoted), content) => return Some((after.len() - content.len(), quoted.end(content))),
            _ => match value.find('"') {
                // A quote inside of the header follows an equals sign, and in JSON a backslash besides.
                Some(first) if !value[..first].ends_with('=') => Quote::PLAIN.end(value),
                _ => value.len(),
            },
        };
        Some((after.len() - value.len(), length))
    })
}

/// Takes out the values of fields and flags.
fn without_named_values(line: &str) -> String {
    without_values(line, NAMES, named_value)
}

/// Takes out the values behind these names. `value_of`: where the value stands in what follows the name, and its length.
fn without_values(line: &str, names: &[&str], value_of: impl Fn(&str, &str) -> Option<(usize, usize)>) -> String {
    let (lower, mut result, mut from) = (line.to_ascii_lowercase(), String::new(), 0);
    loop {
        let ends = names.iter().filter_map(|name| lower[from..].find(name).map(|at| from + at + name.len()));
        let Some(end) = ends.min() else { return result + &line[from..] };
        result.push_str(&line[from..end]);
        from = end;
        let value = value_of(&line[..end], &line[end..]).filter(|(_, length)| *length > 0);
        if let Some((value, length)) = value.filter(|(value, _)| !line[end + value..].starts_with(TAKEN_OUT)) {
            result.push_str(&line[from..from + value]);
            result.push_str(TAKEN_OUT);
            from += value + length;
        }
    }
}

/// Where the value begins in the text that follows a name, and its length; `None` if there is none.
fn named_value(name: &str, after: &str) -> Option<(usize, usize)> {
    let (of_name, rest) = quote(after);
    let spaced = rest.trim_start();
    let in_list = spaced.strip_prefix(',').filter(|_| of_name.is_some() && is_flag(name)).map(str::trim_start);
    let (value, has_mark) = match spaced.strip_prefix([':', '=']) {
        // A path of Rust.
        Some(rest) if rest.starts_with(':') => return None,
        Some(rest) => (rest.trim_start(), true),
        None if let Some(next) = in_list => (next, false),
        None if spaced.len() < rest.len() => (spaced, false),
        None => return None,
    };
    let length = match quote(value) {
        // The next flag.
        (Some(_), content) if in_list.is_some() && content.starts_with("--") => return None,
        (Some(quoted), content) => return Some((after.len() - content.len(), quoted.end(content))),
        // A number, a list or an object in JSON.
        _ if of_name.is_some() || value.starts_with('{') => return None,
        _ => length_of_word(value),
    };
    let is_value = match (has_mark, is_flag(name)) {
        (true, _) => true,
        (false, true) => !value.starts_with('-'),
        // Prose goes on with a word: the token has expired.
        (false, false) => value[..length].contains(|character: char| !character.is_alphabetic()),
    };
    is_value.then_some((after.len() - value.len(), length))
}

/// Whether the text that ends with a name ends with a flag.
fn is_flag(name: &str) -> bool {
    let word = name.rsplit(|character: char| character.is_whitespace() || "\"'".contains(character)).next();
    word.is_some_and(|word| word.starts_with('-'))
}

/// The length of a value without quotes: to the next space, without the punctuation behind it. A value of Rust's `Debug`, `Some("x")`, is whole.
fn length_of_word(text: &str) -> usize {
    let mut at = 0;
    while let Some(found) = text[at..].find(|character: char| character.is_whitespace() || "\"'&".contains(character)) {
        let end = at + found;
        let before = text[..end].trim_end_matches('\\');
        at = match quote(&text[before.len()..]) {
            (Some(quoted), content) if before.ends_with(['(', '[']) => {
                let begin = text.len() - content.len();
                (begin + quoted.end(content) + quoted.length()).min(text.len())
            }
            (Some(_), _) => return without_punctuation(before),
            (None, _) => return without_punctuation(&text[..end]),
        };
    }
    without_punctuation(text)
}

fn without_punctuation(word: &str) -> usize {
    word.trim_end_matches([',', ';', '.', ')', ']', '}']).len()
}

/// A quote, and how many backslashes are before it: none, or one more than twice those of the text in which it stands.
#[derive(Clone, Copy)]
struct Quote {
    character: char,
    backslashes: usize,
}

impl Quote {
    const PLAIN: Self = Self { character: '"', backslashes: 0 };

    const fn length(self) -> usize {
        self.backslashes + 1
    }

    /// How long the text is up to the quote that ends it; all of it if there is none. Quotes in it have more backslashes.
    fn end(self, text: &str) -> usize {
        let ends = |at: &usize| {
            let backslashes = text[..*at].len() - text[..*at].trim_end_matches('\\').len();
            backslashes % (2 * self.length()) == self.backslashes
        };
        let end = text.match_indices(self.character).map(|(at, _)| at).find(ends);
        end.map_or(text.len(), |end| end - self.backslashes)
    }
}

/// The quote with which the text begins, and the text behind it.
fn quote(text: &str) -> (Option<Quote>, &str) {
    let rest = text.trim_start_matches('\\');
    let backslashes = text.len() - rest.len();
    match rest.chars().next().filter(|character| matches!(character, '"' | '\'')) {
        Some(character) => (Some(Quote { character, backslashes }), &rest[1..]),
        None => (None, text),
    }
}

/// Takes out each word that begins so.
fn without_words(line: &str, begin: &str, is_of_word: impl Fn(char) -> bool) -> String {
    let (mut result, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(begin) {
        let (before, after) = rest.split_at(at);
        result.push_str(before);
        result.push_str(TAKEN_OUT);
        rest = after.trim_start_matches(&is_of_word);
    }
    result + rest
}

/// Takes out what stands between `://` and `@` in URLs, and after words that announce a secret.
fn without_passwords(line: &str) -> String {
    let (mut result, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        result.push_str(before);
        let authority = after.find(|character: char| "/?#\"' \t".contains(character)).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(end) => {
                result.push_str(TAKEN_OUT);
                &after[end..]
            }
            None => after,
        };
    }
    result.push_str(rest);
    for mark in MARKS {
        result = without_value_after(&result, mark);
    }
    result
}

fn without_value_after(line: &str, mark: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let (mut result, mut from) = (String::new(), 0);
    while let Some(found) = lower[from..].find(mark) {
        let begin = from + found + mark.len();
        let value = &line[begin..];
        let end =
            value.find(|character: char| character.is_whitespace() || "\"',&;".contains(character)).unwrap_or(value.len());
        result.push_str(&line[from..begin]);
        from = begin;
        if end > 0 && !value.starts_with(TAKEN_OUT) {
            result.push_str(TAKEN_OUT);
            from += end;
        }
    }
    result + &line[from..]
}

/// Takes out JSON Web Tokens (RFC 7519): three parts of base64url, the first of which begins with `eyJ`.
fn without_tokens(line: &str) -> String {
    let is_of_token = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let (mut result, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("eyJ") {
        let (before, after) = rest.split_at(at);
        let end = after.find(|character| !is_of_token(character)).unwrap_or(after.len());
        let is_token = end >= TOKEN && after[..end].matches('.').count() == 2;
        result.push_str(before);
        result.push_str(if is_token { TAKEN_OUT } else { &after[..end] });
        rest = &after[end..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
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
    #[case::a_url(
        "see mongodb://user:pass@host/db and https://host/a@b",
        "see mongodb://[taken out]@host/db and https://host/a@b"
    )]
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
}
