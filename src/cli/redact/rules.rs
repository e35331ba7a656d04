//! What is looked for in texts: patterns of the crate `regex`, which takes time in proportion to the text, whoever wrote it.
//!
//! What a pattern finds is taken out. Of its groups, `before` and `after` stay, and where there is a `kept` all of it stays: that alternative
//! comes first, so that no other one looks at the same text.

use regex::Regex;

/// Parts of the patterns below.
const PARTS: &[(&str, &str)] = &[
    // A name whose value must not be seen. The end of a name tells: `password`, `MONGO_PASSWORD`, `keystore-password`.
    (
        "<NAME>",
        concat!(
            r"[A-Za-z0-9_.-]*(?:pass[ _-]?(?:word|wd|phrase|code)|pass|pwd?|token|secret|cred(?:ential)?s?|cookie|authorization|sig(?:nature)?",
            r"|(?:access|account|api|auth|(?:en|de)cryption|licen[cs]e|master|private|secret|session|shared|signing|storage)[ _-]?key|key[ _-]?data|session[ _-]?id|priv)",
            r"s?(?:[_-]?(?:\d+|value|hash|base64))?",
        ),
    ),
    // A quote, also inside of JSON, XML or a URL. Each JSON around another doubles the backslashes.
    ("<QUOTE>", r#"(?:\\*["'`]|\\+u0022|&quot;|%22)"#),
    ("<IS>", r"(?:=>|={1,3}|:=?|%3[ad]|\\+u003d)"),
    // The end of a line, also inside of JSON, and the indentation of the next one.
    ("<BREAK>", r"(?:\s*[\n\r]|\\+[nr])(?:\s|\\+[nrt])*"),
    ("<BASE64>", r"[A-Za-z0-9+/_](?:-{0,2}[A-Za-z0-9+/_]){19,}={0,2}"),
    // What may stand behind the colon of a URL whose host has a port. A password may look so.
    ("<NO_PORT>", r#"(?:[^\s\d]|\d+[^\s\d/,;:)\]}>"'\\])"#),
    // The name of an object that is no name of a secret alone.
    ("<OBJECT>", r"(?-i:[a-z0-9]+[./-][a-z0-9./-]*)"),
    ("<HOST>", r"(?i:localhost\b|(?:tcp[46]?|udp[46]?|unix|cloudsql)\(|[\w-]+(?:\.[\w-]+)+|[\w-]+:\d{2,5}\b)"),
];

/// What is known by its form.
const FORMS: &[&str] = &[
    // Secrets of Atlas's service accounts.
    r"mdb_sa_sk_\w(?:-?\w)*",
    // Tokens of GitHub, GitLab, Slack and Vault.
    r"\b(?:gh[pousr]_|github_pat_)\w{8,}|\b(?:gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-|xox[a-z]-|xapp-\d-|hv[sbr]\.)\w(?:-?\w){7,}",
    // The secret beside the id of a key of AWS.
    r#"(?P<before>\bA[KS]IA[A-Z0-9]{16}(?:\\*["'])?[\s:;,|]+(?:\\*["'])?)[A-Za-z0-9/+=]{30,}"#,
    // Webhooks: whoever knows the path may post.
    r#"(?P<before>\b(?:hooks\.slack(?:-gov)?\.com/\w+|discord(?:app)?\.com/api/webhooks|\w+\.webhook\.office\.com/\w+)/)[^\s"'<>\\\[][^\s"'<>\\]*"#,
    // HTTP Digest (RFC 7616), without the name of its header.
    r#"(?P<before>(?i:\bresponse)=(?:\\*["'])?)[0-9A-Fa-f]{32,}"#,
    // JSON Web Tokens (RFC 7519). Some of the parts of an encrypted one may be empty.
    r"\beyJ\w(?:-?\w){5,}(?:\.(?:-?\w)*)+",
    // Private keys: in PEM; from PEM whose beginning was cut off; in hexadecimal and as numbers; in base64, over several lines, the last of
    // which may be short. Certificates stay.
    concat!(
        r#"(?P<kept>-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=\\"',]*-----END CERTIFICATE-----)"#,
        r"|-{4,5} ?BEGIN[^-\n]*PRIVATE[^-\n]*-{4,5}(?s:.*?-{4,5} ?END[^-\n]*-{4,5}|.*)",
        r"|(?:[A-Za-z0-9+/=]+<BREAK>)*-{4,5} ?END[^-\n]*PRIVATE[^-\n]*-{4,5}",
        r"|(?:[0-9A-Fa-f]{2}:\s*){65,}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{130,}|(?:\d{1,3}[,\s]\s*){40,}\d{1,3}",
        r#"|(?P<base64><BASE64>(?:<BREAK>[A-Za-z0-9+/_]+={0,2})+)(?P<after>[ \t]*(?:[\n\r"'\\]|(?m:$)))"#,
        r"|(?P<base64_line><BASE64>)",
    ),
    // Headers without their names.
    r#"(?P<kept>(?i:\bbearer\s+tokens?\b))|(?P<before>(?i:\bbearer)[\s:=]+)[^\s:=\["',;&][^\s"',;&]*"#,
    r#"(?P<before>(?i:\bbasic)\s+)[a-z]*[^a-z\s.,;:!?()\["'][^\s"',;&]*"#,
    // `curl -u user:password`
    r#"(?P<before>(?m:^|[\s"'`\[(,])(?:-u|--(?:proxy-)?user)[ \t=,"']+)[^\s:"']+:[^\n]*"#,
];

/// What is no name before its value.
const NO_NAMES: &[&str] = &[
    // Objects: the name of a Secret may end with `token`.
    r"(?-i:(?:\b[Tt]he|\b[Tt]his|\bits|'s|\ba|\bof) Secret\b)(?:\s+<OBJECT>)?",
    r"\b(?-i:(?:Cluster)?CertificateIssuer|DatabaseUserCertificate|AtlasProject|AtlasDatabaseUser)\s+<OBJECT>",
    r"\b(?-i:Deployment|StatefulSet|DaemonSet|ReplicaSet|CronJob)\s+<OBJECT>",
    r#"\bspec\.privateKey\b|(?:^|[ \t"'`\[(,=])--read-secret\b|\badopt-secret\b|/secrets\b|\bno key [\w.-]+"#,
    // Sentences of the operator.
    r"(?-i:no token: (?:its|check) |on the API key: add |credentials: (?:(?:give|name one in) )?spec\.|a user and a password: credentials)",
    // Paths of Rust.
    r"<NAME>::",
    // The end of a certificate or of a public key, whose base64 may end like a name.
    r"[A-Za-z0-9+/]+={1,2}<BREAK>-----END (?:CERTIFICATE(?: REQUEST)?|PUBLIC KEY)-----",
];

/// What stands before a value that must not be seen.
const BEFORE_VALUES: &[&str] = &[
    // A field, a header, a variable, a flag with an equals sign, a part of a query
    r"<NAME><QUOTE>?[ \t]*<IS>[ \t]*",
    r"<QUOTE>auth<QUOTE>\s*:\s*",
    // A name, and its value as a field of its own: the environment of a container.
    r"<NAME><QUOTE>?(?:[\s,;]|\\+[nrt])+<QUOTE>?value<QUOTE>?\s*[:=]\s*",
    // XML
    r"(?:<|\\+u003c|&lt;)[\w:]*<NAME>(?:\s[^<>\n]*)?(?:>|\\+u003e|&gt;)",
    // A flag alone in its line, whose value is in the next; and other flags, also in a list.
    r"^[ \t]*(?:- +)?<QUOTE>?-<NAME><QUOTE>?,?[ \t]*\n[ \t]*(?:- +)?",
    r#"(?:^|[ \t"'`\[(,=])-<NAME><QUOTE>?(?:[ \t,]|\\+[nrt])+(?:- +)?"#,
];

/// A sentence. What follows is a value if it is quoted, or no word: `the token x1`, but not `the token has expired`.
const SENTENCE: &str = concat!(
    r"(?P<sentence>(?:^|[ \t(])(?:pass(?:word|wd|[ _-]?phrase|code)|pwd|token|(?:access|api|private|secret)[ _-]?key|client[ _-]?secret)[ \t]+(?:(?:is|was)[ \t]+)?)",
    r#"(?:\\*["'`]|[\p{L}.,;:!?()\[\]{}'/-]*[^\p{L}.,;:!?()\[\]{}'/\s=-])"#,
);

/// Passwords in URLs. A password that is not percent-encoded may have any character, and then the last `@` of the line ends it. Such URLs are
/// what drivers complain about.
const URLS: &[&str] = &[
    r#"(?P<before>\b(?i:mongodb(?:\+srv)?|postgres(?:ql)?|mysql|mariadb|amqp|redis)s?://)[^\s/?#:@"']*:[^\n]*(?P<after>@)"#,
    r#"(?P<before>://)[^\s/?#:@"']*:<NO_PORT>[^\n]*(?P<after>@)"#,
    // Within a word. A digest of an image stays.
    r#"(?P<kept>\S+@sha\d+:)|(?P<before>://)(?:[^\s/?#"']*|[^\s/?#:@"']*:\S*)(?P<after>@)"#,
    // The end was cut off.
    r#"(?P<before>://)[^\s/?#:@\["']*:<NO_PORT>[^\s"']*"#,
    // Without a scheme.
    r#"(?P<kept>\S+@sha\d+:)|[^\s"'/:=@,(<]+:[^\s"']+(?P<after>@<HOST>)"#,
];

/// The patterns.
pub(super) struct Rules {
    /// Escape sequences of terminals (ECMA-48, section 5.4), also inside of JSON.
    pub(super) colours: Regex,
    /// What is known by its form, before values are looked for.
    pub(super) forms: Vec<Regex>,
    /// What stands before a value: the groups `before` and `sentence`. Without these it has found no name.
    pub(super) values: Regex,
    /// What YAML has behind the colon of a value that begins in the next line (YAML 1.2.2, sections 6.9 and 8.1).
    pub(super) begins_below: Regex,
    /// Passwords in URLs, after values are taken out.
    pub(super) urls: Vec<Regex>,
    /// The whole of a name whose value must not be seen.
    pub(super) name: Regex,
}

impl Rules {
    pub(super) fn new() -> Result<Self, regex::Error> {
        let all = |patterns: &[&str]| patterns.iter().map(|pattern| compiled(pattern)).collect::<Result<Vec<_>, _>>();
        let (no_names, before_values) = (NO_NAMES.join("|"), BEFORE_VALUES.join("|"));
        Ok(Self {
            colours: compiled(r"(?:\x1b|\\+(?i:u001b|x1b|033|e))\[[0-9;:?]*[A-Za-z]")?,
            forms: all(FORMS)?,
            values: compiled(&format!("(?im)(?:{no_names})|(?P<before>{before_values})|{SENTENCE}"))?,
            begins_below: compiled(r"^(?:!\S*\s*)?(?:[|>][-+0-9]*)?\s*(?:#.*)?$")?,
            urls: all(URLS)?,
            name: compiled("^(?i:<NAME>)$")?,
        })
    }
}

fn compiled(pattern: &str) -> Result<Regex, regex::Error> {
    let whole = PARTS.iter().fold(pattern.to_owned(), |pattern, (part, stands_for)| pattern.replace(part, stands_for));
    Regex::new(&whole)
}
