//! Some tables of a database: which definitions belong to them, and what cannot come along.

use std::collections::{BTreeSet, HashMap};

use lifeboat_model::PostgresFacts;

use super::{PgError, archive::SchemaEntry, sql::plain};

/// Some tables of a database with what belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    /// Tables that hold rows, by their names in the manifest: those that were asked for, and their partitions.
    pub tables: BTreeSet<String>,
    /// Definitions, by their place in the list, in its order.
    pub entries: Vec<usize>,
    /// Sequences that belong to them, by their names in the manifest.
    pub sequences: BTreeSet<String>,
    /// What is left out since it needs other tables, one sentence each.
    pub left_out: Vec<String>,
}

/// A table's name as the manifest has it.
pub(super) fn title_of(entry: &SchemaEntry) -> String {
    format!("{}.{}", plain(&entry.schema), plain(&entry.tag))
}

/// The list of definitions, with tables and partitions at hand.
pub(super) struct Catalog<'a> {
    pub entries: &'a [SchemaEntry],
    place: HashMap<i64, usize>,
    children: HashMap<i64, Vec<i64>>,
}

impl<'a> Catalog<'a> {
    pub fn new(entries: &'a [SchemaEntry]) -> Catalog<'a> {
        let place: HashMap<i64, usize> = entries.iter().enumerate().map(|(at, entry)| (entry.id, at)).collect();
        let mut catalog = Catalog { entries, place, children: HashMap::new() };
        for attach in entries.iter().filter(|entry| entry.kind == "TABLE ATTACH") {
            let (child, parents): (Vec<i64>, Vec<i64>) = catalog
                .tables_needed(attach)
                .into_iter()
                .partition(|id| catalog.get(*id).is_some_and(|table| title_of(table) == title_of(attach)));
            for parent in parents {
                catalog.children.entry(parent).or_default().extend(&child);
            }
        }
        catalog
    }

    pub fn get(&self, id: i64) -> Option<&'a SchemaEntry> {
        self.place.get(&id).map(|at| &self.entries[*at])
    }

    fn is_table(&self, id: i64) -> bool {
        self.get(id).is_some_and(|entry| entry.kind == "TABLE")
    }

    pub fn tables_needed(&self, entry: &SchemaEntry) -> Vec<i64> {
        entry.needs.iter().copied().filter(|id| self.is_table(*id)).collect()
    }

    /// A table and its partitions, theirs included.
    pub fn with_partitions(&self, id: i64) -> BTreeSet<i64> {
        let (mut open, mut seen) = (vec![id], BTreeSet::new());
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.children.get(&id).into_iter().flatten());
            }
        }
        seen
    }

    /// The table that a constraint, trigger, ... is of: its name stands in front of theirs.
    pub fn own_table(&self, entry: &SchemaEntry) -> Option<i64> {
        let is_own = |id: &i64| {
            self.get(*id).is_some_and(|table| {
                table.schema == entry.schema
                    && entry.tag.strip_prefix(&table.tag).is_some_and(|rest| rest.starts_with(' '))
            })
        };
        let named = self.tables_needed(entry).into_iter().filter(is_own);
        // `a b` and `a` may both be tables: the longer name fits better.
        named.max_by_key(|id| self.get(*id).map_or(0, |table| table.tag.len()))
    }

    /// What must be there for some definitions, themselves included.
    pub fn needed_by(&self, ids: impl IntoIterator<Item = i64>) -> BTreeSet<i64> {
        let (mut open, mut seen): (Vec<i64>, BTreeSet<i64>) = (ids.into_iter().collect(), BTreeSet::new());
        while let Some(id) = open.pop() {
            if let Some(entry) = self.get(id)
                && seen.insert(id)
            {
                open.extend(&entry.needs);
            }
        }
        seen
    }
}

