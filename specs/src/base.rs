//! A target that says only what it does otherwise than another one.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::registry::embedded_toml;
use crate::text::one_line;

/// Fields that name a target; each has its own.
const OWN: [&str; 2] = ["name", "aliases"];

/// Completes a document that names a base by what it does not say itself: tables field by field, everything else as a
/// whole. Evidence comes after the document's own, without the rules that this names.
///
/// # Errors
/// The reason, where the base is no embedded target, or one that has a base itself.
pub(crate) fn merge(document: &mut DeTable<'_>) -> Result<(), String> {
    let Some(base) = document.remove("base") else {
        return Ok(());
    };
    let DeValue::String(name) = base.get_ref() else {
        return Err("expected the name of an embedded target".to_owned());
    };
    let Some(text) = embedded_toml(name) else {
        return Err(format!("'{}' is no embedded target", one_line(name)));
    };
    // An embedded text is well formed: tests read them all.
    let mut base = DeTable::parse(text).map_err(|error| error.message().to_owned())?;
    let base = base.get_mut();
    if base.contains_key("base") {
        return Err(format!("'{name}' has a base itself"));
    }
    for field in OWN {
        base.remove(field);
    }
    let spoken: BTreeSet<String> = match document.get("evidence").map(Spanned::get_ref) {
        Some(DeValue::Array(entries)) => entries.iter().flat_map(rules).collect(),
        _ => BTreeSet::new(),
    };
    let inherited = base.remove("evidence");
    for (section, value) in std::mem::take(base) {
        match (document.get_mut(&section), value.into_inner()) {
            (Some(own), DeValue::Table(base)) => {
                if let DeValue::Table(own) = own.get_mut() {
                    for (field, value) in base {
                        own.entry(field).or_insert(value);
                    }
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                document.insert(section, Spanned::new(0..0, value));
            }
        }
    }
    let Some(inherited) = inherited else {
        return Ok(());
    };
    match (
        document.get_mut("evidence").map(Spanned::get_mut),
        inherited.into_inner(),
    ) {
        (Some(DeValue::Array(own)), DeValue::Array(inherited)) => {
            for mut entry in inherited {
                if keep_others(&mut entry, &spoken) {
                    own.push(entry);
                }
            }
        }
        (Some(_), _) => {}
        (None, inherited) => {
            let key = Spanned::new(0..0, "evidence".into());
            document.insert(key, Spanned::new(0..0, inherited));
        }
    }
    Ok(())
}

/// The rules that an entry of evidence names.
fn rules(entry: &Spanned<DeValue<'_>>) -> Vec<String> {
    let DeValue::Table(entry) = entry.get_ref() else {
        return Vec::new();
    };
    match entry.get("rules").map(Spanned::get_ref) {
        Some(DeValue::Array(rules)) => rules
            .iter()
            .filter_map(|rule| match rule.get_ref() {
                DeValue::String(name) => Some(name.to_string()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Takes the rules that are spoken for out of an entry; whether it names others.
fn keep_others<'t>(entry: &mut Spanned<DeValue<'t>>, spoken: &BTreeSet<String>) -> bool {
    let kept: Vec<bool> = rules(entry)
        .iter()
        .map(|rule| !spoken.contains(rule))
        .collect();
    let DeValue::Table(table) = entry.get_mut() else {
        return false;
    };
    if let Some(list) = table.get_mut("rules")
        && let DeValue::Array(list) = list.get_mut()
    {
        let rules = std::mem::replace(list, DeArray::<'t>::new());
        for (rule, _) in rules.into_iter().zip(&kept).filter(|(_, keep)| **keep) {
            list.push(rule);
        }
    }
    kept.contains(&true)
}
