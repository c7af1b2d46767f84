//! `[[peer]]` and `[[forward.rule]]` in the text of `kura.toml`: everything else stays as it is.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::{Coerce, FORWARD_QUIET_SECONDS, ForwardPriority, ForwardRule, ForwardWhen, PeerEntry};
use crate::job::Window;

/// What of a peer is written down; what is not said stays as it is.
#[derive(Debug, Clone)]
pub struct PeerChange {
    pub peer: PeerEntry,
    pub associations: Option<usize>,
    pub fuzzy_names: Option<bool>,
    pub commitment: Option<bool>,
    pub uncompressed: Option<bool>,
    pub tls: Option<bool>,
    /// Empty: taken out, as the next.
    pub tls_name: Option<String>,
    pub tls_fingerprint: Option<String>,
}

/// With this peer, or with the peer of that AE title as this says. The error is a sentence.
pub fn with_peer(text: &str, change: &PeerChange) -> Result<String, String> {
    let mut document = parse(text)?;
    let peers = tables(document.as_table_mut(), "peer")?;
    let peer = &change.peer;
    let mut entries: Vec<(&str, Value)> = vec![
        ("ae_title", peer.ae_title.as_str().into()),
        ("host", peer.host.as_str().into()),
        ("port", i64::from(peer.port).into()),
    ];
    if let Some(count) = change.associations {
        // Checked with the rest of the configuration; what does not fit is too many anyway.
        entries.push((
            "associations",
            i64::try_from(count).unwrap_or(i64::MAX).into(),
        ));
    }
    if let Some(fuzzy_names) = change.fuzzy_names {
        entries.push(("fuzzy_names", fuzzy_names.into()));
    }
    if let Some(commitment) = change.commitment {
        entries.push(("commitment", commitment.into()));
    }
    if let Some(uncompressed) = change.uncompressed {
        entries.push(("uncompressed", uncompressed.into()));
    }
    let texts = [
        ("tls_name", &change.tls_name),
        ("tls_fingerprint", &change.tls_fingerprint),
    ];
    let (mut goes, mut says_how) = (Vec::new(), false);
    for (key, text) in texts {
        match text.as_deref() {
            None => {}
            Some("") => goes.push(key),
            Some(text) => {
                entries.push((key, text.into()));
                says_how = true;
            }
        }
    }
    // Who says how it is called over TLS wants that.
    if let Some(tls) = change.tls.or(says_how.then_some(true)) {
        entries.push(("tls", tls.into()));
    }
    let place = peers
        .iter()
        .position(|table| is_peer(table, peer.ae_title.as_str()));
    match place.and_then(|place| peers.get_mut(place)) {
        Some(old) => {
            for (key, new) in entries.into_iter().skip(1) {
                put(old, key, new);
            }
            for key in goes {
                old.remove(key);
            }
        }
        None => peers.push(table(entries)),
    }
    Ok(document.to_string())
}

/// `None`: there is no such peer. The error is a sentence.
pub fn without_peer(text: &str, ae_title: &str) -> Result<Option<String>, String> {
    let mut document = parse(text)?;
    let taken = take(document.as_table_mut(), "peer", |table| {
        is_peer(table, ae_title)
    })?;
    Ok(taken.then(|| document.to_string()))
}

/// With this rule behind the others. The error is a sentence.
pub fn with_rule(text: &str, rule: &ForwardRule) -> Result<String, String> {
    let mut document = parse(text)?;
    let forward = document.entry("forward").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let forward = forward
        .as_table_mut()
        .ok_or("\"forward\" is not written as [forward]")?;
    tables(forward, "rule")?.push(rule_table(rule)?);
    Ok(document.to_string())
}

