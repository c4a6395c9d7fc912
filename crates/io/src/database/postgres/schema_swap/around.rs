//! What is elsewhere and points into the schemas: told in statements that make it again, by the names that hold then.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{PgError, Session, sql::literals},
    depends::{Dependent, dependents},
    refused,
};

/// Everything outside that points into schemas, with the statements that make it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// In the order in which they are made again.
    again: Vec<Again>,
}

/// One thing that can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Again {
    what: String,
    statements: Vec<String>,
    /// A statement that looks at rows: where it fails, the thing stays unchecked, and that is told.
    check: Option<String>,
}

/// The kinds that can be made again, with a query for their statements: number, statements (an array), check. `{oids}`
/// stands for the numbers; `OR REPLACE` for triggers is there from 14 on.
const KINDS: [(&str, &str); 7] = [
    (
        "pg_proc",
        "SELECT p.oid, ARRAY[pg_get_functiondef(p.oid)], NULL FROM pg_proc p WHERE p.prokind IN ('f', 'p', 'w') AND p.oid IN ({oids})",
    ),
    (
        "pg_rewrite",
        "SELECT r.oid, ARRAY[CASE WHEN c.relkind = 'v' AND r.rulename = '_RETURN'
                THEN 'CREATE OR REPLACE VIEW ' || c.oid::regclass || COALESCE(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') || ' AS ' || pg_get_viewdef(c.oid)
                ELSE 'CREATE OR REPLACE ' || substr(pg_get_ruledef(r.oid), 8) END], NULL
           FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE r.oid IN ({oids}) AND (c.relkind = 'v' OR r.rulename <> '_RETURN')",
    ),
    (
        "pg_attrdef",
        "SELECT d.oid, ARRAY['ALTER TABLE ' || d.adrelid::regclass || ' ALTER COLUMN ' || quote_ident(a.attname) || ' SET DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)], NULL
           FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.oid IN ({oids}) AND a.attgenerated = ''",
    ),
    (
        "pg_policy",
        "SELECT p.oid, ARRAY['ALTER POLICY ' || quote_ident(p.polname) || ' ON ' || p.polrelid::regclass
                || COALESCE(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '') || COALESCE(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')], NULL
           FROM pg_policy p WHERE p.oid IN ({oids})",
    ),
    (
        "pg_trigger",
        "SELECT g.oid, CASE WHEN g.tgconstraint = 0 AND current_setting('server_version_num')::int >= 140000
                THEN ARRAY['CREATE OR REPLACE ' || substr(pg_get_triggerdef(g.oid), 8)]
                ELSE ARRAY['DROP TRIGGER ' || quote_ident(g.tgname) || ' ON ' || g.tgrelid::regclass, pg_get_triggerdef(g.oid)] END
            || CASE g.tgenabled WHEN 'O' THEN ARRAY[]::text[] ELSE ARRAY['ALTER TABLE ' || g.tgrelid::regclass
                || CASE g.tgenabled WHEN 'D' THEN ' DISABLE' WHEN 'R' THEN ' ENABLE REPLICA' ELSE ' ENABLE ALWAYS' END || ' TRIGGER ' || quote_ident(g.tgname)] END, NULL
           FROM pg_trigger g WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.oid IN ({oids})",
    ),
    (
        "pg_event_trigger",
        "SELECT e.oid, ARRAY['DROP EVENT TRIGGER ' || quote_ident(e.evtname), 'CREATE EVENT TRIGGER ' || quote_ident(e.evtname) || ' ON ' || e.evtevent
                || COALESCE(' WHEN TAG IN (' || (SELECT string_agg(quote_literal(t), ', ') FROM unnest(e.evttags) t) || ')', '') || ' EXECUTE FUNCTION ' || e.evtfoid::regproc || '()']
            || CASE e.evtenabled WHEN 'O' THEN ARRAY[]::text[] ELSE ARRAY['ALTER EVENT TRIGGER ' || quote_ident(e.evtname)
                || CASE e.evtenabled WHEN 'D' THEN ' DISABLE' WHEN 'R' THEN ' ENABLE REPLICA' ELSE ' ENABLE ALWAYS' END] END, NULL
           FROM pg_event_trigger e WHERE e.oid IN ({oids})",
    ),
    // Last: these take a lock on their table that holds writers back, and look at its rows.
    (
        "pg_constraint",
        "SELECT k.oid, ARRAY['ALTER TABLE ' || k.conrelid::regclass || ' DROP CONSTRAINT ' || quote_ident(k.conname) || ', ADD CONSTRAINT ' || quote_ident(k.conname) || ' '
                || pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated AND c.relkind = 'r' THEN ' NOT VALID' ELSE '' END]
            || CASE WHEN obj_description(k.oid, 'pg_constraint') IS NULL THEN ARRAY[]::text[]
                ELSE ARRAY['COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' || k.conrelid::regclass || ' IS ' || quote_literal(obj_description(k.oid, 'pg_constraint'))] END,
            CASE WHEN k.convalidated AND c.relkind = 'r' THEN 'ALTER TABLE ' || k.conrelid::regclass || ' VALIDATE CONSTRAINT ' || quote_ident(k.conname) END
           FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.contype IN ('f', 'c') AND k.oid IN ({oids})",
    ),
];

