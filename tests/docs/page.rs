//! What is in a page: its blocks of code, the commands in them, and those in the text.

use std::{fs, path::Path};

use usercert_test_support::control_plane::repository;

use crate::unrun;

/// A page of the docs, by its path in the repository.
#[derive(Clone, Debug)]
pub struct Page {
    name: String,
    pub text: String,
    pub blocks: Vec<Block>,
}

/// A block of code.
#[derive(Clone, Debug)]
pub struct Block {
    /// What stands after the fence, such as `sh` or `yaml tested`.
    pub info: String,
    pub code: String,
    /// The line of the page on which it begins.
    pub line: usize,
    /// The file that the text before it says to save it as.
    pub save_as: Option<String>,
}

/// A command of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub text: String,
    pub line: usize,
}

impl Page {
    /// What stands beside the sources, the chart's README, and all pages of the docs but those that are written from others.
    pub fn all() -> Vec<Self> {
        let beside = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "charts/usercert-operator/README.md"];
        let mut files = beside.map(str::to_owned).to_vec();
        for folder in ["docs", "docs/clients"] {
            let entries = fs::read_dir(repository().join(folder)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            files.extend(names.filter(|name| has_extension(name, "md")).map(|name| format!("{folder}/{name}")));
        }
        // The first is the chart's README with other links, the second lists the pages.
        files.retain(|file| !["docs/helm-values.md", "docs/SUMMARY.md"].contains(&file.as_str()));
        files.sort();
        files.into_iter().map(|name| Self::read(&name)).collect()
    }

    pub fn read(name: &str) -> Self {
        let text = fs::read_to_string(repository().join(name)).unwrap();
        Self::parse(name, text)
    }

    fn parse(name: &str, text: String) -> Self {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut before = "";
        for (index, line) in text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(info)) => {
                    let save_as = before.split_once("Save this as `").and_then(|(_, rest)| rest.split_once('`'));
                    let save_as = save_as.map(|(file, _)| file.to_owned());
                    open = Some(Block { info: info.to_owned(), code: String::new(), line: index + 1, save_as });
                }
                (Some(block), None) => block.code.extend([line, "\n"]),
                (Some(_), Some(_)) => {
                    blocks.extend(open.take());
                    before = "";
                }
                (None, None) if !line.trim().is_empty() => before = line,
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{name}: a block of code does not end");
        Self { name: name.to_owned(), text, blocks }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text without its blocks of code.
    pub fn prose(&self) -> String {
        let mut is_code = false;
        let lines = self.text.lines().filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Each command of a block of the shell, and each whole one in the text.
    pub fn commands(&self) -> Vec<Command> {
        let blocks = self.blocks.iter().filter(|block| block.info == "sh" || block.info == "sh tested");
        let mut commands: Vec<Command> = blocks.flat_map(Block::commands).collect();
        commands.extend(self.inline_commands());
        commands.sort_by_key(|command| command.line);
        commands
    }

    /// Those that are run here.
    pub fn commands_to_run(&self) -> Vec<Command> {
        self.commands().into_iter().filter(|command| unrun::reason(&self.name, &command.text).is_none()).collect()
    }

    /// `kubectl` and `helm` with all that they need. The name of a verb alone is a mention.
    fn inline_commands(&self) -> Vec<Command> {
        let prose = self.prose();
        let spans = prose.split('`').skip(1).step_by(2);
        let is_command = |text: &&str| {
            let words = text.split_whitespace().count();
            let is_verb_alone = text.starts_with("kubectl usercert ") && words == 3;
            (text.starts_with("kubectl ") || text.starts_with("helm ")) && words >= 3 && !is_verb_alone
        };
        let line_of = |text: &str| self.text.lines().position(|line| line.contains(text)).map_or(0, |index| index + 1);
        let mut found: Vec<Command> =
            spans.filter(is_command).map(|text| Command { text: text.replace("\\|", "|"), line: line_of(text) }).collect();
        found.dedup();
        found
    }
}

pub fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

impl Block {
    /// A command may go over several lines: by a backslash, or by a quoted text.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut open: Option<Command> = None;
        for (index, line) in self.code.lines().enumerate() {
            let line = line.split("   # ").next().unwrap_or_default().trim_end();
            match &mut open {
                Some(command) => command.text.extend(["\n", line]),
                None if line.is_empty() || line.starts_with('#') => continue,
                None => open = Some(Command { text: line.trim_start().to_owned(), line: self.line + 1 + index }),
            }
            let is_whole = open
                .as_ref()
                .is_some_and(|command| !command.text.ends_with('\\') && command.text.matches('\'').count() % 2 == 0);
            if is_whole {
                commands.extend(open.take());
            }
        }
        assert!(open.is_none(), "a command of the block at line {} does not end", self.line);
        commands
    }
}
