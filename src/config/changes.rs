//! What another reading of `kura.toml` changes, in words.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

/// What a configuration file says, without the defaults.
#[derive(Clone, Default)]
pub struct Written(Table);

/// Two configurations are the same when their values are, whether or not these are written down.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Written")
    }
}

/// Keys and tables of the file that are looked at by a start only.
const AT_A_START: &[&str] = &[
    "ae_title",
    "bind",
    "port",
    "state",
    "engine",
    "volume",
    "placement",
    "intake",
    "index",
    "admin",
    "tls.port",
    "tls.bind",
];
/// What commands write while the server runs: held against what is in effect, not against what was read.
const BY_COMMAND: &[&str] = &["peer", "forward.rule", "volume"];
/// Whose values are nobody's business, as they may let in who knows them.
const SECRET: &[&str] = &["notices.webhook"];
/// Longer values are not repeated.
const VALUE_LENGTH_MAX: usize = 80;

/// Each a line: the key, what it is now, and what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub in_effect: Vec<String>,
    pub at_a_start: Vec<String>,
}

impl Written {
    /// `text` is a configuration that was read without an error.
    pub(super) fn of(text: &str) -> Written {
        Written(text.parse().unwrap_or_default())
    }

    /// As it is when of `read` everything is in effect but what wants a start.
    pub(super) fn with_changes(&self, read: &Written) -> Written {
        let mut table = read.0.clone();
        for key in AT_A_START {
            match key.split_once('.') {
                None => keep(&self.0, &mut table, key),
                Some((name, key)) => {
                    let (none, empty) = (Table::new(), || Value::Table(Table::new()));
                    let was = self.0.get(name).and_then(Value::as_table).unwrap_or(&none);
                    let is = table.entry(name).or_insert_with(empty);
                    if let Value::Table(is) = is {
                        keep(was, is, key);
                    }
                }
            }
        }
        Written(table)
    }

    /// Without peers, rules of forwarding and volumes, which commands change too.
    pub fn changes(&self, read: &Written) -> Changes {
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        flatten("", &self.0, &mut old);
        flatten("", &read.0, &mut new);
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut changes = Changes::default();
        for key in keys {
            let (was, is) = (old.get(key).copied(), new.get(key).copied());
            if was == is || BY_COMMAND.contains(&key.as_str()) {
                continue;
            }
            let line = match other_tables(was, is) {
                _ if SECRET.contains(&key.as_str()) => format!("{key}: another value"),
                Some(numbers) => format!("{key}: number {numbers} is another"),
                None => format!("{key}: {} (was {})", shown(is), shown(was)),
            };
            let table = key.split('.').next().unwrap_or_default();
            match AT_A_START.contains(&table) || AT_A_START.contains(&key.as_str()) {
                true => changes.at_a_start.push(line),
                false => changes.in_effect.push(line),
            }
        }
        changes
    }
}

/// In `table` the key is as it is in `was`.
fn keep(was: &Table, table: &mut Table, key: &str) {
    match was.get(key) {
        Some(value) => drop(table.insert(key.to_owned(), value.clone())),
        None => drop(table.remove(key)),
    }
}

fn flatten<'a>(prefix: &str, table: &'a Table, into: &mut BTreeMap<String, &'a Value>) {
    for (key, value) in table {
        let key = match prefix {
            "" => key.clone(),
            _ => format!("{prefix}.{key}"),
        };
        match value {
            Value::Table(table) => flatten(&key, table, into),
            value => drop(into.insert(key, value)),
        }
    }
}

/// Which of a list of tables are others, counted from 1, where there are as many as before.
fn other_tables(was: Option<&Value>, is: Option<&Value>) -> Option<String> {
    let (was, is) = (was?.as_array()?, is?.as_array()?);
    if was.len() != is.len() || !is.iter().all(Value::is_table) {
        return None;
    }
    let pairs = was.iter().zip(is).enumerate();
    let numbers = pairs.filter(|(_, (was, is))| was != is);
    let numbers: Vec<String> = numbers.map(|(at, _)| (at + 1).to_string()).collect();
    Some(numbers.join(", "))
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "the default".to_owned();
    };
    let text = match value {
        Value::Array(tables) if tables.iter().any(Value::is_table) => {
            return match tables.len() {
                1 => "1 table".to_owned(),
                count => format!("{count} tables"),
            };
        }
        value => value.to_string(),
    };
    match text.chars().count() > VALUE_LENGTH_MAX {
        true => text.chars().take(VALUE_LENGTH_MAX).chain(['…']).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_named_with_what_it_is_and_was_and_when_it_counts() {
        let old = Written::of(
            "port = 104\n[limits]\nidle_seconds = 60\n[[peer]]\nae_title = \"A\"\n[notices]\nwebhook = \"https://a/secret\"\n",
        );
        let new = Written::of(
            "port = 105\n[limits]\nstall_seconds = 5\n[[coerce]]\npad = 1\n[notices]\nwebhook = \"https://b/secret\"\n",
        );
        let changes = old.changes(&new);
        assert_eq!(changes.at_a_start, ["port: 105 (was 104)"]);
        assert_eq!(
            changes.in_effect,
            [
                "coerce: 1 table (was the default)",
                "limits.idle_seconds: the default (was 60)",
                "limits.stall_seconds: 5 (was the default)",
                "notices.webhook: another value",
            ]
        );
        let rules = |second: &str| {
            Written::of(&format!(
                "[[access.rule]]\nrefuse = true\n[[access.rule]]\ncalling = \"{second}\"\n"
            ))
        };
        assert_eq!(
            rules("CT").changes(&rules("MR")).in_effect,
            ["access.rule: number 2 is another"]
        );
        let secure = Written::of("[tls]\nport = 2762\nkey = \"b\"\n");
        let changes = Written::of("[tls]\nkey = \"a\"\n").changes(&secure);
        assert_eq!(changes.at_a_start, ["tls.port: 2762 (was the default)"]);
        assert_eq!(changes.in_effect, ["tls.key: \"b\" (was \"a\")"]);
        let now = Written::of("[tls]\nkey = \"a\"\n").with_changes(&secure);
        assert_eq!(now.changes(&secure).at_a_start, changes.at_a_start);
        assert_eq!(now.changes(&secure).in_effect, [""; 0]);
        // What waits for a start is told again by the next reading.
        let now = old.with_changes(&new);
        assert_eq!(now.changes(&new).at_a_start, ["port: 105 (was 104)"]);
        assert_eq!(now.changes(&new).in_effect, [""; 0]);
    }
}