impl Around {
    /// Looks at what points into these schemas. `types`: those that will be moved.
    ///
    /// # Errors
    /// [`PgError::Preflight`] naming what cannot be made again.
    pub fn look(session: &mut Session, schemas: &[&str], types: &BTreeSet<String>) -> Result<Around, PgError> {
        let all = dependents(session, schemas)?;
        let movable = movable(session, schemas, types)?;
        let moves = |one: &Dependent| match (one.class.as_str(), one.target_class.as_str()) {
            // A key between partitions, or a partition's trigger, is made with its parent's.
            ("pg_extension" | "pg_publication_rel" | "pg_publication_namespace", _) => true,
            (_, "pg_type") => movable.contains(&one.target_oid),
            (_, _) => false,
        };
        let mut left: Vec<Dependent> = all.into_iter().filter(|one| !moves(one)).collect();
        let mut around = Around::default();
        let mut made = BTreeSet::new();
        for (class, query) in KINDS {
            // A type that will not move cannot be replaced under what uses it, whatever that is.
            let mine: BTreeSet<u32> = left
                .iter()
                .filter(|one| one.class == class && one.target_class != "pg_type")
                .map(|one| one.oid)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let oids: Vec<String> = mine.iter().map(ToString::to_string).collect();
            let mut what: BTreeMap<u32, String> = BTreeMap::new();
            left.iter().filter(|one| one.class == class).for_each(|one| drop(what.insert(one.oid, one.what.clone())));
            let sql = format!(
                "SELECT q.oid, array_to_json(q.again), q.look FROM ({}) q(oid, again, look) ORDER BY q.oid",
                query.replace("{oids}", &oids.join(", "))
            );
            for row in session.ask(&sql)? {
                let oid: u32 = row.text(0).parse().unwrap_or_default();
                let statements = serde_json::from_str(row.text(1)).unwrap_or_default();
                let check = row.maybe(2).filter(|text| !text.is_empty());
                made.insert((class, oid));
                around.again.push(Again { what: what.remove(&oid).unwrap_or_default(), statements, check });
            }
        }
        let inherited = inherited(session)?;
        left.retain(|one| {
            one.target_class == "pg_type"
                || !(made.contains(&(one.class.as_str(), one.oid)) || inherited.contains(&(one.class.clone(), one.oid)))
        });
        if left.is_empty() {
            return Ok(around);
        }
        let some: Vec<String> = left.iter().take(5).map(ToString::to_string).collect();
        let found = format!(
            "{} things outside of {} cannot be made again so that they point to new tables: {}",
            left.len(),
            schemas.join(", "),
            some.join("; ")
        );
        refused(
            found,
            "take them out, or restore by a rename: swap = \"rename\" in lifeboat.toml, or into another database with --into",
        )
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.again.len() as u64
    }

    /// Makes all of it again: what a name means now, it points to from here on. Says which keys have rows that do not
    /// fit any more; those stay as they are, for new rows only. On trial nothing is validated: it would hold the table
    /// for as long as it takes to read it.
    ///
    /// # Errors
    /// [`PgError::Refused`], naming the one that cannot be made again.
    pub fn point_again(&self, session: &mut Session, validate: bool) -> Result<Vec<String>, PgError> {
        let mut notes = Vec::new();
        for one in &self.again {
            for statement in &one.statements {
                session
                    .run(statement)
                    .map_err(|error| super::super::restore::about(error, &format!("make {} again", one.what)))?;
            }
            let Some(check) = one.check.as_ref().filter(|_| validate) else { continue };
            session.run("SAVEPOINT lifeboat_check")?;
            match session.run(check) {
                Ok(()) => session.run("RELEASE SAVEPOINT lifeboat_check")?,
                Err(error) if error.code().is_some_and(|code| code.starts_with("23")) => {
                    session.run("ROLLBACK TO SAVEPOINT lifeboat_check")?;
                    notes.push(format!("{} holds for new rows only, since rows break it: {error}", one.what));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(notes)
    }
}

/// The numbers of the types in these schemas, and of their arrays, that will be moved.
fn movable(session: &mut Session, schemas: &[&str], types: &BTreeSet<String>) -> Result<BTreeSet<u32>, PgError> {
    let rows = session.ask(&format!(
        "SELECT t.oid, t.typarray FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
          WHERE n.nspname IN ({}) AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))
            AND n.nspname || '.' || t.typname IN ({})",
        literals(schemas.iter().copied()),
        literals(types.iter().map(String::as_str))
    ))?;
    Ok(rows.iter().flat_map(|row| [row.text(0), row.text(1)].map(|text| text.parse().unwrap_or_default())).collect())
}

/// Keys and triggers of partitions, which come and go with their parent's.
fn inherited(session: &mut Session) -> Result<BTreeSet<(String, u32)>, PgError> {
    let rows = session.ask(
        "SELECT 'pg_constraint', oid FROM pg_constraint WHERE conparentid <> 0 UNION ALL SELECT 'pg_trigger', oid FROM pg_trigger WHERE tgparentid <> 0 OR tgisinternal",
    )?;
    Ok(rows.iter().map(|row| (row.text(0).to_owned(), row.text(1).parse().unwrap_or_default())).collect())
}
