//! Rows that had changed or gone when they left: written over, or taken away, where what came back is still what the backup
//! has; what anybody has touched since is a conflict, and told.
//!
//! ```text
//!   now    the row as it was live                   ─┐
//!   then   the same row as the backup has it         ├─► is the row that is there today as it was then?
//!   t      the row that is there today              ─┘      yes: it becomes as it was live; no: a conflict
//! ```

use std::collections::BTreeSet;

use lifeboat_model::salvage::RefusedRow;

use super::{
    super::{PgError, Row, Session, sql::literal},
    BringBack, Pair, REFUSED_TOLD_MAX, Target, all_or_each, pairs_of,
};

/// Rows of a table as the backup has them.
pub(super) struct Then {
    /// The temporary table.
    rows: String,
    pairs: Vec<Pair>,
    /// Indexes of the pairs that tell rows apart.
    key: Vec<usize>,
    /// Columns whose numbers only the server gives.
    fixed: Vec<String>,
}

impl Then {
    fn same_key(&self, one: &str, pairs: &[Pair], key: &[usize]) -> String {
        let both = |(mine, theirs): (&usize, &usize)| {
            format!("{} = {}", self.pairs[*mine].value_in("b"), pairs[*theirs].value_in(one))
        };
        self.key.iter().zip(key).map(both).collect::<Vec<_>>().join(" AND ")
    }

    /// The live row `t` is `alias`, a row of the backup.
    fn is_same(&self, alias: &str) -> String {
        let same: Vec<String> = self.pairs.iter().map(|pair| pair.is_same_in(alias)).collect();
        if same.is_empty() { "true".into() } else { same.join(" AND ") }
    }

    fn matches(&self, alias: &str) -> String {
        let key = |place: &usize| {
            let pair = &self.pairs[*place];
            format!("t.{} = {}", pair.to, pair.value_in(alias))
        };
        self.key.iter().map(key).collect::<Vec<_>>().join(" AND ")
    }
}

/// Loads the rows as they were then, when they are kept.
pub(super) fn load(
    session: &mut Session,
    what: &BringBack<'_>,
    target: &Target<'_>,
    number: usize,
) -> Result<Option<Then>, PgError> {
    let Some(file) = &target.about.then else { return Ok(None) };
    let table = format!("lifeboat_then_{number}");
    let columns = &target.about.columns_then;
    super::load_rows(session, what, &table, columns.len(), file)?;
    let (pairs, _gone) = pairs_of(session, what, &target.about.table, &target.there, columns)?;
    let place = |column: &String| pairs.iter().position(|pair| &pair.to == column);
    let key = target.about.key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
    let fixed = session.ask(&format!(
        "SELECT pg_catalog.quote_ident(attname) FROM pg_catalog.pg_attribute WHERE attrelid = {} AND attidentity = 'a'",
        target.there.oid
    ))?;
    let fixed = fixed.iter().map(|row| row.text(0).to_owned()).collect();
    Ok(Some(Then { rows: format!("pg_temp.{table}"), pairs, key, fixed }))
}

/// Columns that are written over: those that both versions have, but for those that tell rows apart.
fn written(target: &Target<'_>, then: &Then) -> Vec<usize> {
    let is_written = |place: &usize| {
        let to = &target.pairs[*place].to;
        !target.key.contains(place) && !then.fixed.contains(to) && then.pairs.iter().any(|pair| &pair.to == to)
    };
    (0..target.pairs.len()).filter(is_written).collect()
}

fn is_keyed(target: &Target<'_>, then: &Then) -> bool {
    !target.key.is_empty() && !then.key.is_empty()
}

/// Looks what would become of rows that had changed, and writes them over when that is wished.
pub(super) fn write_over(session: &mut Session, target: &mut Target<'_>, really: bool) -> Result<(), PgError> {
    let Some(then) = target.then.take() else { return Ok(()) };
    if target.about.updated > 0 && is_keyed(target, &then) {
        let (title, rows, keys) = (target.title(), &target.rows, then.same_key("s", &target.pairs, &target.key));
        let look = |which: &str| {
            format!(
                "UPDATE {rows} s SET state = x.state, why = x.why FROM (
                    SELECT s.n, CASE WHEN t.ctid IS NULL THEN 'refused' WHEN {is_now} THEN 'there'
                                     WHEN b.n IS NOT NULL AND {is_then} THEN 'new' ELSE 'refused' END AS state,
                           CASE WHEN t.ctid IS NULL THEN 'it is not there any more' ELSE 'it was changed since' END AS why
                      FROM {rows} s LEFT JOIN ONLY {title} t ON {matches}
                      LEFT JOIN {then} b ON b.kind = 'before' AND {keys}
                     WHERE s.kind = 'updated' AND {which}) x WHERE x.n = s.n",
                is_now = target.is_same(),
                is_then = then.is_same("b"),
                matches = target.matches(),
                then = then.rows,
            )
        };
        all_or_each(session, rows, "s.kind = 'updated' AND s.state IS NULL", &look, None)?;
        let set: Vec<String> = written(target, &then)
            .iter()
            .map(|place| format!("{} = {}", target.pairs[*place].to, target.pairs[*place].value()))
            .collect();
        if really && !set.is_empty() {
            let update = |which: &str| {
                format!(
                    "WITH done AS (UPDATE ONLY {title} t SET {} FROM {rows} s
                         WHERE s.kind = 'updated' AND s.state = 'new' AND {} AND {which} RETURNING s.n)
                     UPDATE {rows} s SET state = 'done' FROM done WHERE done.n = s.n",
                    set.join(", "),
                    target.matches()
                )
            };
            all_or_each(session, rows, "s.kind = 'updated' AND s.state = 'new'", &update, None)?;
        }
    }
    target.then = Some(then);
    Ok(())
}

