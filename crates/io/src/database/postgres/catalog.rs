//! What is in a database: tables with their columns, sequences, large objects, and what surrounds them.

use std::collections::BTreeMap;

use lifeboat_model::postgres::{DatabaseFacts, Horizon, SequenceFacts};

use super::{
    PgError, Selection, Session,
    fence::{FENCE_SCHEMA, fence_status},
    schema_swap::KEPT_COMMENT,
    side::SIDE_PREFIX,
    sql::{literal, literals, plain, quoted},
    watch::WATCH_SCHEMA,
};

/// A table that holds rows of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its number in this database.
    pub oid: u32,
    /// Its schema, not quoted.
    pub schema: String,
    /// Its name, not quoted.
    pub name: String,
    /// Columns that COPY names, quoted; without generated ones.
    pub columns: Vec<String>,
    /// Columns of the primary key, quoted.
    pub key: Vec<String>,
    /// Pages of the table itself.
    pub pages: u64,
    /// Bytes with TOAST, without indexes.
    pub bytes: u64,
    /// For a table of an extension: which rows are the database's own.
    pub condition: Option<String>,
}

impl Table {
    /// `schema.name`, quoted where SQL needs it: how it is called in the manifest.
    pub fn title(&self) -> String {
        format!("{}.{}", plain(&self.schema), plain(&self.name))
    }

    /// What comes after COPY to read it, whole or some pages.
    pub fn copy_source(&self, pages: Option<(u64, Option<u64>)>) -> String {
        let columns = self.columns.join(", ");
        let name = self.title();
        match (pages, &self.condition) {
            (None, None) if self.columns.is_empty() => name,
            (None, None) => format!("{name} ({columns})"),
            (None, Some(condition)) => format!("(SELECT {columns} FROM ONLY {name} {condition})"),
            (Some((from, to)), _) => {
                let end = to.map(|to| format!(" AND ctid < '({to},0)'::tid")).unwrap_or_default();
                format!("(SELECT {columns} FROM ONLY {name} WHERE ctid >= '({from},0)'::tid{end})")
            }
        }
    }

    /// What comes after COPY to write it.
    pub fn copy_target(&self) -> String {
        copy_target(&self.title(), &self.columns)
    }
}

/// What comes after COPY to write a table.
pub fn copy_target(title: &str, columns: &[String]) -> String {
    if columns.is_empty() { title.to_owned() } else { format!("{title} ({})", columns.join(", ")) }
}

/// Which schemas are a person's: not PostgreSQL's own, and selected.
pub(super) fn schema_condition(selection: &Selection) -> String {
    let mut condition = format!(
        "n.nspname !~ '^(pg_|{SIDE_PREFIX})' AND n.nspname NOT IN ('information_schema', {}, {})",
        literal(FENCE_SCHEMA),
        literal(WATCH_SCHEMA)
    );
    // What a restore has kept is no part of the database as it is.
    condition += &format!(
        " AND NOT COALESCE(pg_catalog.starts_with(pg_catalog.obj_description(n.oid, 'pg_namespace'), {}), false)",
        literal(KEPT_COMMENT)
    );
    if !selection.only.is_empty() {
        condition += &format!(" AND n.nspname IN ({})", literals(selection.only.iter().map(String::as_str)));
    }
    if !selection.except.is_empty() {
        condition += &format!(" AND n.nspname NOT IN ({})", literals(selection.except.iter().map(String::as_str)));
    }
    condition
}

/// All tables whose rows a backup holds, the largest first: tables, partitions, unlogged ones, and those of extensions
/// that hold settings of the database's own. Not the rows of foreign tables, which are somebody else's.
pub(super) fn tables(session: &mut Session, selection: &Selection) -> Result<Vec<Table>, PgError> {
    tables_where(session, &schema_condition(selection))
}

/// The same of schemas for which this is true: `n` is their row of `pg_namespace`.
pub(super) fn tables_where(session: &mut Session, schemas: &str) -> Result<Vec<Table>, PgError> {
    let rows = session.ask(&format!(
        "SELECT c.oid, n.nspname, c.relname,
                (SELECT pg_catalog.array_to_json(pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum))
                   FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
                (SELECT pg_catalog.array_to_json(pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place))
                   FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, place),
                        pg_catalog.pg_attribute a
                  WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.attnum),
                pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8,
                pg_catalog.pg_table_size(c.oid), e.condition
           FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN (SELECT pg_catalog.unnest(extconfig) AS oid, pg_catalog.unnest(extcondition) AS condition
                        FROM pg_catalog.pg_extension) e ON e.oid = c.oid
          WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND {schemas}
            AND (e.oid IS NOT NULL OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
                   AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid))
          ORDER BY 7 DESC, 2, 3"
    ))?;
    let list = |text: &str| -> Vec<String> {
        serde_json::from_str::<Vec<String>>(text).unwrap_or_default().iter().map(|name| plain(name)).collect()
    };
    let table = |row: &super::Row| Table {
        oid: row.text(0).parse().unwrap_or_default(),
        schema: row.text(1).to_owned(),
        name: row.text(2).to_owned(),
        columns: list(row.text(3)),
        key: list(row.text(4)),
        pages: row.count(5),
        bytes: row.count(6),
        condition: row.maybe(7).filter(|text| !text.is_empty()),
    };
    Ok(rows.iter().map(table).collect())
}

