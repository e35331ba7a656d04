//! Each shape in which a named secret may stand, with each name and any secret.

use super::*;

/// What a secret has. No name and no shape has four of the letters in a row.
const LETTERS: &str = "[QZXJqzxj0-9]{4,6}";

const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "keystorePassword",
    "MONGO_PASSWORD",
    "PGPASSWORD",
    "password1",
    "MONGO_PASS",
    "storepass",
    "pwd",
    "pw",
    "DB_PW",
    "dbPw",
    "encryptionKey",
    "ENCRYPTION_KEY",
    "license_key",
    "Pwd",
    "token",
    "tokens",
    "refresh_token",
    "clientSecret",
    "client_secret",
    "client-secret",
    "CLIENT_SECRET",
    "secret",
    "apiKey",
    "API_KEY",
    "X-Api-Key",
    "privateApiKey",
    "privateKey",
    "private_key",
    "MONGODB_ATLAS_PRIVATE_KEY",
    "credentials",
    "client-key-data",
    "SharedAccessKey",
    "secretAccessKey",
    "AWS_SECRET_ACCESS_KEY",
    "X-Auth-Key",
    "X-Amz-Signature",
    "Authorization",
    "Cookie",
    "Set-Cookie",
];

/// A secret of several words and lines.
#[derive(Clone, Debug)]
struct Secret {
    /// With spaces, and any characters.
    text: String,
    /// A word of characters that may stand in a URL.
    word: String,
}

impl Secret {
    /// Its words without the characters that a shape escapes.
    fn parts(&self) -> impl Iterator<Item = &str> {
        let texts = [&self.text, &self.word].into_iter();
        texts.flat_map(|text| text.split(|character: char| !character.is_ascii_alphanumeric())).filter(|part| part.len() >= 4)
    }
}

