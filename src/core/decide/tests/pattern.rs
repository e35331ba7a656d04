//! Statements about the patterns of `spec.allow`: no name matches for two namespaces.

use super::*;
use crate::decide::pattern::{SubjectPattern, UsernamePattern, keep_namespaces_apart};

fn usernames(texts: &[impl AsRef<str>]) -> Vec<UsernamePattern> {
    texts.iter().map(|text| UsernamePattern::new(text.as_ref())).collect()
}

fn subjects(texts: &[impl AsRef<str>]) -> Vec<SubjectPattern> {
    texts.iter().map(|text| SubjectPattern::new(text.as_ref()).unwrap()).collect()
}

#[rstest]
#[case("orders", "orders", true)]
#[case("orders", "orders2", false)]
#[case("shop.*", "shop.", true)]
#[case("shop.*", "shop.a.b", true)]
#[case("shop.*", "shopa", false)]
#[case("*", "", true)]
#[case("a*b*c", "a--b--c", true)]
#[case("a*b*c", "a--c--b", false)]
#[case("ab*ba", "aba", false)]
#[case("*.shop", "postgres,O=Acme,OU=x.shop", false)]
#[case("*", "a=b", false)]
#[case("*", "a+b", false)]
#[case("a+*", "a+b", true)]
#[case("{{namespace}}.*", "shop.a", true)]
#[case("{{namespace}}.*", "shop-eu.a", false)]
#[case("*{{namespace}}", "shopshop", true)]
#[case("CN=shop.*", "shop.a", true)]
#[case("ä*", "äö", true)]
fn a_star_stands_for_any_characters_but_those_that_separate_attributes(
    #[case] pattern: &str,
    #[case] name: &str,
    #[case] expected: bool,
) {
    assert_eq!(UsernamePattern::new(pattern).matches(name, "shop"), expected);
}

#[rstest]
#[case(&["orders", "*"], &["CN=*,O=Acme"])]
#[case(&["{{namespace}}"], &[])]
#[case(&["{{namespace}}.*", "{{namespace}}_admin", "{{namespace}}"], &[])]
#[case(&["db_{{namespace}}.*", "db_{{namespace}}"], &[])]
#[case(&["*.{{namespace}}", "*_{{namespace}}", "{{namespace}}"], &[])]
#[case(&["*@{{namespace}}.db"], &[])]
#[case(&["{{namespace}}.{{namespace}}"], &[])]
#[case(&[], &["CN={{namespace}}.*,OU=apps,O=Acme", "CN={{namespace}},O=Acme\\, Inc."])]
#[case(&[], &["CN=*,OU={{namespace}},O=Acme", "UID=*+OU={{namespace}},O=Acme"])]
#[case(&["{{namespace}}.*"], &["CN=*.{{namespace}},O=Acme"])]
fn lists_that_keep_namespaces_apart_are_taken(#[case] names: &[&str], #[case] patterns: &[&str]) {
    assert_eq!(keep_namespaces_apart(&usernames(names), &subjects(patterns)), Ok(()));
}

#[rstest]
#[case(&["{{namespace}}-*"], &[])]
#[case(&["*-{{namespace}}"], &[])]
#[case(&["{{namespace}}*"], &[])]
#[case(&["*{{namespace}}*"], &[])]
#[case(&["{{namespace}}{{namespace}}"], &[])]
#[case(&["{{namespace}}", "a{{namespace}}"], &[])]
#[case(&["{{namespace}}.*", "*.{{namespace}}"], &[])]
#[case(&["{{namespace}}.*", "x.{{namespace}}.*"], &[])]
#[case(&["{{namespace}}.*", "orders"], &[])]
#[case(&["{{namespace}}.*", "*"], &[])]
#[case(&["{{namespace}}.*"], &["CN=*,O=Acme"])]
#[case(&["orders"], &["CN={{namespace}},O=Acme"])]
#[case(&[], &["CN={{namespace}}-*,O=Acme"])]
#[case(&[], &["CN={{namespace}}.*,OU=*", "CN=*,OU={{namespace}}"])]
#[case(&[], &["OU={{namespace}},OU=*", "OU=*,OU={{namespace}}"])]
#[case(&[], &["OU={{namespace}},ou=*", "ou=*,OU={{namespace}}"])]
#[case(&[], &["CN={{namespace}},O=Acme", "CN=a{{namespace}},O=Acme"])]
#[case(&[], &["CN={{namespace}},O=Acme", "CN=*,O=Acme"])]
fn lists_that_may_allow_one_name_to_two_namespaces_are_refused(#[case] names: &[&str], #[case] patterns: &[&str]) {
    assert!(keep_namespaces_apart(&usernames(names), &subjects(patterns)).is_err());
}

