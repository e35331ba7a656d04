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
    let text = without_values_below(&without_rests_of_keys(&without_keys(text)));
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

/// Takes out what YAML has below a name: lines that are indented further than the name, up to the first that is not.
fn without_values_below(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut name_at = None;
    for line in text.split('\n') {
        let indentation = line.len() - line.trim_start().len();
        let is_empty = line.trim().is_empty();
        if !is_empty && name_at.is_some_and(|name_at| indentation > name_at) {
            if lines.last().is_some_and(|last| last.trim() != TAKEN_OUT) {
                lines.push(format!("{}{TAKEN_OUT}", &line[..indentation]));
            }
            continue;
        }
        if !is_empty {
            name_at = has_value_below(line).then_some(indentation);
        }
        lines.push(line.to_owned());
    }
    lines.join("\n")
}

/// Whether the line ends with a name after which YAML goes on in the next line: with a plain value, or as a block (YAML 1.2.2, section 8.1).
fn has_value_below(line: &str) -> bool {
    let line = line.trim_end();
    let header = line.trim_end_matches(|character: char| character.is_ascii_digit() || "+-".contains(character));
    let field = header.strip_suffix(['|', '>']).map_or(line, str::trim_end);
    let Some(name) = field.strip_suffix(':') else { return false };
    let name = name.trim_end_matches(['"', '\'']).to_ascii_lowercase();
    NAMES.iter().chain(HEADERS).any(|end| name.ends_with(end))
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
        Some(rest) => (without_blanks(rest), true),
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

/// The text from its first letter on. A string in JSON has `\n` for the end of a line.
fn without_blanks(text: &str) -> &str {
    let spaced = text.trim_start();
    spaced.strip_prefix("\\n").map_or(spaced, without_blanks)
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
mod tests;