/// Finds what belongs to tables, which are named as in the manifest, or without their schema where that is clear.
///
/// # Errors
/// [`PgError::Preflight`] when a name means no table, or several.
pub fn subset(entries: &[SchemaEntry], facts: &PostgresFacts, wanted: &[String]) -> Result<Subset, PgError> {
    let catalog = Catalog::new(entries);
    let mut chosen = BTreeSet::new();
    for name in wanted {
        chosen.extend(catalog.with_partitions(find(&catalog, name)?));
    }
    // Another table that a table is made of (INHERITS, its row as a type) comes as a definition, without rows.
    let mut included = catalog.needed_by(chosen.iter().copied());
    let mut left_out = BTreeSet::new();
    for entry in entries.iter().filter(|entry| belongs_to_a_table(&entry.kind)) {
        if !is_of(&catalog, entry, &chosen) {
            continue;
        }
        let needed = catalog.needed_by([entry.id]);
        let foreign = needed.iter().filter(|id| catalog.is_table(**id) && !included.contains(id));
        let missing: Vec<String> = foreign.filter_map(|id| catalog.get(*id)).map(title_of).collect();
        match missing.is_empty() {
            true => included.extend(needed),
            false => left_out.extend(sentence(entry, &missing)),
        }
    }
    for entry in entries.iter().filter(|entry| matches!(entry.kind.as_str(), "ACL" | "COMMENT" | "SECURITY LABEL")) {
        if entry.needs.iter().any(|id| included.contains(id)) {
            included.insert(entry.id);
        }
    }
    let titles = chosen.iter().filter_map(|id| catalog.get(*id)).map(title_of);
    let sequence = |id: &i64| catalog.get(*id).filter(|entry| entry.kind == "SEQUENCE").map(title_of);
    Ok(Subset {
        tables: titles.filter(|title| facts.tables.contains_key(title)).collect(),
        sequences: included.iter().filter_map(sequence).filter(|title| facts.sequences.contains_key(title)).collect(),
        entries: (0..entries.len()).filter(|at| included.contains(&entries[*at].id)).collect(),
        left_out: left_out.into_iter().collect(),
    })
}

fn find(catalog: &Catalog<'_>, name: &str) -> Result<i64, PgError> {
    let tables = || catalog.entries.iter().filter(|entry| entry.kind == "TABLE");
    if let Some(exact) = tables().find(|table| title_of(table) == name) {
        return Ok(exact.id);
    }
    let alike: Vec<&SchemaEntry> = tables().filter(|table| table.tag == name || plain(&table.tag) == name).collect();
    let (found, known) = match alike.as_slice() {
        [one] => return Ok(one.id),
        [] => (format!("no table of the backup is called {name:?}"), tables().map(title_of).collect::<Vec<_>>()),
        several => {
            (format!("{name:?} may mean several tables"), several.iter().map(|one| title_of(one)).collect::<Vec<_>>())
        }
    };
    Err(PgError::Preflight { found, hint: format!("there are: {}", known.join(", ")) })
}

pub(super) fn belongs_to_a_table(kind: &str) -> bool {
    matches!(
        kind,
        "DEFAULT"
            | "CONSTRAINT"
            | "CHECK CONSTRAINT"
            | "FK CONSTRAINT"
            | "INDEX"
            | "INDEX ATTACH"
            | "STATISTICS"
            | "TRIGGER"
            | "RULE"
            | "POLICY"
            | "ROW SECURITY"
            | "TABLE ATTACH"
            | "SEQUENCE"
            | "SEQUENCE OWNED BY"
    )
}

pub(super) fn is_of(catalog: &Catalog<'_>, entry: &SchemaEntry, chosen: &BTreeSet<i64>) -> bool {
    if entry.kind == "SEQUENCE OWNED BY" {
        // It needs the sequence alone; whose it is, is in its text.
        let mut titles = chosen.iter().filter_map(|id| catalog.get(*id)).map(title_of);
        return titles.any(|title| entry.sql.contains(&format!(" OWNED BY {title}.")));
    }
    let named = matches!(
        entry.kind.as_str(),
        "DEFAULT" | "CONSTRAINT" | "CHECK CONSTRAINT" | "FK CONSTRAINT" | "TRIGGER" | "RULE" | "POLICY"
    );
    match catalog.own_table(entry).filter(|_| named) {
        Some(own) => chosen.contains(&own),
        // An index's attachment needs indexes, which need the tables.
        None if entry.kind == "INDEX ATTACH" => catalog.needed_by([entry.id]).iter().any(|id| chosen.contains(id)),
        None => catalog.tables_needed(entry).iter().any(|id| chosen.contains(id)),
    }
}

fn sentence(entry: &SchemaEntry, missing: &[String]) -> Option<String> {
    let what = match entry.kind.as_str() {
        "INDEX ATTACH" => return None,
        "TABLE ATTACH" => {
            return Some(format!(
                "{} comes as a table of its own, not as a part of {}.",
                title_of(entry),
                missing.join(", ")
            ));
        }
        "FK CONSTRAINT" => "foreign key",
        "TRIGGER" => "trigger",
        "POLICY" => "policy",
        "RULE" => "rule",
        _ => "definition",
    };
    let tables = missing.join(", ");
    Some(format!("The {what} {} refers to {tables}, which is not asked for: it is left out.", entry.tag))
}