#[rstest]
#[case("orders")]
#[case("CN=orders")]
#[case("CN=a\\,b")]
#[case("XX=a,O=b")]
#[case("CN=a+CN=b,O=Acme")]
#[case::hidden_hyphen("CN={{namespace}}\\2D*,O=Acme")]
#[case::hidden_namespace("CN=*-\\7B\\7Bnamespace}},O=Acme")]
#[case::hidden_in_namespace("CN=*-{{name\\73pace}},O=Acme")]
#[case::hidden_star("CN=*,O=Acme\\2A")]
fn what_is_no_pattern_of_subjects_is_refused(#[case] text: &str) {
    assert!(SubjectPattern::new(text).is_err());
}

#[test]
fn what_separates_and_what_is_outside_of_ascii_may_be_escaped_in_a_pattern() {
    let pattern = SubjectPattern::new("CN=*,O=Acme\\, B\\C3\\BCro \\\\7").unwrap();
    assert!(pattern.matches(&Subject::parse("CN=a,O=Acme\\2C Büro \\5C7").unwrap(), "shop"));
}

/// Every namespace whose name stands in the text.
fn namespaces_in(text: &str) -> BTreeSet<&str> {
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
    let pieces = places.iter().flat_map(|from| places.iter().filter(move |to| *to > from).map(move |to| &text[*from..*to]));
    let is_label = |piece: &&str| {
        piece.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !piece.starts_with('-')
            && !piece.ends_with('-')
    };
    pieces.filter(is_label).collect()
}

/// A pattern made of pieces in which mistakes are likely.
fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["{{namespace}}", "{{namespace}}", "*", "a", "-", ".", "_", "b.", "}", "{"]);
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

/// One that may well be part of a list that keeps namespaces apart.
fn simple_pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["{{namespace}}", "{{namespace}}.*", "*.{{namespace}}", "*", "a"]).prop_map(ToOwned::to_owned)
}

/// A name that the pattern allows the namespace: each `*` becomes one of these texts.
fn name_of(pattern: &str, namespace: &str, texts: &[String]) -> String {
    let mut texts = texts.iter().cycle();
    let with_namespace = pattern.replace("{{namespace}}", namespace);
    let mut pieces = with_namespace.split('*');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        name.push_str(texts.next().unwrap());
        name.push_str(piece);
    }
    name
}

fn namespace() -> impl Strategy<Value = String> {
    "[ab]([-ab]{0,2}[ab])?"
}

proptest! {
    // Most lists made at random are refused.
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 200_000, ..ProptestConfig::default() })]

    #[test]
    fn no_user_name_belongs_to_two_namespaces(
        patterns in prop::collection::vec(pattern(), 1..4),
        namespace in namespace(),
        texts in prop::collection::vec("[-ab._]{0,3}", 4),
    ) {
        let list = usernames(&patterns);
        let named = patterns.iter().any(|text| text.contains("{{namespace}}"));
        prop_assume!(named && keep_namespaces_apart(&list, &[]).is_ok());
        for text in &patterns {
            let name = name_of(text, &namespace, &texts);
            prop_assert!(list.iter().any(|pattern| pattern.matches(&name, &namespace)), "{name} is allowed to its own namespace");
            for other in namespaces_in(&name).into_iter().filter(|other| *other != namespace) {
                prop_assert!(!list.iter().any(|pattern| pattern.matches(&name, other)), "{patterns:?}: {name}, {other}");
            }
        }
    }

    #[test]
    fn no_subject_belongs_to_two_namespaces(
        patterns in prop::collection::vec(
            (
                prop_oneof![pattern(), simple_pattern()],
                prop_oneof![pattern(), simple_pattern()],
                prop::sample::select(vec!["CN=1,OU=2", "OU=1,OU=2", "OU=1+CN=2", "OU=1,O=2"]),
            ),
            1..3,
        ),
        namespace in namespace(),
        texts in prop::collection::vec("[-ab._]{0,3}", 4),
    ) {
        let patterns: Vec<String> = patterns.iter().map(|(one, two, form)| form.replace('1', one).replace('2', two)).collect();
        let list = subjects(&patterns);
        let named = patterns.iter().any(|text| text.contains("{{namespace}}"));
        prop_assume!(named && keep_namespaces_apart(&[], &list).is_ok());
        for text in &patterns {
            let text = name_of(text, &namespace, &texts);
            // An empty value is no subject.
            let Ok(subject) = Subject::parse(&text) else { continue };
            prop_assert!(list.iter().any(|pattern| pattern.matches(&subject, &namespace)), "{text} is allowed to its own namespace");
            for other in namespaces_in(&text).into_iter().filter(|other| *other != namespace) {
                prop_assert!(!list.iter().any(|pattern| pattern.matches(&subject, other)), "{patterns:?}: {text}, {other}");
            }
        }
    }
}