/// Tables that this role may not read: a backup without them would be a part only.
pub(super) fn unreadable(session: &mut Session, tables: &[Table]) -> Result<Vec<String>, PgError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let rows = session.ask(&format!(
        "SELECT t.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[]) AS t(oid)
          WHERE NOT pg_catalog.has_table_privilege(t.oid, 'SELECT')
             OR NOT pg_catalog.has_schema_privilege((SELECT relnamespace FROM pg_catalog.pg_class c WHERE c.oid = t.oid), 'USAGE')",
        oids.join(", ")
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Where all sequences stand. Read after the rows: a value given out meanwhile only makes it greater.
pub(super) fn sequences(
    session: &mut Session,
    selection: &Selection,
) -> Result<BTreeMap<String, SequenceFacts>, PgError> {
    const AT_ONCE: usize = 200;
    let schemas = schema_condition(selection);
    let names = session.ask(&format!(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'S' AND c.relpersistence IN ('p', 'u') AND {schemas}
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
                   AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid)"
    ))?;
    let names: Vec<String> = names.iter().map(|row| format!("{}.{}", plain(row.text(0)), plain(row.text(1)))).collect();
    let mut all = BTreeMap::new();
    for some in names.chunks(AT_ONCE) {
        let one = |name: &String| format!("SELECT {}, last_value, is_called FROM {name}", literal(name));
        let rows = session.ask(&some.iter().map(one).collect::<Vec<_>>().join(" UNION ALL "))?;
        let facts = |row: &super::Row| SequenceFacts { last_value: row.number(1), is_called: row.is_true(2) };
        all.extend(rows.iter().map(|row| (row.text(0).to_owned(), facts(row))));
    }
    Ok(all)
}

/// The database and what surrounds it.
pub(super) fn database_facts(session: &mut Session) -> Result<DatabaseFacts, PgError> {
    let name = session.value("SELECT pg_catalog.current_database()")?;
    database_facts_of(session, &name)
}

/// Any database of the cluster and what surrounds it; without its size, which may not be ours to know.
pub(super) fn database_facts_of(session: &mut Session, name: &str) -> Result<DatabaseFacts, PgError> {
    let major = session.major();
    let (provider, locale) = match major {
        ..15 => ("'c'", "NULL"),
        15..17 => ("d.datlocprovider", "d.daticulocale"),
        _ => ("d.datlocprovider", "d.datlocale"),
    };
    let row = session.one(&format!(
        "SELECT d.datname, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding),
                d.datcollate, d.datctype, {provider}, {locale}, t.spcname, d.datconnlimit,
                CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') THEN pg_catalog.pg_database_size(d.oid) END
           FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
          WHERE d.datname = {}",
        literal(name)
    ))?;
    let mut facts = DatabaseFacts {
        name: row.text(0).to_owned(),
        owner: row.text(1).to_owned(),
        encoding: row.text(2).to_owned(),
        collate: row.text(3).to_owned(),
        ctype: row.text(4).to_owned(),
        locale_provider: row.text(5).to_owned(),
        locale: row.maybe(6),
        tablespace: row.text(7).to_owned(),
        connection_limit: row.number(8),
        bytes: row.count(9),
        statements: Vec::new(),
    };
    facts.statements = database_statements(session, name)?;
    if fence_status(session).is_ok_and(|fence| fence.is_on) {
        // What the fence set is the fence's, not the database's.
        facts.statements.retain(|line| line != "ALTER DATABASE %DB% SET default_transaction_read_only TO 'on'");
    }
    Ok(facts)
}

/// Settings, grants and the comment of a database, as statements; `%DB%` stands for its quoted name.
pub(super) fn database_statements(session: &mut Session, name: &str) -> Result<Vec<String>, PgError> {
    let name = literal(name);
    // A list of names in a setting such as search_path is kept as it is written; all other values are one text.
    let rows = session.ask(&format!(
        "SELECT q.line FROM (SELECT 1 AS place, CASE WHEN s.setrole = 0 THEN 'ALTER DATABASE %DB%'
                     ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %%DB%%', pg_catalog.pg_get_userbyid(s.setrole)) END
                || pg_catalog.format(' SET %I TO ', pg_catalog.split_part(c, '=', 1))
                || CASE WHEN pg_catalog.split_part(c, '=', 1) IN ('search_path', 'datestyle', 'temp_tablespaces',
                             'session_preload_libraries', 'local_preload_libraries', 'shared_preload_libraries')
                        THEN COALESCE(NULLIF(pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1), ''), '''''')
                        ELSE pg_catalog.quote_literal(pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)) END AS line
           FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
                pg_catalog.unnest(s.setconfig) c
          WHERE d.datname = {name}
         UNION ALL
         SELECT 2, 'REVOKE ALL ON DATABASE %DB% FROM PUBLIC'
           FROM pg_catalog.pg_database d WHERE d.datname = {name} AND d.datacl IS NOT NULL
         UNION ALL
         SELECT 3, pg_catalog.format('GRANT %s ON DATABASE %%DB%% TO %s%s', a.privilege_type,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
           FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
          WHERE d.datname = {name} AND a.grantee <> d.datdba
         UNION ALL
         SELECT 4, 'COMMENT ON DATABASE %DB% IS ' || pg_catalog.quote_literal(pg_catalog.shobj_description(d.oid, 'pg_database'))
           FROM pg_catalog.pg_database d
          WHERE d.datname = {name} AND pg_catalog.shobj_description(d.oid, 'pg_database') IS NOT NULL) q
          ORDER BY q.place, q.line"
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// The schemas that are meant.
pub(super) fn schemas(session: &mut Session, selection: &Selection) -> Result<Vec<String>, PgError> {
    let condition = schema_condition(selection);
    let rows = session.ask(&format!("SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE {condition} ORDER BY 1"))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Owner and grants of schema `public` as statements, all of them, whatever the default is. Of the `public` that the server made with
/// the database too, when it is called otherwise by now: `pg_dump` leaves out what its schema had from the beginning.
pub(super) fn public_schema(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(
        "SELECT l.line FROM pg_catalog.pg_namespace n, LATERAL (
           SELECT 1 AS place, pg_catalog.format('ALTER SCHEMA %I OWNER TO %I', n.nspname, pg_catalog.pg_get_userbyid(n.nspowner)) AS line
           UNION ALL SELECT 2, pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', n.nspname)
           UNION ALL SELECT 3, pg_catalog.format('GRANT %s ON SCHEMA %I TO %s%s', a.privilege_type, n.nspname,
                       CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                       FROM pg_catalog.aclexplode(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a) l
          WHERE n.nspname = 'public' OR n.oid = 2200 ORDER BY n.nspname, l.place, l.line",
    )?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Those of these statements that are about a schema.
pub(super) fn lines_of<'a>(lines: &'a [String], schema: &str) -> impl Iterator<Item = &'a str> {
    let named = [format!(" SCHEMA {schema} "), format!(" SCHEMA {} ", quoted(schema))];
    lines.iter().map(String::as_str).filter(move |line| named.iter().any(|name| line.contains(name)))
}

/// The present instant in the server's counting. In a snapshot's transaction: the snapshot's.
pub(super) fn horizon(session: &mut Session) -> Result<Horizon, PgError> {
    let row = session.one(
        "SELECT pg_catalog.pg_current_snapshot(), pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
                (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
                CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                     ELSE pg_catalog.pg_current_wal_lsn() END,
                pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
                AND pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE'),
                (EXTRACT(EPOCH FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8,
                (SELECT max((EXTRACT(EPOCH FROM backend_start) * 1000000)::pg_catalog.int8)
                   FROM pg_catalog.pg_stat_activity WHERE backend_type = 'checkpointer')",
    )?;
    let mut horizon = Horizon {
        snapshot: row.text(0).to_owned(),
        xmin: row.count(1),
        database_oid: row.text(2).parse().unwrap_or_default(),
        wal: row.maybe(3),
        running_since: row.maybe(5).and_then(|since| since.parse().ok()),
        unbroken_since: row.maybe(6).and_then(|since| since.parse().ok()),
        ..Horizon::default()
    };
    if row.is_true(4) {
        let row = session.one(
            "SELECT s.system_identifier, c.timeline_id
               FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c",
        )?;
        horizon.system_identifier = row.maybe(0);
        horizon.timeline = row.text(1).parse().ok();
    }
    Ok(horizon)
}

/// Roles that own something here, are granted something or are named in a policy or a default privilege.
pub(super) fn roles_used(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(
        "SELECT DISTINCT r.rolname FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
          WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname !~ '^pg_'
            AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
            AND (d.dbid <> 0 OR (d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
                 AND d.objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())))
          ORDER BY 1",
    )?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Extensions with their versions.
pub(super) fn extensions(session: &mut Session) -> Result<BTreeMap<String, String>, PgError> {
    let rows = session.ask("SELECT extname, extversion FROM pg_catalog.pg_extension")?;
    Ok(rows.iter().map(|row| (row.text(0).to_owned(), row.text(1).to_owned())).collect())
}
