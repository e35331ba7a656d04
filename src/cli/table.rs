//! Tables as kubectl prints them; on a terminal that is too narrow for the table, one record for each row.

use unicode_width::UnicodeWidthStr;
use usercert_operator_core::api::printable;

use crate::{
    terminal::{Mood, Terminal},
    text::append,
};

/// Between two columns.
const GAP: usize = 3;

/// The most characters of one cell. What objects hold may be of any length.
const CELL_CHARACTERS: usize = 512;

/// One value, and what its colour says.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    mood: Mood,
}

impl Cell {
    /// A value. What a terminal would act on is left out of it, because anybody may have written the value.
    pub fn new(text: impl AsRef<str>, mood: Mood) -> Self {
        Self { text: printable(text.as_ref(), CELL_CHARACTERS), mood }
    }

    /// A value without a colour.
    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Mood::Plain)
    }

    /// A text of any length, such as a message below a table.
    pub fn whole(text: &str) -> Self {
        Self { text: printable(text, usize::MAX), mood: Mood::Plain }
    }

    /// The value as it may be shown.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::plain(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::plain(text)
    }
}

/// A heading for each column, and the rows below them.
#[derive(Clone, Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(heading: impl IntoIterator<Item = &'static str>) -> Self {
        Self { heading: heading.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row. A missing value is an empty one.
    pub fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The table as text. A column without any value is left out.
    pub fn render(&self, terminal: &Terminal) -> String {
        let empty = Cell::plain("");
        let is_used = |column: &usize| self.rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.text.is_empty()));
        let columns: Vec<usize> = (0..self.heading.len()).filter(is_used).collect();
        let cell = |row: &'_ [Cell], column: usize| row.get(column).unwrap_or(&empty).clone();
        let width_of = |column: usize| {
            let cells = self.rows.iter().map(|row| cell(row, column).width());
            cells.chain([self.heading[column].width()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = columns.iter().map(|column| width_of(*column)).collect();
        let whole = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if terminal.width.is_some_and(|width| whole > width) {
            return self.records(&columns, cell, terminal);
        }
        let mut text = String::new();
        let headings: Vec<Cell> = self.heading.iter().map(|heading| Cell::new(heading, Mood::Title)).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            for (index, (column, width)) in columns.iter().zip(&widths).enumerate() {
                let value = cell(row, *column);
                text.push_str(&terminal.paint(value.mood, &value.text));
                if index + 1 < columns.len() {
                    text.push_str(&" ".repeat(width + GAP - value.width()));
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// Each row as lines `heading: value`, with an empty line between rows.
    fn records(&self, columns: &[usize], cell: impl Fn(&[Cell], usize) -> Cell, terminal: &Terminal) -> String {
        let longest = columns.iter().map(|column| self.heading[*column].width()).max().unwrap_or_default();
        let mut records = Vec::new();
        for row in &self.rows {
            let mut record = String::new();
            for column in columns {
                let (heading, value) = (self.heading[*column], cell(row, *column));
                if !value.text.is_empty() {
                    let space = " ".repeat(longest - heading.width() + 1);
                    append(&mut record, format_args!("{heading}:{space}{}\n", terminal.paint(value.mood, &value.text)));
                }
            }
            records.push(record);
        }
        records.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "EMPTY", "READY", "EXPIRES"]);
        table.push(["orders".into(), "".into(), Cell::new("True", Mood::Good), "34d".into()]);
        table.push(["a-longer-name".into(), "".into(), Cell::new("False", Mood::Bad)]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_value_and_empty_ones_are_left_out() {
        let expected = "NAME            READY   EXPIRES\norders          True    34d\na-longer-name   False\n";
        assert_eq!(table().render(&Terminal::none()), expected);
        assert_eq!(table().render(&Terminal { width: Some(31), ..Terminal::none() }), expected);
    }

    #[test]
    fn a_table_that_is_too_wide_becomes_records() {
        let narrow = Terminal { width: Some(30), ..Terminal::none() };
        let expected = "NAME:    orders\nREADY:   True\nEXPIRES: 34d\n\nNAME:    a-longer-name\nREADY:   False\n".to_owned();
        assert_eq!(table().render(&narrow), expected);
    }

    #[test]
    fn colours_change_no_width_and_values_cannot_act_on_the_terminal() {
        let mut table = Table::new(["A", "B"]);
        table.push([Cell::new("x\u{1b}[2J", Mood::Bad), "y".into()]);
        let text = table.render(&Terminal { has_colour: true, ..Terminal::none() });
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with("   y") && !line.contains("\u{1b}[2J")), "{text:?}");
    }
}