/// In which order tables can be filled while their foreign keys watch, and those tables whose keys must wait for the end
/// since they go round in a circle.
pub(super) fn load_order(catalog: &Catalog<'_>, tables: &BTreeSet<String>) -> (Vec<String>, BTreeSet<String>) {
    let titles = |id: i64| -> Vec<String> {
        catalog.with_partitions(id).iter().filter_map(|id| catalog.get(*id)).map(title_of).collect()
    };
    let mut waits_for: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut keys: Vec<(String, BTreeSet<String>)> = Vec::new();
    for key in catalog.entries.iter().filter(|entry| entry.kind == "FK CONSTRAINT") {
        let Some(own) = catalog.own_table(key) else { continue };
        let others = catalog.tables_needed(key).into_iter().filter(|id| *id != own);
        let others: BTreeSet<String> = others.flat_map(titles).filter(|title| tables.contains(title)).collect();
        for title in titles(own) {
            waits_for.entry(title).or_default().extend(others.iter().cloned());
        }
        keys.extend(catalog.get(own).map(|own| (title_of(own), others)));
    }
    let (mut order, mut circular): (Vec<String>, BTreeSet<String>) = (Vec::new(), BTreeSet::new());
    let mut left: BTreeSet<String> = tables.clone();
    while let Some(first) = left.first().cloned() {
        let waits = |title: &String| {
            waits_for.get(title).is_some_and(|on| on.iter().any(|one| one != title && left.contains(one)))
        };
        let free = left.iter().find(|title| !waits(title)).cloned();
        let next = free.unwrap_or_else(|| {
            let mine = keys.iter().filter(|(_, others)| others.iter().any(|one| left.contains(one)));
            circular.extend(mine.filter(|(own, _)| *own == first).map(|(own, _)| own.clone()));
            first
        });
        left.remove(&next);
        order.push(next);
    }
    (order, circular)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::postgres::Section;

    fn entry(id: i64, kind: &str, tag: &str, needs: &[i64]) -> SchemaEntry {
        SchemaEntry {
            id,
            kind: kind.into(),
            tag: tag.into(),
            schema: "public".into(),
            owner: String::new(),
            section: Section::PreData,
            tablespace: String::new(),
            access_method: String::new(),
            needs: needs.to_vec(),
            sql: String::new(),
            owner_sql: String::new(),
        }
    }

    fn shop() -> (Vec<SchemaEntry>, PostgresFacts) {
        let entries = vec![
            entry(1, "TYPE", "status", &[]),
            entry(2, "TABLE", "customers", &[]),
            entry(3, "TABLE", "orders", &[1]),
            entry(4, "SEQUENCE", "orders_id_seq", &[]),
            entry(5, "DEFAULT", "orders id", &[3, 4]),
            entry(6, "TABLE", "items", &[]),
            entry(7, "CONSTRAINT", "customers customers_pkey", &[2]),
            entry(8, "CONSTRAINT", "orders orders_pkey", &[3]),
            entry(9, "FK CONSTRAINT", "orders orders_customer_fkey", &[3, 2, 7]),
            entry(10, "FK CONSTRAINT", "items items_order_fkey", &[6, 3, 8]),
            entry(11, "ACL", "TABLE orders", &[3]),
            entry(12, "ACL", "TABLE customers", &[2]),
            entry(13, "FK CONSTRAINT", "customers customers_last_fkey", &[2, 3, 8]),
        ];
        let mut facts = PostgresFacts::default();
        for table in ["customers", "orders", "items"] {
            facts.tables.insert(format!("public.{table}"), Default::default());
        }
        facts.sequences.insert("public.orders_id_seq".into(), Default::default());
        (entries, facts)
    }

    /// BKP-19: what refers to tables that do not come along is left out, and said.
    #[test]
    fn bkp_19_a_part_says_what_it_lacks() {
        let (entries, facts) = shop();
        let part = subset(&entries, &facts, &["orders".into()]).unwrap();
        assert_eq!(part.tables.iter().collect::<Vec<_>>(), ["public.orders"]);
        assert_eq!(part.sequences.iter().collect::<Vec<_>>(), ["public.orders_id_seq"]);
        let ids: Vec<i64> = part.entries.iter().map(|at| entries[*at].id).collect();
        assert_eq!(ids, [1, 3, 4, 5, 8, 11]);
        let told = "The foreign key orders orders_customer_fkey refers to public.customers, which is not asked for: it is left out.";
        assert_eq!(part.left_out, [told]);
        let both = subset(&entries, &facts, &["orders".into(), "public.customers".into()]).unwrap();
        assert!(both.left_out.is_empty(), "{:?}", both.left_out);
        let unknown = subset(&entries, &facts, &["order".into()]).unwrap_err();
        assert!(unknown.next_step().contains("public.orders"), "{unknown}");
    }

    #[test]
    fn tables_come_after_those_they_refer_to_and_a_circle_is_cut_once() {
        let (entries, facts) = shop();
        let tables: BTreeSet<String> = facts.tables.keys().cloned().collect();
        let (order, circular) = load_order(&Catalog::new(&entries), &tables);
        assert_eq!(order, ["public.customers", "public.orders", "public.items"]);
        assert_eq!(circular.into_iter().collect::<Vec<_>>(), ["public.customers"]);
    }
}
