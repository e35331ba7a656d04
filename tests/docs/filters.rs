//! The commands that pass an answer through `grep`, each with a line that it has to print and one that it must leave out. Without these a filter that
//! prints nothing, or everything, would pass.

use crate::page::Page;

/// A command with `| grep`.
pub struct Filter {
    page: &'static str,
    /// A part of the command, from `| grep` on.
    part: &'static str,
    /// Words of a line that it has to print. NAMESPACE is that of the page.
    pub printed: &'static str,
    /// Words of a line that it must leave out, and that stands in what it looks through.
    pub left_out: &'static str,
}

/// `refused` is an object whose certificate works and whose renewal is refused; `orders` is in order. So are the issuers `unready` and `atlas`.
pub const FILTERS: [Filter; 5] = [
    Filter {
        page: "docs/alerts.md",
        part: "| grep -E 'Secret(NotOwned|",
        printed: "NAMESPACE refused True SecretNotWritable",
        left_out: "NAMESPACE orders True Issued",
    },
    Filter {
        page: "docs/security.md",
        part: "| grep -v ' Issued",
        printed: "NAMESPACE refused SecretNotWritable",
        left_out: "NAMESPACE orders Issued",
    },
    Filter {
        page: "docs/security.md",
        part: "| grep False",
        printed: "NAMESPACE unready False",
        left_out: "NAMESPACE atlas True",
    },
    Filter { page: "docs/uninstall.md", part: "| grep -A5 '^crds:'", printed: "keep: true", left_out: "replicaCount: 1" },
    Filter { page: "docs/upgrade.md", part: "| grep =", printed: "NAMESPACE named CN=named", left_out: "NAMESPACE orders" },
];

/// The filter of a command.
pub fn of(page: &str, command: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.page == page && command.contains(filter.part))
}

/// Whether a line of the text has all of these words. A list of several kinds has names such as `certificateissuer.usercert.dev/atlas`.
pub fn has_line(text: &str, words: &str) -> bool {
    let is_in = |line: &str, word: &str| {
        line.split_whitespace().any(|found| found == word || found.rsplit_once('/').is_some_and(|(_, name)| name == word))
    };
    text.lines().any(|line| words.split_whitespace().all(|word| is_in(line, word)))
}

pub const TESTS: &[crate::prose::Test] = &[("each_command_with_grep_has_an_answer_to_compare", each_filter_is_judged)];

fn each_filter_is_judged(pages: &[Page]) {
    let mut judged = 0;
    for page in pages {
        for command in page.commands_to_run().iter().filter(|command| command.text.contains("| grep")) {
            let place = format!("{}:{}", page.name(), command.line);
            assert!(of(page.name(), &command.text).is_some(), "{place}: tests/docs/filters.rs has no entry: {}", command.text);
            judged += 1;
        }
    }
    assert_eq!(judged, FILTERS.len(), "an entry of tests/docs/filters.rs is of no command");
}
