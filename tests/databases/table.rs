//! What the run shows: a row for each client.

use std::fmt;

/// What became of one column of a client's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Yes,
    /// It was tried, and this came out.
    Measured(&'static str),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::Measured(words) => words,
        })
    }
}

/// One client. Each cell was asserted before the row was made.
pub struct Row {
    pub client: String,
    pub format: &'static str,
    pub login: Cell,
    pub renewed: Cell,
    pub refused: Cell,
    pub changed_file: Cell,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    others: Vec<(String, String)>,
}

impl Table {
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// A client that could not be tried, and what it needs.
    pub fn skip(&mut self, client: &str, needs: &str) {
        self.others.push((client.to_owned(), format!("skipped: needs {needs}")));
    }

    /// A client whose trial failed.
    pub fn fail(&mut self, client: &str) {
        self.others.push((client.to_owned(), "FAILED".to_owned()));
    }

    pub fn print(&self) {
        let line = |[client, format, login, renewed, refused, changed]: [&str; 6]| {
            println!("{client:<38}{format:<26}{login:<8}{renewed:<22}{refused:<21}{changed}");
        };
        println!();
        line(["client", "format", "login", "login after renewal", "refused when wrong", "a changed file"]);
        for row in &self.rows {
            let [login, renewed, refused, changed] =
                [&row.login, &row.renewed, &row.refused, &row.changed_file].map(ToString::to_string);
            line([&row.client, row.format, &login, &renewed, &refused, &changed]);
        }
        for (client, what) in &self.others {
            println!("{client:<38}{what}");
        }
        println!();
    }
}
