//! What outside of schemas points into them: the catalog's own dependencies, followed once.

use super::super::{PgError, Session, sql::literals};

/// Something outside that points into a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    /// The catalog it is in: `pg_constraint`, `pg_trigger`, ...
    pub class: String,
    /// Its number there.
    pub oid: u32,
    /// The server's words for it.
    pub what: String,
    /// The catalog of what it points to.
    pub target_class: String,
    /// The number of what it points to.
    pub target_oid: u32,
    /// The server's words for what it points to.
    pub target: String,
}

impl std::fmt::Display for Dependent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} refers to {}", self.what, self.target)
    }
}

/// Everything outside of these schemas that depends on something in them. What belongs to an extension goes where the
/// extension goes, and is left out; so is what only one session sees.
///
/// # Errors
/// As [`Session::run`].
pub fn dependents(session: &mut Session, schemas: &[&str]) -> Result<Vec<Dependent>, PgError> {
    if schemas.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.ask(&format!(
        "WITH ns AS (SELECT oid FROM pg_namespace WHERE nspname IN ({})),
          rel AS (SELECT oid FROM pg_class WHERE relnamespace IN (TABLE ns)),
          fam AS (SELECT oid FROM pg_opfamily WHERE opfnamespace IN (TABLE ns)),
          ext AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
          members AS (
            SELECT 'pg_class'::regclass::oid AS cid, oid FROM rel
            UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass WHERE opcnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM fam
            UNION ALL SELECT 'pg_amop'::regclass, oid FROM pg_amop WHERE amopfamily IN (TABLE fam)
            UNION ALL SELECT 'pg_amproc'::regclass, oid FROM pg_amproc WHERE amprocfamily IN (TABLE fam)
            UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE connamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation WHERE collnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion WHERE connamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config WHERE cfgnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict WHERE dictnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser WHERE prsnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template WHERE tmplnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid IN (TABLE rel)
            UNION ALL SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid IN (TABLE rel)
            UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid IN (TABLE rel)
            UNION ALL SELECT 'pg_rewrite'::regclass, oid FROM pg_rewrite WHERE ev_class IN (TABLE rel)
            UNION ALL SELECT 'pg_default_acl'::regclass, oid FROM pg_default_acl WHERE defaclnamespace IN (TABLE ns)
            UNION ALL SELECT 'pg_namespace'::regclass, oid FROM ns)
         SELECT DISTINCT d.classid::regclass::text, d.objid, pg_describe_object(d.classid, d.objid, d.objsubid),
                d.refclassid::regclass::text, d.refobjid, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
           FROM pg_depend d JOIN members m ON m.cid = d.refclassid AND m.oid = d.refobjid,
                LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
          WHERE d.deptype IN ('n', 'a')
            AND NOT EXISTS (SELECT 1 FROM members m WHERE m.cid = d.classid AND m.oid = d.objid)
            AND NOT EXISTS (SELECT 1 FROM ext e WHERE e.classid = d.refclassid AND e.objid = d.refobjid)
            AND NOT EXISTS (SELECT 1 FROM ext e WHERE e.classid = d.classid AND e.objid = d.objid)
            AND COALESCE(i.schema, '') !~ '^pg_(toast_)?temp' AND i.identity !~ ' (on|for) pg_temp'
          ORDER BY 3, 6",
        literals(schemas.iter().copied())
    ))?;
    let dependent = |row: &super::super::Row| Dependent {
        class: row.text(0).to_owned(),
        oid: row.text(1).parse().unwrap_or_default(),
        what: row.text(2).to_owned(),
        target_class: row.text(3).to_owned(),
        target_oid: row.text(4).parse().unwrap_or_default(),
        target: row.text(5).to_owned(),
    };
    Ok(rows.iter().map(dependent).collect())
}

/// Refuses to go on while something outside points into schemas that are to be history.
pub(super) fn refuse_any(session: &mut Session, schemas: &[&str]) -> Result<(), PgError> {
    let left = dependents(session, schemas)?;
    if left.is_empty() {
        return Ok(());
    }
    let some: Vec<String> = left.iter().take(5).map(ToString::to_string).collect();
    let found = format!("{} things elsewhere would go on using the old schema: {}", left.len(), some.join("; "));
    super::refused(found, "take them out, or restore by a rename: swap = \"rename\" in lifeboat.toml")
}
