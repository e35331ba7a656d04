//! How long the README and the first pages are, and whether the README's links lead somewhere.

use std::collections::BTreeSet;

use usercert_test_support::control_plane::repository;

use crate::page::Page;

/// A test by its name.
pub type Test = (&'static str, fn(&[Page]));

pub const TESTS: &[Test] = &[
    ("the_readme_has_less_than_700_words", readme_is_short),
    ("sentences_of_the_first_pages_are_short", sentences_are_short),
    ("links_of_the_readme_lead_somewhere", links_lead_somewhere),
    ("every_page_is_in_the_summary", every_page_is_listed),
];

/// What somebody reads before anything else, and the most words that a sentence of it has on average.
const FIRST_PAGES: [&str; 7] = [
    "README.md",
    "docs/README.md",
    "docs/start-atlas.md",
    "docs/start-ca.md",
    "docs/install.md",
    "docs/demo.md",
    "docs/troubleshooting.md",
];
const MOST_ON_AVERAGE: usize = 13;

fn readme_is_short(pages: &[Page]) {
    let words = find(pages, "README.md").text.split_whitespace().count();
    println!("README.md has {words} words");
    assert!(words < 700, "{words} words");
}

fn sentences_are_short(pages: &[Page]) {
    for name in FIRST_PAGES {
        let lengths: Vec<usize> = sentences(&find(pages, name).prose()).iter().map(Vec::len).collect();
        let average = lengths.iter().sum::<usize>().div_ceil(lengths.len());
        println!("{name}: {} sentences of {average} words on average", lengths.len());
        assert!(average <= MOST_ON_AVERAGE, "{name}: {average} words on average");
    }
}

/// The sentences of running text: neither headings nor tables nor fragments.
fn sentences(prose: &str) -> Vec<Vec<&str>> {
    let is_running = |line: &&str| !line.starts_with(['#', '|', '!', '<', '*']) && !line.trim().is_empty();
    let words = prose.lines().filter(is_running).flat_map(str::split_whitespace);
    let mut sentences = vec![Vec::new()];
    for word in words.filter(|word| *word != "-") {
        let ends = word.trim_end_matches([')', '`', '*', '"']).ends_with(['.', ':', '?']);
        sentences.last_mut().expect("the sentence that is read").push(word);
        if ends {
            sentences.push(Vec::new());
        }
    }
    sentences.retain(|words| words.len() > 2);
    sentences
}

fn links_lead_somewhere(pages: &[Page]) {
    let readme = find(pages, "README.md").prose();
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let mut count = 0;
    for target in targets.filter(|target| !target.starts_with("http")) {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = repository().join(file);
        assert!(path.exists(), "README.md links to {file}, which is not there");
        if !anchor.is_empty() {
            let anchors = anchors(&std::fs::read_to_string(&path).unwrap());
            assert!(anchors.contains(anchor), "README.md links to {target}, and {file} has no such heading");
        }
        count += 1;
    }
    assert!(count > 20, "{count} links");
}

/// mdBook leaves a page out that the summary does not list.
fn every_page_is_listed(pages: &[Page]) {
    let summary = std::fs::read_to_string(repository().join("docs/SUMMARY.md")).unwrap();
    for name in pages.iter().filter_map(|page| page.name().strip_prefix("docs/")) {
        assert!(summary.contains(&format!("]({name})")), "docs/SUMMARY.md does not list {name}");
    }
}

/// The anchors that GitHub makes of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

fn find<'a>(pages: &'a [Page], name: &str) -> &'a Page {
    pages.iter().find(|page| page.name() == name).unwrap_or_else(|| panic!("there is no page {name}"))
}
