//! Writes the pages of the docs that follow from the code: every field of the custom resources, and every reason.
//!
//! `make generate` runs it with the folder `docs`; `make check-generated` with another folder, and compares.

use std::{
    env,
    fmt::{self, Write as _},
    fs, io,
    path::PathBuf,
    process::ExitCode,
};

use serde_json::Value;
use usercert_operator_core::api::{Reason, Remedy, Severity, custom_resource_definitions};

const WRITTEN_BY: &str = "<!-- Written by `make generate`. -->\n";

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: reference FOLDER");
        return ExitCode::FAILURE;
    };
    match write_pages(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reference: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write_pages(folder: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let reasons = reasons().map_err(io::Error::other)?;
    let fields = fields().map_err(io::Error::other)?;
    fs::write(folder.join("reasons.md"), reasons)?;
    fs::write(folder.join("fields.md"), fields)
}

/// The page of reasons: a table that leads to each, and a section for each.
fn reasons() -> Result<String, fmt::Error> {
    let mut page = format!("{WRITTEN_BY}# Every reason\n\n");
    page.push_str(
        "Every condition, Event and metric with the label `reason` has one of these reasons. The message beside it names the\n\
         object, and what to change there. [Why a Secret is not written](architecture.md#why-a-secret-is-not-written) has the order in which they are checked.\n\n\
         `kubectl usercert why NAME` shows the checks of one object in that order.\n\n\
         | Reason | Meaning |\n| --- | --- |\n",
    );
    for reason in Reason::ALL {
        let anchor = reason.as_str().to_lowercase();
        writeln!(page, "| [`{reason}`](#{anchor}) | {} |", reason.explanation())?;
    }
    for reason in Reason::ALL {
        let event = match reason.severity() {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        let remedy = match (reason.severity(), reason.remedy()) {
            (Severity::Normal, Remedy::Time) => "It is no fault.",
            (Severity::Warning, Remedy::Time) => "It may pass by itself.",
            (_, Remedy::Person) => "Only a change by a person ends it.",
        };
        let (meaning, advice) = (reason.explanation(), with_links(reason.advice()));
        writeln!(page, "\n## {reason}\n\n{meaning}\n\n**What to do:** {advice}\n\nEvent type `{event}`. {remedy}")?;
    }
    Ok(page)
}

/// Makes a link of each mention of a section, as in `docs/alerts.md, "UsercertCaExpiresSoon"`.
fn with_links(text: &str) -> String {
    let Some((before, rest)) = text.split_once("docs/") else { return text.to_owned() };
    let Some((page, rest)) = rest.split_once(", \"") else { return text.to_owned() };
    let Some((section, after)) = rest.split_once('"') else { return text.to_owned() };
    let anchor = section.to_lowercase().replace(' ', "-");
    format!("{before}[{section}]({page}#{anchor}){after}")
}

/// The page of fields: for each kind a table of its spec and one of its status, and the rules that bind several fields.
fn fields() -> Result<String, fmt::Error> {
    let mut page = format!("{WRITTEN_BY}# Every field\n\n");
    page.push_str(
        "The API server refuses an object that breaks a limit or a rule of this page, when it is applied. `kubectl explain databaseusercertificate.spec` shows the same on your cluster.\n",
    );
    for definition in custom_resource_definitions() {
        let names = &definition.spec.names;
        let short = names.short_names.as_deref().unwrap_or_default().join("`, `");
        let schema = definition.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        let schema = serde_json::to_value(schema).map_err(|_| fmt::Error)?;
        write!(page, "\n## {}\n\n", names.kind)?;
        if let Some(description) = schema["description"].as_str() {
            write!(page, "{}\n\n", one_line(description))?;
        }
        writeln!(
            page,
            "{}, in `{}/v1alpha1`. Short name for kubectl: `{short}`.",
            definition.spec.scope, definition.spec.group
        )?;
        for part in ["spec", "status"] {
            let mut table = Table::default();
            table.add(part, &schema["properties"][part], true)?;
            write!(page, "\n### {part} of a {}\n\n", names.kind)?;
            write!(page, "| Field | Type | What it is |\n| --- | --- | --- |\n{}", table.rows)?;
            if !table.rules.is_empty() {
                write!(page, "\nRules:\n\n{}", table.rules)?;
            }
        }
    }
    Ok(page)
}

#[derive(Default)]
struct Table {
    rows: String,
    rules: String,
}

impl Table {
    /// Adds a field and all below it.
    fn add(&mut self, path: &str, schema: &Value, required: bool) -> fmt::Result {
        let of_items = &schema["items"];
        if path.contains('.') {
            let kind = type_of(schema);
            let mut told: Vec<String> = schema["description"].as_str().map(one_line).into_iter().collect();
            told.extend(limits(schema));
            if required {
                told.insert(0, "**Required.**".to_owned());
            }
            writeln!(self.rows, "| `{path}` | {kind} | {} |", told.join(" ").replace('|', "\\|"))?;
        }
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            if let Some(message) = rule["message"].as_str() {
                writeln!(self.rules, "- `{path}`: {}", one_line(message))?;
            }
        }
        for (within, suffix) in [(schema, ""), (of_items, "[]")] {
            let required: Vec<&str> = within["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (name, property) in within["properties"].as_object().into_iter().flatten() {
                self.add(&format!("{path}{suffix}.{name}"), property, required.contains(&name.as_str()))?;
            }
        }
        for rule in of_items["x-kubernetes-validations"].as_array().into_iter().flatten() {
            if let Some(message) = rule["message"].as_str() {
                writeln!(self.rules, "- `{path}[]`: {}", one_line(message))?;
            }
        }
        Ok(())
    }
}

fn type_of(schema: &Value) -> String {
    let of = |schema: &Value| schema["type"].as_str().unwrap_or("any").to_owned();
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", of(&schema["items"])),
        (Some("object"), _) if schema.get("additionalProperties").is_some() => "map".to_owned(),
        (Some("string"), Some("date-time")) => "time".to_owned(),
        _ => of(schema),
    }
}

/// What the schema permits, in words.
fn limits(schema: &Value) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().filter(|value| !value.is_null()).map(|value| format!("`{}`", plain(value))).collect();
        told.push(format!("One of {}.", values.join(", ")));
    }
    let bounds = |least: &str, most: &str| match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) if least == most => Some(plain(least)),
        (Some(least), Some(most)) => Some(format!("{} to {}", plain(least), plain(most))),
        (Some(least), None) => Some(format!("at least {}", plain(least))),
        (None, Some(most)) => Some(format!("at most {}", plain(most))),
        (None, None) => None,
    };
    told.extend(bounds("minimum", "maximum").map(|bounds| format!("{}.", capital(&bounds))));
    told.extend(bounds("minLength", "maxLength").map(|bounds| format!("{} characters.", capital(&bounds))));
    told.extend(bounds("minItems", "maxItems").map(|bounds| format!("{} entries.", capital(&bounds))));
    if let Some(default) = schema.get("default") {
        told.push(format!("Default: `{}`.", plain(default)));
    }
    told
}

fn plain(value: &Value) -> String {
    let Some(number) = value.as_f64() else { return value.as_str().map_or_else(|| value.to_string(), str::to_owned) };
    number.to_string()
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

/// Descriptions wrap their lines, and end sentences with a full stop or not.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "&lt;");
    if line.ends_with(['.', ':', ')']) { line } else { line + "." }
}