/// Looks what would become of rows that had gone, and takes them away when that is wished. What refers to one is never
/// taken along.
pub(super) fn take_out(session: &mut Session, target: &mut Target<'_>, really: bool) -> Result<(), PgError> {
    let Some(then) = target.then.take() else { return Ok(()) };
    if target.about.deleted > 0 && is_keyed(target, &then) {
        let (title, rows, matches) = (target.title(), &then.rows, then.matches("s"));
        let referred = referred(session, target.root)?;
        let look = |which: &str| {
            format!(
                "UPDATE {rows} s SET state = x.state, why = x.why FROM (
                    SELECT s.n, CASE WHEN t.ctid IS NULL THEN 'there' WHEN NOT ({is_then}) OR {referred} THEN 'refused'
                                     ELSE 'new' END AS state,
                           CASE WHEN NOT ({is_then}) THEN 'it was changed since' ELSE 'other rows refer to it' END AS why
                      FROM {rows} s LEFT JOIN ONLY {title} t ON {matches}
                     WHERE s.kind = 'deleted' AND {which}) x WHERE x.n = s.n",
                is_then = then.is_same("s"),
            )
        };
        all_or_each(session, rows, "s.kind = 'deleted' AND s.state IS NULL", &look, None)?;
        if really {
            let delete = |which: &str| {
                format!(
                    "WITH done AS (DELETE FROM ONLY {title} t USING {rows} s
                         WHERE s.kind = 'deleted' AND s.state = 'new' AND {matches} AND {which} RETURNING s.n)
                     UPDATE {rows} s SET state = 'done' FROM done WHERE done.n = s.n"
                )
            };
            all_or_each(session, rows, "s.kind = 'deleted' AND s.state = 'new'", &delete, None)?;
        }
    }
    target.then = Some(then);
    Ok(())
}

/// Whether rows refer to `t` that would follow it: they are deleted or changed along with it by the server.
fn referred(session: &mut Session, table: u32) -> Result<String, PgError> {
    let rows = session.ask(&format!(
        "SELECT c.conrelid::pg_catalog.regclass,
                (SELECT pg_catalog.string_agg(pg_catalog.format('c.%I = t.%I', a.attname, f.attname), ' AND ')
                   FROM ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey)) AS k(mine, theirs)
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.mine
                   JOIN pg_catalog.pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.theirs)
           FROM pg_catalog.pg_constraint c
          WHERE c.contype = 'f' AND c.confrelid = {table} AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0"
    ))?;
    let any: Vec<String> =
        rows.iter().map(|row| format!("EXISTS (SELECT 1 FROM {} c WHERE {})", row.text(0), row.text(1))).collect();
    Ok(if any.is_empty() { "false".into() } else { format!("({})", any.join(" OR ")) })
}

/// Says what became of these rows.
pub(super) fn sum_up(session: &mut Session, target: &mut Target<'_>) -> Result<(), PgError> {
    let Some(then) = &target.then else { return Ok(()) };
    let keyed = is_keyed(target, then);
    let (changed, gone) = (target.about.updated, target.about.deleted);
    if !keyed {
        // A table without a key has no rows that changed; those that went cannot be told from their like.
        target.done.conflicts_in_all = changed + gone;
        let why = "nothing tells its rows apart".to_owned();
        let row = format!("{} rows", changed + gone);
        target.done.conflicts = if changed + gone > 0 { vec![RefusedRow { row, why }] } else { vec![] };
        return Ok(());
    }
    let places = [(&target.rows, "updated"), (&then.rows, "deleted")];
    let mut numbers: Vec<(u64, Vec<u64>)> = Vec::new();
    let (mut conflicts, mut all) = (Vec::new(), 0);
    for (rows, kind) in places {
        let name = match kind {
            "updated" => target.name(),
            _deleted => super::name_of(&then.pairs, &then.key),
        };
        let counts = session.one(&format!(
            "SELECT count(*) FILTER (WHERE state = 'new'), count(*) FILTER (WHERE state = 'refused') FROM {rows}
              WHERE kind = '{kind}'"
        ))?;
        all += counts.count(1);
        let told = session.ask(&format!(
            "SELECT {name}, why FROM {rows} s WHERE kind = '{kind}' AND state = 'refused' ORDER BY n LIMIT {REFUSED_TOLD_MAX}"
        ))?;
        conflicts
            .extend(told.iter().map(|row| RefusedRow { row: row.text(0).to_owned(), why: row.text(1).to_owned() }));
        let done = session.ask(&format!("SELECT n FROM {rows} WHERE kind = '{kind}' AND state = 'done' ORDER BY n"))?;
        numbers.push((counts.count(0), done.iter().map(|row: &Row| row.count(0)).collect()));
    }
    let done = &mut target.done;
    (done.conflicts, done.conflicts_in_all) = (conflicts, all);
    if let [(could_over, over), (could_out, out)] = numbers.as_slice() {
        (done.overwritable, done.overwritten, done.overwritten_rows) = (*could_over, over.len() as u64, over.clone());
        (done.removable, done.removed, done.removed_rows) = (*could_out, out.len() as u64, out.clone());
    }
    Ok(())
}

