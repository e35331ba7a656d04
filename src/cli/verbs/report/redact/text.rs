//! What is taken out of texts: logs, messages, and objects once they are written.

use super::TAKEN_OUT;

/// The ends of names whose values must not be seen, in small letters. A name is a field in JSON, or stands before `=`.
const NAMES: &[&str] = &["password", "passwd", "passphrase", "token", "clientsecret", "client_secret", "apikey", "api_key"];

/// Words before a value that must not be seen.
const MARKS: &[&str] = &["bearer ", "basic ", "password: "];

/// What the rest of a line is taken out after: a header has several parts.
const HEADER: &str = "authorization: ";

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
        let line = without_named_values(&without_passwords(&without_header(line)));
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

/// Takes out what stands after `authorization:`, to the end of the line, or of the JSON string in which it stands.
fn without_header(line: &str) -> String {
    let Some(at) = line.to_ascii_lowercase().find(HEADER) else { return line.to_owned() };
    let (before, value) = line.split_at(at + HEADER.len());
    let first = value.find('"');
    // A quote inside of the header follows an equals sign, and in JSON a backslash besides.
    let is_raw = first.is_some_and(|first| value[..first].ends_with('='));
    let end = if is_raw { value.len() } else { end_of_string(value).unwrap_or(value.len()) };
    format!("{before}{TAKEN_OUT}{}", &value[end..])
}

/// Where the first quote stands that no backslash escapes.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let ends = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

/// Takes out the values of fields in JSON, plain or escaped, and what stands after `name=`.
fn without_named_values(line: &str) -> String {
    let (lower, mut result, mut from) = (line.to_ascii_lowercase(), String::new(), 0);
    loop {
        let ends = NAMES.iter().filter_map(|name| lower[from..].find(name).map(|at| from + at + name.len()));
        let Some(end) = ends.min() else { return result + &line[from..] };
        result.push_str(&line[from..end]);
        from = end;
        if let Some((value, length)) = named_value(&line[from..]) {
            result.push_str(&line[from..from + value]);
            result.push_str(TAKEN_OUT);
            from += value + length;
        }
    }
}

/// Where the value begins that belongs to a name before this text, and its length; `None` if there is none.
fn named_value(text: &str) -> Option<(usize, usize)> {
    if let Some(value) = text.strip_prefix('=') {
        let quote = usize::from(value.starts_with('"'));
        let ends = |character: char| character.is_whitespace() || "\"',&;".contains(character);
        let length = value[quote..].find(ends).unwrap_or(value.len() - quote);
        return (length > 0).then_some((1 + quote, length));
    }
    for quote in ["\\\"", "\""] {
        let Some(rest) = text.strip_prefix(quote) else { continue };
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix(quote)?;
        let length = if quote == "\"" { end_of_string(rest) } else { rest.find(quote) };
        return Some((text.len() - rest.len(), length.unwrap_or(rest.len())));
    }
    None
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
        if end > 0 {
            result.push_str(TAKEN_OUT);
        }
        from = begin + end;
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
    #[case::no_token("eyJust a word eyJ.x", "eyJust a word eyJ.x")]
    #[case::other_letters("größer://übel:pässe@höst", "größer://[taken out]@höst")]
    #[case::plain("certificate 0A for CN=orders is valid", "certificate 0A for CN=orders is valid")]
    fn what_must_not_be_seen_is_taken_out_of_texts(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(redacted(text), expected);
    }
}