/// `None`: there is no such rule. The error is a sentence.
pub fn without_rule(text: &str, name: &str) -> Result<Option<String>, String> {
    let mut document = parse(text)?;
    let Some(forward) = document.get_mut("forward").and_then(Item::as_table_mut) else {
        return Ok(None);
    };
    let named = |table: &Table| {
        let own = table.get("name").and_then(Item::as_str);
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    };
    Ok(take(forward, "rule", named)?.then(|| document.to_string()))
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn tables<'t>(within: &'t mut Table, key: &str) -> Result<&'t mut ArrayOfTables, String> {
    let item = within
        .entry(key)
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut()
        .ok_or_else(|| format!("\"{key}\" is not written as [[{key}]]"))
}

fn take(within: &mut Table, key: &str, is_it: impl Fn(&Table) -> bool) -> Result<bool, String> {
    if !within.contains_key(key) {
        return Ok(false);
    }
    let tables = tables(within, key)?;
    let before = tables.len();
    tables.retain(|table| !is_it(table));
    let taken = tables.len() < before;
    if tables.is_empty() {
        within.remove(key);
    }
    Ok(taken)
}

fn is_peer(table: &Table, ae_title: &str) -> bool {
    let own = table.get("ae_title").and_then(Item::as_str);
    own.is_some_and(|own| own.trim().eq_ignore_ascii_case(ae_title.trim()))
}

/// The value alone, so that what stands beside it stays.
fn put(table: &mut Table, key: &str, new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, Item::Value(new))),
    }
}

fn table(entries: Vec<(&str, Value)>) -> Table {
    let mut table = Table::new();
    for (key, new) in entries {
        table.insert(key, value(new));
    }
    table
}

/// Only what is not as it is by default.
fn rule_table(rule: &ForwardRule) -> Result<Table, String> {
    let to: Array = rule.to.iter().map(String::as_str).collect();
    let mut entries: Vec<(&str, Value)> =
        vec![("name", rule.name.as_str().into()), ("to", to.into())];
    for (key, pattern) in rule.patterns() {
        entries.extend(pattern.map(|pattern| (key, pattern.into())));
    }
    let dates = rule.study_date.as_deref();
    entries.extend(dates.map(|dates| ("study_date", dates.into())));
    if rule.when == ForwardWhen::Instance {
        entries.push(("when", "instance".into()));
    }
    if rule.quiet_seconds != FORWARD_QUIET_SECONDS {
        let seconds = i64::try_from(rule.quiet_seconds).unwrap_or(i64::MAX);
        entries.push(("quiet_seconds", seconds.into()));
    }
    if rule.window != Window::ALWAYS {
        entries.push(("window", rule.window.to_string().into()));
    }
    match rule.priority {
        ForwardPriority::High => entries.push(("priority", "high".into())),
        ForwardPriority::Medium => {}
        ForwardPriority::Low => entries.push(("priority", "low".into())),
    }
    if let Some(rewrite) = &rule.rewrite {
        entries.push(("rewrite", Value::InlineTable(steps(rewrite)?)));
    }
    Ok(table(entries))
}