/// Gives rows that were taken away back, as the backup has them, where their keys are free.
pub(super) fn put_in_again(
    session: &mut Session,
    target: &mut Target<'_>,
    numbers: &BTreeSet<u64>,
) -> Result<(), PgError> {
    let Some(then) = &target.then else { return Ok(()) };
    if numbers.is_empty() {
        return Ok(());
    }
    let (title, rows, matches) = (target.title(), &then.rows, then.matches("s"));
    let names: Vec<&str> = then.pairs.iter().map(|pair| pair.to.as_str()).collect();
    let values: Vec<String> = then.pairs.iter().map(|pair| pair.value_in("s")).collect();
    mark(session, rows, numbers)?;
    let insert = |which: &str| {
        format!(
            "INSERT INTO {title} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {rows} s
              WHERE s.state = 'again' AND {which} AND NOT EXISTS (SELECT 1 FROM ONLY {title} t WHERE {matches});
             UPDATE {rows} s SET state = CASE WHEN EXISTS (SELECT 1 FROM ONLY {title} t WHERE {matches} AND {same})
                 THEN 'done' ELSE 'refused' END, why = 'its key is taken since' WHERE s.state = 'again' AND {which}",
            names = names.join(", "),
            values = values.join(", "),
            same = then.is_same("s"),
        )
    };
    all_or_each(session, rows, "s.state = 'again'", &insert, None)?;
    let row = session.one(&format!(
        "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'refused') FROM {rows}
          WHERE kind = 'deleted'"
    ))?;
    target.done.removed = row.count(0);
    target.done.conflicts_in_all += row.count(1);
    Ok(())
}

/// Gives rows that were written over their former values, as long as nobody has changed them since.
pub(super) fn write_back(
    session: &mut Session,
    target: &mut Target<'_>,
    numbers: &BTreeSet<u64>,
) -> Result<(), PgError> {
    let Some(then) = &target.then else { return Ok(()) };
    if numbers.is_empty() {
        return Ok(());
    }
    let (title, rows, keys) = (target.title(), &target.rows, then.same_key("s", &target.pairs, &target.key));
    let places = written(target, then);
    let still: Vec<String> = places.iter().map(|place| target.pairs[*place].is_same_in("s")).collect();
    let set = places.iter().filter_map(|place| {
        let to = &target.pairs[*place].to;
        let former = then.pairs.iter().find(|pair| &pair.to == to)?;
        Some(format!("{to} = {}", former.value_in("b")))
    });
    let set: Vec<String> = set.collect();
    mark(session, rows, numbers)?;
    let update = |which: &str| {
        format!(
            "WITH done AS (UPDATE ONLY {title} t SET {} FROM {rows} s JOIN {then} b ON b.kind = 'before' AND {keys}
                 WHERE s.state = 'again' AND {} AND {} AND {which} RETURNING s.n)
             UPDATE {rows} s SET state = CASE WHEN done.n IS NULL THEN 'refused' ELSE 'done' END, why = {}
               FROM {rows} o LEFT JOIN done ON done.n = o.n WHERE o.n = s.n AND s.state = 'again' AND {which}",
            set.join(", "),
            target.matches(),
            still.join(" AND "),
            literal("it was changed or taken away since"),
            then = then.rows,
        )
    };
    all_or_each(session, rows, "s.state = 'again'", &update, None)?;
    let row = session.one(&format!(
        "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'refused') FROM {rows}
          WHERE kind = 'updated'"
    ))?;
    target.done.overwritten = row.count(0);
    target.done.conflicts_in_all += row.count(1);
    Ok(())
}

fn mark(session: &mut Session, rows: &str, numbers: &BTreeSet<u64>) -> Result<(), PgError> {
    let list: Vec<String> = numbers.iter().map(u64::to_string).collect();
    session.run(&format!("UPDATE {rows} SET state = 'again' WHERE n IN ({})", list.join(", ")))
}
