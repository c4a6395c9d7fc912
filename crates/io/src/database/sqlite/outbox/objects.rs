//! What is put into an app's database so that its changes are known: one table for what changed, one for how far new rows
//! are noted, one for what we have to remember, and triggers. All names begin with `_lifeboat_`.
//!
//! The triggers run inside the *app's* SQLite, of whatever age: they use nothing but a plain `INSERT`. The outbox has no
//! constraint that could fail, since the conflict clause of the app's statement would replace that of the trigger.

use super::{super::open::quoted, shape::TableShape};

/// The table of what changed. Keys are typeless, so that each keeps its storage class; and nothing is demanded of the others,
/// which are constants of our triggers: two `NOT NULL` cost every row of the app a third of a microsecond, measured.
pub(super) const OUTBOX: &str = "CREATE TABLE _lifeboat_outbox(seq INTEGER PRIMARY KEY, t, o, k1, k2, k3, k4)";

/// The table of what has to be remembered with the data: who this database is, tables' numbers, what is over.
pub(super) const META: &str = "CREATE TABLE _lifeboat_meta(k TEXT PRIMARY KEY, v)";

/// The table of how far the rows of a numbered table are noted. What has a greater number is new, and needs no trigger to be
/// found: `tail` notes it, many rows at once, so that the app does not pay a page of the outbox for each.
pub(super) const TAIL: &str = "CREATE TABLE _lifeboat_tail(t INTEGER PRIMARY KEY, upto INTEGER NOT NULL)";

/// What every name of ours begins with.
pub(super) const PREFIX: &str = "_lifeboat_";

/// A trigger: its name, and the statement that makes it.
pub(super) type Trigger = (String, String);

/// The triggers of a table whose number is `number`.
pub(super) fn triggers(table: &TableShape, number: i64) -> Vec<Trigger> {
    let key = table.key_names();
    let places: Vec<String> = (1..=key.len()).map(|at| format!("k{at}")).collect();
    let into = format!("INSERT INTO _lifeboat_outbox(t, o, {})", places.join(", "));
    let values = |row: &str, op: i64| {
        let values: Vec<String> = key.iter().map(|column| format!("{row}.{}", quoted(column))).collect();
        format!("BEGIN {into} VALUES ({number}, {op}, {}); END", values.join(", "))
    };
    let named = |end: &str, at: &str, when: &str, body: String| {
        let name = format!("{PREFIX}{}_{end}", table.name);
        let statement = format!("CREATE TRIGGER {} {at} ON {}{when} {body}", quoted(&name), quoted(&table.name));
        (name, statement)
    };
    // Rows of the tail are found by their number, whatever else happens to them; without a row there, everything is noted.
    let noted = match &table.number {
        Some(column) => format!(
            " WHEN NEW.{} <= ifnull((SELECT upto FROM _lifeboat_tail WHERE t = {number}), 9223372036854775807)",
            quoted(column)
        ),
        None => String::new(),
    };
    let columns = |names: &[&str]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let mut all = vec![
        named("i", "AFTER INSERT", &noted, values("NEW", 0)),
        named("u", "AFTER UPDATE", &noted, values("NEW", 1)),
        // No WHEN: in a NOCASE column `x` and `X` are the same to SQLite, and two keys to everybody else.
        named("k", &format!("AFTER UPDATE OF {}", columns(&key)), "", values("OLD", 2)),
        // Of the tail, too: an entry for the former row of that number may have brought this one to the cloud.
        named("d", "AFTER DELETE", "", values("OLD", 2)),
    ];
    // REPLACE removes the rows in its way without telling delete triggers. They are marked before; a mark too many only
    // makes a row be looked at.
    let own: Vec<String> = key.iter().map(|column| quoted(column)).collect();
    for (at, unique) in table.uniques.iter().enumerate() {
        let same: Vec<String> = unique
            .columns
            .iter()
            .map(|(column, collation)| format!("{0} = NEW.{0} COLLATE {1}", quoted(column), quoted(collation)))
            .collect();
        let body = format!(
            "BEGIN {into} SELECT {number}, 1, {} FROM {} WHERE {}; END",
            own.join(", "),
            quoted(&table.name),
            same.join(" AND ")
        );
        let of: Vec<&str> = unique.columns.iter().map(|(column, _)| column.as_str()).collect();
        all.push(named(&format!("r{at}"), "BEFORE INSERT", "", body.clone()));
        all.push(named(&format!("s{at}"), &format!("BEFORE UPDATE OF {}", columns(&of)), "", body));
    }
    all
}