fn secrets() -> impl Strategy<Value = Secret> {
    let text = format!(r#"{LETTERS}([!/?#@:&%+=$^*~,;'"\\({{<| -]{{1,2}}{LETTERS}){{0,4}}"#);
    let word = format!("{LETTERS}([$._~-]{LETTERS}){{0,2}}");
    let regex = |pattern: &str| prop::string::string_regex(pattern).unwrap();
    (regex(&text), regex(&word)).prop_map(|(text, word)| Secret { text, word })
}

/// The same with a letter before it, for shapes in which a number is something else.
fn lettered(text: &str) -> String {
    format!("Q{text}")
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// With indentation and without.
fn jsons(value: &serde_json::Value) -> [String; 2] {
    [value.to_string(), format!("{value:#}")]
}

fn of_yaml(name: &str, text: &str) -> Vec<String> {
    let single = text.replace('\'', "''");
    vec![
        format!("a: b\n  {name}: {text}\nnext: x"),
        format!("a:\n  {name}: {text}\n    {text}\n  next: x"),
        format!("  {name}: {}\n  next: x", json(text)),
        format!("  {name}: '{single}'\n  next: x"),
        format!("{{'user': 'a', '{name}': '{single}', 'next': 'x'}}"),
        format!("{name}: \"{0}\n{0}\"\nnext: x", text.replace(['"', '\\'], "")),
        format!("{name} = \"\"\"\n{}\n\"\"\"\nnext = x", text.replace('"', "")),
        format!("  {name}: |\n    {text}\n\n    {text}\n  next: x"),
        format!("  {name}: >2- # note\n    {text}\n  next: x"),
        format!("  {name}: !!str |\n    {text}\n  next: x"),
        format!("  {name}:\n    {text}\n    {text}\n  next: x"),
        format!("  {name}:\n  - {text}\n  - {text}\n  next: x"),
        format!("env:\n- name: {name}\n  value: {text}\n- name: A"),
        format!("env:\n  - name: \"{name}\"\n    value: {}\n  - name: A", json(text)),
        format!("args:\n- --{name}\n- {text}\n- -v"),
    ]
}

fn of_json(name: &str, text: &str) -> Vec<String> {
    let mut shapes = Vec::new();
    for value in [
        serde_json::json!({ "user": "a", name: text, "z": 1 }),
        serde_json::json!({ "user": "a", name: [text, text], "z": 1 }),
        serde_json::json!([{ "name": name, "value": text }]),
        serde_json::json!({ "args": ["run", format!("--{name}"), text, "-v"] }),
    ] {
        shapes.extend(jsons(&value));
        let escaped = serde_json::json!({ "body": value.to_string(), "z": 1 });
        shapes.extend(jsons(&escaped));
        shapes.extend(jsons(&serde_json::json!({ "message": format!("Atlas answered {escaped}") })));
    }
    shapes.push(format!(r#"{{"m":"{name}\u003d{}}}"#, &json(text)[1..]));
    shapes.push(format!(r#"{{"m":"\u003c{name}\u003e{}}}"#, &json(text)[1..]));
    shapes.extend(of_yaml(name, text).iter().map(|yaml| format!(r#"{{"m":{}}}"#, json(yaml))));
    shapes
}

fn of_lines(name: &str, text: &str) -> Vec<String> {
    vec![
        format!("{name}={text}"),
        format!("WARN a:b: refused {name}={text} user=a"),
        format!("export {name}='{text}'"),
        format!("{name} => {text}"),
        format!("{name} := {text}"),
        format!("run -{name} {text} -v"),
        format!("run --{name}={text} -v"),
        format!("run --{name} {text} -v"),
        format!("> {name}: {text}\n> Host: a"),
        format!("curl -H '{name}: {text}' https://host"),
        format!("Key {{ {name}: Some({text:?}), user: \"a\" }}"),
        format!("<a><{name}>{text}</{name}></a>"),
        format!("<x:{name} type=\"b\">\n  {text}\n</x:{name}>"),
        format!("<{name}><![CDATA[{text}]]></{name}>"),
        format!("<add key=\"{name}\" value=\"{text}\"/>"),
        format!("\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{text}"),
        format!("\u{1b}[1;31m{name}\u{1b}[0m: \u{1b}[32m{text}\u{1b}[0m"),
        format!(r#"{{"m":"\u001b[3m{name}\u001b[0m\u001b[2m=\u001b[0m{}}}"#, &json(text)[1..]),
    ]
}

/// Those in which a secret is known by something else than a field's name.
fn without_name(Secret { text, word }: &Secret) -> Vec<String> {
    let mut shapes = vec![
        format!("cannot parse mongodb+srv://app:{text}@host/db?x=1"),
        format!("cannot parse mongodb://:{text}@host:27017,b:27017/db"),
        format!("GET https://app:{}@host/x", lettered(text)),
        format!(r#"{{"message":"cannot parse \"postgresql://app:{word}@host\"","z":1}}"#),
        format!("GET https://{word}@host/x"),
        format!("cannot parse mongodb://app:{} more", lettered(word)),
        format!("as app:{word}@cluster0.mongodb.net or app:{word}@localhost"),
        format!("curl -u app:{text} https://host"),
        format!("sent Bearer {word}, more"),
        format!("sent bearer:{word}"),
        format!("sent Basic Q{word}=="),
        format!("sent mdb_sa_sk_{} twice", word.replace(['$', '.', '~'], "_")),
    ];
    for name in ["password", "passphrase", "token", "API key", "private key", "client secret"] {
        shapes.extend([
            format!("the {name} is {text:?}."),
            format!("with {name} '{text}' it fails"),
            format!("the {name} 7{word} is wrong"),
            format!("{name} was 7{word}"),
        ]);
    }
    shapes
}

fn assert_none_left(secret: &Secret, shapes: Vec<String>) -> Result<(), TestCaseError> {
    for shape in shapes {
        let once = redacted(&shape);
        for part in secret.parts() {
            prop_assert!(!once.contains(part), "{} is left of {}\n{}", part, shape, once);
        }
        prop_assert_eq!(redacted(&once), once, "once is enough for {}", shape);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_named_secret_is_in_no_shape(name in prop::sample::select(NAMES), secret in secrets()) {
        assert_none_left(&secret, of_yaml(name, &secret.text))?;
        assert_none_left(&secret, of_json(name, &secret.text))?;
        assert_none_left(&secret, of_lines(name, &secret.text))?;
        let word = &secret.word;
        assert_none_left(&secret, vec![format!("GET /a?x=1&{name}={word}&y=2 HTTP/1.1"), format!("body {name}%3D{word}%26a%3Db")])?;
    }

    #[test]
    fn a_secret_without_a_name_is_in_no_shape(secret in secrets()) {
        assert_none_left(&secret, without_name(&secret))?;
    }
}

#[test]
fn numbers_are_secrets_too() {
    for name in NAMES {
        for text in jsons(&serde_json::json!({ "user": "a", *name: 12_345_678, "z": 1 })) {
            assert!(!redacted(&text).contains("12345678"), "{text}");
        }
    }
}
