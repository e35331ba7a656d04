//! The queries of the dashboard.

use serde_json::Value;

use crate::chart::file;

/// A query of a panel.
pub struct Query {
    pub panel: String,
    pub expression: String,
}

/// All queries, with everything chosen in the variables, as Grafana would send them to a Prometheus that scrapes every second. Each side of an `or`
/// is a query of its own, for one side with data would hide that the other never has any. `vector(0)` always has.
pub fn queries() -> Vec<Query> {
    let of_sides = |Query { panel, expression }: Query| {
        let sides = sides(&expression).into_iter().filter(|side| side != "vector(0)");
        sides.map(move |side| Query { panel: panel.clone(), expression: filled_in(&side) })
    };
    unfilled().into_iter().flat_map(of_sides).collect()
}

/// The query with one side of each `or` alone.
fn sides(expression: &str) -> Vec<String> {
    let Some((before, after)) = expression.split_once(" or ") else { return vec![expression.to_owned()] };
    let (start, end) = (unclosed(before), unopened(after));
    let one = format!("{before}{}", &after[end..]);
    let other = format!("{}{after}", &before[..start]);
    [sides(&one), sides(&other)].concat()
}

/// Where what stands in the last open parenthesis begins.
fn unclosed(text: &str) -> usize {
    let mut closed = 0;
    for (at, character) in text.char_indices().rev() {
        match character {
            ')' => closed += 1,
            '(' if closed == 0 => return at + 1,
            '(' => closed -= 1,
            _ => {}
        }
    }
    0
}

/// Where what stands before the first closing parenthesis without an opening one ends.
fn unopened(text: &str) -> usize {
    let mut open = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => open += 1,
            ')' if open == 0 => return at,
            ')' => open -= 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn each_side_of_an_or_is_a_query_of_its_own() {
    assert_eq!(sides("min(a(x) or b(y)) - time()"), ["min(a(x)) - time()", "min(b(y)) - time()"]);
    assert_eq!(sides("a or b or c"), ["a", "b", "c"]);
    assert_eq!(sides("sum(a or b) or vector(0)"), ["sum(a)", "vector(0)", "sum(b)", "vector(0)"]);
}

/// Otherwise the clusters that give each certificate would hide those that give totals.
#[test]
fn a_number_is_made_of_all_clusters_whichever_form_their_metrics_have() {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let numbers = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "stat");
    for expression in numbers.map(|panel| panel["targets"][0]["expr"].as_str().unwrap()) {
        let number = expression.strip_suffix(" or vector(0)").unwrap_or(expression);
        let is_of_several = number.match_indices(" or ").any(|(at, _)| unclosed(&number[..at]) == 0);
        assert!(!is_of_several, "{expression}");
    }
}

/// The queries as they stand in the panels, with variables.
fn unfilled() -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let of_panel = |panel: &Value| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        let query = |target: &Value| Query {
            panel: panel["title"].as_str().unwrap().to_owned(),
            expression: target["expr"].as_str().unwrap().to_owned(),
        };
        targets.map(query).collect::<Vec<_>>()
    };
    dashboard["panels"].as_array().unwrap().iter().flat_map(of_panel).collect()
}

fn filled_in(expression: &str) -> String {
    expression.replace("$cluster", ".*").replace("$namespace", ".*").replace("$issuer", ".*").replace("$__rate_interval", "20s")
}

#[test]
fn panels_have_numbers_of_their_own_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let place = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    for (index, one) in panels.iter().enumerate() {
        assert!(place(one, "x") + place(one, "w") <= 24, "{}", one["title"]);
        for other in &panels[index + 1..] {
            assert_ne!(one["id"], other["id"]);
            let apart = |start: &str, length: &str| {
                place(one, start) + place(one, length) <= place(other, start)
                    || place(other, start) + place(other, length) <= place(one, start)
            };
            assert!(apart("x", "w") || apart("y", "h"), "{} and {}", one["title"], other["title"]);
        }
    }
}

#[test]
fn no_variable_is_left_in_a_query_and_each_panel_says_what_it_shows() {
    assert!(queries().len() > 30 && queries().iter().all(|query| !query.expression.contains('$')));
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    for panel in panels {
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
    }
}

/// Certificates of one name in two clusters are two certificates, and a leader of each cluster is no second one.
#[test]
fn clusters_are_told_apart() {
    for Query { expression: query, .. } in unfilled() {
        let selectors =
            query.matches("usercert_").count() + query.matches("process_").count() + query.matches("ALERTS").count();
        assert_eq!(query.matches("{cluster=~\"$cluster\"").count(), selectors, "{query}");
        let lists = query.match_indices(" by (").map(|(at, _)| query[at..].split_once(')').unwrap().0);
        for list in lists.filter(|list| list.contains("name") || list.contains("namespace")) {
            assert!(list.starts_with(" by (cluster, "), "{query}");
        }
    }
}