fn steps(rewrite: &Coerce) -> Result<InlineTable, String> {
    let mut table = InlineTable::new();
    if rewrite.strip_zeros {
        table.insert("strip_zeros", true.into());
    }
    if let Some(map) = &rewrite.map {
        let map = map.to_str().ok_or("the path of the map is not Unicode")?;
        table.insert("map", map.into());
    }
    if rewrite.pad > 0 {
        let pad = i64::try_from(rewrite.pad).unwrap_or(i64::MAX);
        table.insert("pad", pad.into());
    }
    for (key, text) in [
        (
            "prefix",
            Some(&rewrite.prefix).filter(|text| !text.is_empty()),
        ),
        (
            "suffix",
            Some(&rewrite.suffix).filter(|text| !text.is_empty()),
        ),
        ("issuer", rewrite.issuer.as_ref()),
    ] {
        if let Some(text) = text {
            table.insert(key, text.as_str().into());
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TEXT: &str = "# ours\nport = 104 # as the CT wants it\n\n[[peer]] # reading room\nae_title = \"HOROS\"\nhost = \"10.0.0.1\" # by cable\nport = 11112\n\n[forward]\nkeep_days = 30 # enough\n\n# the first\n[[forward.rule]]\nname = \"ct\"\nto = [\"HOROS\"]\n";

    fn change(text: &str) -> PeerChange {
        PeerChange {
            peer: text.parse().unwrap(),
            associations: None,
            fuzzy_names: None,
            commitment: None,
            uncompressed: None,
            tls: None,
            tls_name: None,
            tls_fingerprint: None,
        }
    }

    #[test]
    fn comments_and_order_stay() {
        let text = with_peer(TEXT, &change("MAC2@mac2.local:4242")).unwrap();
        let mut moved = change("HOROS@10.0.0.9:104");
        moved.associations = Some(4);
        moved.uncompressed = Some(true);
        let text = with_peer(&text, &moved).unwrap();
        let mut rule = ForwardRule::new("mr".to_owned(), vec!["MAC2".to_owned()]);
        rule.modality = Some("MR".to_owned());
        rule.description = Some("\"quoted\" \\*".to_owned());
        rule.quiet_seconds = 5;
        rule.window = "21:00-06:00".parse().unwrap();
        rule.priority = ForwardPriority::Low;
        rule.rewrite = Some(Coerce {
            strip_zeros: true,
            pad: 8,
            prefix: "H".to_owned(),
            issuer: Some("X".to_owned()),
            ..Coerce::default()
        });
        let text = with_rule(&text, &rule).unwrap();
        for kept in [
            "# ours",
            "# as the CT wants it",
            "[[peer]] # reading room",
            "host = \"10.0.0.9\" # by cable",
            "keep_days = 30 # enough",
            "# the first\n[[forward.rule]]",
        ] {
            assert!(text.contains(kept), "{kept} in:\n{text}");
        }
        let config = Config::of_text(&text).unwrap();
        assert_eq!(config.forward.rules[1], rule, "{text}");
        let horos = config.peer("HOROS").unwrap();
        assert_eq!((horos.associations, horos.uncompressed), (4, true));
        assert_eq!(config.peer("mac2").unwrap().port, 4242);
        let text = without_rule(&text, "CT").unwrap().unwrap();
        let text = without_peer(&text, " horos").unwrap().unwrap();
        let config = Config::of_text(&text).unwrap();
        assert_eq!(config.forward.rules.len(), 1);
        assert!(config.peer("HOROS").is_none() && text.contains("keep_days = 30 # enough"));
        assert_eq!(without_rule(&text, "ct").unwrap(), None);
        assert_eq!(without_peer(&text, "HOROS").unwrap(), None);
    }

    /// Method: into an empty file and into what `kura init` writes.
    #[test]
    fn the_first_peer_and_the_first_rule_need_nothing_around_them() {
        for text in ["", &super::super::template()] {
            let rule = ForwardRule::new("all".to_owned(), vec!["MAC".to_owned()]);
            let with = with_peer(text, &change("MAC@[::1]:104")).unwrap();
            let with = with_rule(&with, &rule).unwrap();
            let config = Config::of_text(&with).unwrap_or_else(|error| panic!("{error}\n{with}"));
            assert_eq!(config.forward.rules, [rule], "{with}");
            assert_eq!(config.peer("MAC").unwrap().host, "::1");
        }
    }

    #[test]
    fn a_file_written_otherwise_is_left_alone() {
        let rule = ForwardRule::new("all".to_owned(), vec!["MAC".to_owned()]);
        assert!(with_rule("forward = 3\n", &rule).is_err());
        assert!(with_rule("forward = { rule = [] }\n", &rule).is_err());
        assert!(with_peer("peer = []\n", &change("MAC@h:1")).is_err());
        assert!(without_peer("peer = 1\n", "MAC").is_err());
    }
}
