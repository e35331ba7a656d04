//! What the programs advise. A condition, an Event and an answer of the command line say the same as `docs/reasons.md`: whoever follows any of them
//! loses nothing that cannot be had back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use usercert_test_support::control_plane::repository;

use crate::page::{Page, has_extension};

pub const TESTS: &[crate::prose::Test] = &[("advice_to_delete_says_what_it_needs_or_takes", advice_to_delete_is_whole)];

/// What a text advises, and of which words it has to have one.
struct Advice {
    given: &'static [&'static str],
    needs: &'static [&'static str],
}

const ADVICE: [Advice; 3] = [
    // Whoever logs in as the user cannot any more, and under the same name Atlas lets former certificates in again.
    Advice {
        given: &["delete the user", "deleting the user", "delete the old user", "delete the database user", "delete this user"],
        needs: &["another name"],
    },
    Advice {
        given: &[", delete the Secret", "or delete the Secret", "or delete that Secret", "and delete it", "else delete it"],
        needs: &["uses it", "when the issuer can issue"],
    },
    // Atlas changes it for nobody.
    Advice {
        given: &["X.509 type", "type of a user", "x509Type: MANAGED"],
        needs: &["another name", "another username", "{ANOTHER_USER}", "create the database user"],
    },
];

fn advice_to_delete_is_whole(_: &[Page]) {
    let mut sources = Vec::new();
    collect(&repository().join("src"), &mut sources);
    let mut judged = [0; ADVICE.len()];
    for file in &sources {
        let text = fs::read_to_string(file).unwrap();
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        let told = program.lines().filter(|line| line.contains('"') && !line.trim_start().starts_with("//"));
        for line in told {
            for (count, advice) in judged.iter_mut().zip(&ADVICE) {
                if advice.given.iter().any(|words| line.contains(words)) {
                    let is_whole = advice.needs.iter().any(|words| line.to_lowercase().contains(&words.to_lowercase()));
                    assert!(is_whole, "{}: it lacks one of {:?}: {line}", file.display(), advice.needs);
                    *count += 1;
                }
            }
        }
    }
    assert!(judged.iter().all(|count| *count > 1), "an advice is given nowhere: {judged:?}");
}

/// All sources below a folder, but for files of tests.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "tests" {
            collect(&path, sources);
        } else if has_extension(name, "rs") && name != "tests.rs" {
            sources.push(path);
        }
    }
}
