//! How long the README and the sentences of all pages are, and whether the README's links and the names of targets and tests lead somewhere.

use std::collections::BTreeSet;

use usercert_test_support::control_plane::repository;

use crate::page::Page;

/// A test by its name.
pub type Test = (&'static str, fn(&[Page]));

pub const TESTS: &[Test] = &[
    ("the_readme_has_less_than_700_words", readme_is_short),
    ("sentences_are_short", sentences_are_short),
    ("cells_of_tables_are_short", cells_are_short),
    ("targets_and_tests_that_a_page_names_are_there", names_are_there),
    ("links_of_the_readme_lead_somewhere", links_lead_somewhere),
    ("every_page_is_in_the_summary", every_page_is_listed),
];

/// What somebody reads before anything else.
const FIRST_PAGES: [&str; 7] = [
    "README.md",
    "docs/README.md",
    "docs/start-atlas.md",
    "docs/start-ca.md",
    "docs/install.md",
    "docs/demo.md",
    "docs/troubleshooting.md",
];
/// The most words that a sentence of these pages and of the others has on average.
const MOST_ON_AVERAGE: [usize; 2] = [13, 19];
/// The most words of one sentence, for an average hides a single long one.
const MOST_AT_ALL: usize = 50;

/// The most words of one sentence in a cell of a table, whose lines are short, and of all that a cell has.
const MOST_IN_A_CELL: [usize; 2] = [30, 100];

fn readme_is_short(pages: &[Page]) {
    let words = find(pages, "README.md").text.split_whitespace().count();
    println!("README.md has {words} words");
    assert!(words < 700, "{words} words");
}

fn sentences_are_short(pages: &[Page]) {
    for first in FIRST_PAGES {
        find(pages, first);
    }
    for page in pages {
        let prose = page.prose();
        let sentences = sentences(&prose);
        if let Some(long) = sentences.iter().find(|words| words.len() > MOST_AT_ALL) {
            panic!("{}: a sentence of {} words, and {MOST_AT_ALL} are the most: {}", page.name(), long.len(), long.join(" "));
        }
        let lengths: Vec<usize> = sentences.iter().map(Vec::len).collect();
        let average = lengths.iter().sum::<usize>().div_ceil(lengths.len().max(1));
        let most = MOST_ON_AVERAGE[usize::from(!FIRST_PAGES.contains(&page.name()))];
        println!("{}: {} sentences of {average} words on average", page.name(), lengths.len());
        assert!(average <= most, "{}: {average} words on average, and {most} are the most", page.name());
    }
}

fn cells_are_short(pages: &[Page]) {
    let [most_of_a_sentence, most] = MOST_IN_A_CELL;
    let mut long = Vec::new();
    for page in pages {
        // A bar with a backslash before it is text.
        let prose = page.prose().replace("\\|", "/");
        for cell in prose.lines().filter(|line| line.starts_with('|')).flat_map(|row| row.split('|')) {
            let longest = sentences(cell).iter().map(Vec::len).max().unwrap_or_default();
            if longest > most_of_a_sentence || cell.split_whitespace().count() > most {
                long.push(format!("{}:{cell}", page.name()));
            }
        }
    }
    let long = long.join("\n");
    assert!(long.is_empty(), "cells with more than {most} words, or {most_of_a_sentence} in a sentence:\n{long}");
}

/// The sentences of running text: neither headings nor tables nor fragments. A colon ends none; an item of a list begins one.
fn sentences(prose: &str) -> Vec<Vec<&str>> {
    let mut sentences = vec![Vec::new()];
    for line in prose.lines() {
        let is_running = !line.starts_with(['#', '|', '!', '<']) && !line.trim().is_empty();
        let mut words = line.split_whitespace().peekable();
        let begins_item =
            |word: &&str| *word == "-" || word.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
        let is_item = words.next_if(begins_item).is_some();
        if !is_running || is_item {
            sentences.push(Vec::new());
        }
        for word in words.filter(|_| is_running) {
            let ends = word.trim_end_matches([')', '`', '*', '"']).ends_with(['.', '?']);
            sentences.last_mut().expect("the sentence that is read").push(word);
            if ends {
                sentences.push(Vec::new());
            }
        }
    }
    sentences.retain(|words| words.len() > 2);
    sentences
}

/// `make` and `cargo test --test` in a page, in its text and in its blocks. They are not run here.
fn names_are_there(pages: &[Page]) {
    let read = |file: &str| std::fs::read_to_string(repository().join(file)).unwrap();
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| line.split_once(':')).map(|(target, _)| target).collect();
    let manifest = read("Cargo.toml");
    let is_test = |name: &str| {
        manifest.contains(&format!("[[test]]\nname = \"{name}\"")) || repository().join(format!("tests/{name}.rs")).exists()
    };
    let is_flag = |word: &&str| word.starts_with('-') || word.contains('=');
    let mut count = 0;
    for page in pages {
        let in_blocks = page.blocks.iter().filter(|block| block.info == "sh").flat_map(|block| block.code.lines());
        let prose = page.prose();
        for command in in_blocks.chain(prose.split('`').skip(1).step_by(2)) {
            // Variables may stand before a command, and a remark after it.
            let words =
                command.split_whitespace().skip_while(|word| word.contains('=')).take_while(|word| !word.starts_with('#'));
            let words: Vec<&str> = words.collect();
            match words.as_slice() {
                ["make", first, others @ ..] if first.starts_with(char::is_lowercase) => {
                    for target in [first].into_iter().chain(others.iter().filter(|word| !is_flag(word))) {
                        assert!(targets.contains(target), "{}: the Makefile has no target {target}", page.name());
                    }
                }
                ["cargo", "test", "--test", name, others @ ..] => {
                    assert!(is_test(name), "{}: there is no test {name}", page.name());
                    for filter in others.iter().filter(|word| !is_flag(word)) {
                        assert!(chooses_a_test(name, filter), "{}: {filter} chooses no test of {name}", page.name());
                    }
                }
                _ => continue,
            }
            count += 1;
        }
    }
    assert!(count > 50, "{count} commands");
}

/// Whether the test `name` has a module or a function whose name contains this.
fn chooses_a_test(name: &str, filter: &str) -> bool {
    let path = repository().join(format!("tests/{name}.rs"));
    let files = match std::fs::read_dir(repository().join("tests").join(name)) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![path],
    };
    let is_named = |line: &str| {
        let words = line.split(|character: char| !(character.is_alphanumeric() || character == '_')).collect::<Vec<_>>();
        words.windows(2).any(|pair| ["fn", "mod"].contains(&pair[0]) && pair[1].contains(filter))
    };
    files.iter().filter(|file| file.is_file()).any(|file| std::fs::read_to_string(file).unwrap().lines().any(is_named))
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
