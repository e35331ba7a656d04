//! `print`: what the program tells about itself.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::{
    arguments::{Arguments, PROGRAM, Printed},
    complete::COMPLETE,
    exit::{Answer, CliError, Exit},
};

/// Prints the completions, or writes the manual pages.
pub(super) fn print(printed: &Printed) -> Result<Answer, CliError> {
    match printed {
        Printed::Completion { shell } => {
            let mut bytes = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command().bin_name(PROGRAM), PROGRAM, &mut bytes);
            Ok(Answer { bytes, exit: Exit::Good })
        }
        Printed::KubectlCompletion { folder } => kubectl_completion(folder),
        Printed::Man { folder } => manual_pages(folder),
    }
}

/// kubectl looks for a program of this name on the `PATH` (kubectl's `plugin_completion.go`), and reads of it what cobra's completions say.
const COMPLETER: &str = "kubectl_complete-usercert";

/// Writes the program that kubectl asks. It is a script, because the program itself may be replaced by an upgrade.
fn kubectl_completion(folder: &Path) -> Result<Answer, CliError> {
    let path = folder.join(COMPLETER);
    let failed = |source| CliError::File { operation: "write", path: path.clone(), source };
    fs::create_dir_all(folder).map_err(|source| CliError::File {
        operation: "create the folder",
        path: folder.to_owned(),
        source,
    })?;
    fs::write(&path, format!("#!/bin/sh\nexec {PROGRAM} {COMPLETE} \"$@\"\n")).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    let text = format!("{} is there: kubectl completes, if its folder and that of {PROGRAM} are on the PATH\n", path.display());
    Ok(Answer::new(text, Exit::Good))
}

fn manual_pages(folder: &Path) -> Result<Answer, CliError> {
    let failed = |operation, source| CliError::File { operation, path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(|source| failed("create the folder", source))?;
    clap_mangen::generate_to(Arguments::command().name(PROGRAM), folder)
        .map_err(|source| failed("write the manual pages to", source))?;
    Ok(Answer::new(format!("the manual pages are in {}\n", folder.display()), Exit::Good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_completions_of_every_verb() -> Result<(), CliError> {
        use clap_complete::Shell::{Bash, Elvish, Fish, PowerShell, Zsh};
        for shell in [Bash, Elvish, Fish, PowerShell, Zsh] {
            let text = print(&Printed::Completion { shell })?.text();
            assert!(text.contains(PROGRAM) && text.contains("status") && text.contains("request-timeout"), "{shell}");
        }
        Ok(())
    }

    #[test]
    fn folders_that_do_not_exist_are_made() -> Result<(), Box<dyn std::error::Error>> {
        let parent = tempfile::tempdir()?;
        let folder = |name: &str| parent.path().join("new").join(name);
        print(&Printed::KubectlCompletion { folder: folder("bin") })?;
        print(&Printed::Man { folder: folder("man") })?;
        assert!(folder("bin").join(COMPLETER).exists() && folder("man").join(format!("{PROGRAM}.1")).exists());
        Ok(())
    }

    #[test]
    fn there_is_a_manual_page_for_the_program_and_for_each_verb() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        print(&Printed::Man { folder: folder.path().to_owned() })?;
        for verb in Arguments::command().get_subcommands() {
            let page = folder.path().join(format!("{PROGRAM}-{}.1", verb.get_name()));
            assert!(page.exists(), "{} is missing", page.display());
        }
        let page = fs::read_to_string(folder.path().join(format!("{PROGRAM}.1")))?;
        assert!(page.contains("Exit codes"), "{page}");
        Ok(())
    }

    #[test]
    fn the_template_for_krew_names_this_program_and_becomes_a_manifest() -> Result<(), Box<dyn std::error::Error>> {
        let digest = "0".repeat(64);
        let mut text = include_str!("../krew.yaml").to_owned();
        for (placeholder, value) in [
            ("${VERSION}", env!("CARGO_PKG_VERSION")),
            ("${HOMEPAGE}", "https://example.com"),
            ("${DOWNLOADS}", "https://example.com/releases"),
            ("${SHA256_LINUX_AMD64}", &digest),
            ("${SHA256_LINUX_ARM64}", &digest),
        ] {
            assert!(text.contains(placeholder), "{placeholder}");
            text = text.replace(placeholder, value);
        }
        assert!(!text.contains("${"), "{text}");
        let manifest: serde_json::Value = serde_saphyr::from_str(&text)?;
        // kubectl finds a plugin by its name after `kubectl-`.
        assert_eq!(format!("kubectl-{}", manifest["metadata"]["name"].as_str().unwrap_or_default()), PROGRAM);
        let platforms = manifest["spec"]["platforms"].as_array().cloned().unwrap_or_default();
        assert_eq!(platforms.len(), 2);
        assert!(platforms.iter().all(|platform| platform["bin"] == PROGRAM && platform["sha256"] == digest.as_str()));
        // krew's limit.
        assert!(manifest["spec"]["shortDescription"].as_str().is_some_and(|text| text.len() <= 50));
        Ok(())
    }

    #[test]
    fn every_command_of_the_docs_is_one_that_the_program_knows_and_every_verb_is_there() -> Result<(), clap::Error> {
        use clap::Parser;
        let docs = include_str!("../../../docs/cli.md");
        let commands: Vec<&str> = docs.lines().filter(|line| line.starts_with("kubectl usercert ")).collect();
        assert!(commands.len() > 10);
        for command in &commands {
            Arguments::try_parse_from(command.replacen("kubectl usercert", PROGRAM, 1).split_whitespace())?;
        }
        for verb in Arguments::command().get_subcommands() {
            assert!(docs.contains(&format!("`{}", verb.get_name())), "{} is missing", verb.get_name());
        }
        Ok(())
    }
}
