//! What several pages say of one thing.

use std::collections::BTreeMap;

use crate::page::Page;

pub const TESTS: &[crate::prose::Test] = &[
    ("every_page_gives_the_image_by_its_registry", image_is_given_by_its_registry),
    ("no_two_pages_have_the_reader_save_different_files_under_one_name", saved_files_have_names_of_their_own),
];

/// The chart of a release has a registry already. A repository that begins with another one would come behind it.
fn image_is_given_by_its_registry(pages: &[Page]) {
    let is_given = |part: &str| pages.iter().filter(|page| page.text.contains(part)).count();
    assert_eq!(is_given("image.repository=REGISTRY"), 0, "a page gives the registry in the repository");
    assert!(is_given("image.registry=REGISTRY") > 2, "the README, the chart's and the page that installs it");
}

/// Whoever reads one page after the other does so in one folder.
fn saved_files_have_names_of_their_own(pages: &[Page]) {
    let mut saved: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for page in pages {
        for block in &page.blocks {
            let Some(file) = block.save_as.as_deref() else { continue };
            let (of_page, code) = saved.entry(file).or_insert((page.name(), &block.code));
            assert_eq!(*code, block.code, "{} and {of_page} have the reader save {file}", page.name());
        }
    }
    assert!(saved.len() > 4, "{saved:?}");
}
