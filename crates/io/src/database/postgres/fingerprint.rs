//! The catalog in lines: every definition of a person's, one line each, by kind. Two databases with equal lines are
//! defined alike; where they differ, the lines say in what.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::postgres::KindFacts;
use sha2::{Digest, Sha256};

use super::{PgError, Selection, Session, catalog::schema_condition};

/// All definitions, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Lines in order, by kind: `column`, `index`, `policy`, `acl`, ...
    pub lines: BTreeMap<String, BTreeSet<String>>,
}

impl Fingerprint {
    /// One digest for each kind.
    pub fn kinds(&self) -> BTreeMap<String, KindFacts> {
        let facts = |lines: &BTreeSet<String>| {
            let mut hash = Sha256::new();
            lines.iter().for_each(|line| hash.update([line.as_bytes(), b"\0"].concat()));
            KindFacts { count: lines.len() as u64, digest: hex::encode(hash.finalize()) }
        };
        self.lines.iter().map(|(kind, lines)| (kind.clone(), facts(lines))).collect()
    }

    /// What the other has not (`-`), and has more (`+`), a line each with its kind.
    pub fn differences(&self, other: &Fingerprint) -> Vec<String> {
        let none = BTreeSet::new();
        let kinds: BTreeSet<&String> = self.lines.keys().chain(other.lines.keys()).collect();
        let mut all = Vec::new();
        for kind in kinds {
            let (ours, theirs) = (self.lines.get(kind).unwrap_or(&none), other.lines.get(kind).unwrap_or(&none));
            all.extend(ours.difference(theirs).map(|line| format!("- {kind} {line}")));
            all.extend(theirs.difference(ours).map(|line| format!("+ {kind} {line}")));
        }
        all
    }
}

/// Reads all definitions. Grants are told as they hold, so that a grant that is the default and one that was written
/// down are the same; owners and grants are kinds of their own (`owner`, `acl`), to be left out where a copy has others.
///
/// # Errors
/// As [`Session::run`].
pub fn fingerprint(session: &mut Session, selection: &Selection) -> Result<Fingerprint, PgError> {
    fingerprint_of(session, selection, &|_| true)
}

/// Kinds of definitions that are in no schema.
const IN_NO_SCHEMA: [&str; 4] = ["extension", "publication", "event trigger", "foreign"];

/// The definitions that are in one schema, by kind; what is in none is left out.
pub(super) fn of_schema(
    session: &mut Session,
    schema: &str,
    takes: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, KindFacts>, PgError> {
    let selection = Selection { only: vec![schema.to_owned()], except: Vec::new() };
    let takes = |kind: &str| takes(kind) && !IN_NO_SCHEMA.contains(&kind);
    let mut kinds = fingerprint_of(session, &selection, &takes)?.kinds();
    kinds.retain(|_, facts| facts.count > 0);
    Ok(kinds)
}

fn fingerprint_of(
    session: &mut Session,
    selection: &Selection,
    takes: &dyn Fn(&str) -> bool,
) -> Result<Fingerprint, PgError> {
    let rows = session.ask(&query(session.major(), selection, takes))?;
    let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        lines.entry(row.text(0).to_owned()).or_default().insert(row.text(1).to_owned());
    }
    Ok(Fingerprint { lines })
}

fn query(major: u32, selection: &Selection, takes: &dyn Fn(&str) -> bool) -> String {
    let schemas = schema_condition(selection);
    let publication_details =
        if major >= 15 { "coalesce(p.attnames::text, '') || coalesce(p.rowfilter, '')" } else { "''" };
    let compression = if major >= 14 { "a.attcompression::text" } else { "''" };
    let nulls = if major >= 15 { "i.indnullsnotdistinct::text" } else { "''" };
    // Functions and operators are found in pg_catalog even with an empty search_path; names below need no prefix.
    let before = format!(
        "WITH ns AS (SELECT n.oid, n.nspname FROM pg_namespace n WHERE {schemas}),
         ext AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
         rel AS (SELECT c.* FROM pg_class c JOIN ns ON ns.oid = c.relnamespace
                  WHERE NOT EXISTS (SELECT 1 FROM ext WHERE classid = 'pg_class'::regclass AND objid = c.oid)),
         fun AS (SELECT p.* FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace
                  WHERE NOT EXISTS (SELECT 1 FROM ext WHERE classid = 'pg_proc'::regclass AND objid = p.oid)),
         typ AS (SELECT t.* FROM pg_type t JOIN ns ON ns.oid = t.typnamespace
                  WHERE NOT EXISTS (SELECT 1 FROM ext WHERE classid = 'pg_type'::regclass AND objid = t.oid)),
         spc AS (SELECT n.* FROM pg_namespace n JOIN ns ON ns.oid = n.oid
                  WHERE NOT EXISTS (SELECT 1 FROM ext WHERE classid = 'pg_namespace'::regclass AND objid = n.oid))"
    );
    let parts: Vec<String> = KINDS
        .iter()
        .filter(|(kind, _)| takes(kind))
        .map(|(kind, from)| {
            let from = from
                .replace("{publication}", publication_details)
                .replace("{compression}", compression)
                .replace("{nulls}", nulls);
            format!("SELECT '{kind}', {from}")
        })
        .collect();
    format!("{before} {}", parts.join("\nUNION ALL "))
}

/// Each kind with its line and where it comes from.
const KINDS: [(&str, &str); 27] = [
    ("schema", "nspname::text FROM spc"),
    ("extension", "extname || ' ' || extversion || ' in ' || extnamespace::regnamespace::text FROM pg_extension"),
    ("relation", "c.oid::regclass::text || ' ' || c.relkind::text || c.relpersistence::text || ' populated=' || c.relispopulated
        || ' options=' || coalesce(c.reloptions::text, '') || ' identity=' || c.relreplident::text
        || coalesce(' partitioned by ' || pg_get_partkeydef(c.oid), '') || ' of type ' || c.reloftype::regtype::text
        FROM rel c WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"),
    ("rls", "c.oid::regclass::text || ' enabled=' || c.relrowsecurity || ' forced=' || c.relforcerowsecurity
        FROM rel c WHERE relkind IN ('r', 'p')"),
    ("column", "a.attrelid::regclass::text || '.' || quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) || ' notnull=' || a.attnotnull
        || ' identity=' || a.attidentity::text || ' generated=' || a.attgenerated::text || ' collation=' || a.attcollation::regcollation::text
        || ' default=' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' storage=' || a.attstorage::text || {compression}
        || ' options=' || coalesce(a.attoptions::text, '') || ' local=' || a.attislocal
        FROM pg_attribute a JOIN rel c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"),
    ("index", "pg_get_indexdef(i.indexrelid) || ' valid=' || i.indisvalid || ' ready=' || i.indisready || ' clustered=' || i.indisclustered
        || ' identity=' || i.indisreplident || {nulls} FROM pg_index i JOIN rel c ON c.oid = i.indrelid"),
    ("constraint", "k.conrelid::regclass::text || ' ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid) || ' validated=' || k.convalidated
        FROM pg_constraint k JOIN rel c ON c.oid = k.conrelid"),
    ("domain constraint", "k.contypid::regtype::text || ' ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN typ t ON t.oid = k.contypid"),
    ("type", "t.oid::regtype::text || ' ' || t.typtype::text || CASE WHEN t.typtype = 'd' THEN ' ' || format_type(t.typbasetype, t.typtypmod)
        || ' notnull=' || t.typnotnull || ' default=' || coalesce(t.typdefault, '') || ' collation=' || t.typcollation::regcollation::text
        WHEN t.typtype = 'r' THEN ' ' || (SELECT r.rngsubtype::regtype::text FROM pg_range r WHERE r.rngtypid = t.oid) ELSE '' END
        FROM typ t WHERE t.typtype IN ('d', 'r', 'b') AND t.typelem = 0 OR t.typtype IN ('d', 'r')"),
    ("enum", "e.enumtypid::regtype::text || ' ' || string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
        FROM pg_enum e JOIN typ t ON t.oid = e.enumtypid GROUP BY e.enumtypid"),
    ("trigger", "pg_get_triggerdef(g.oid) || ' enabled=' || g.tgenabled::text FROM pg_trigger g JOIN rel c ON c.oid = g.tgrelid WHERE NOT g.tgisinternal AND g.tgname NOT IN ('zz_lifeboat_fence', 'zz_lifeboat_watch')"),
    ("policy", "p.polrelid::regclass::text || ' ' || quote_ident(p.polname) || ' ' || p.polcmd::text || ' permissive=' || p.polpermissive || ' to '
        || (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ',' ORDER BY r::regrole::text) FROM unnest(p.polroles) r)
        || ' using ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || ' check ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
        FROM pg_policy p JOIN rel c ON c.oid = p.polrelid"),
    ("function", "p.oid::regprocedure::text || ' ' || p.prokind::text || ' ' || CASE p.prokind WHEN 'a' THEN '' ELSE md5(pg_get_functiondef(p.oid)) END FROM fun p"),
    ("view", "c.oid::regclass::text || ' ' || md5(pg_get_viewdef(c.oid)) FROM rel c WHERE c.relkind IN ('v', 'm')"),
    ("rule", "pg_get_ruledef(r.oid) || ' enabled=' || r.ev_enabled::text FROM pg_rewrite r JOIN rel c ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'"),
    ("sequence", "s.seqrelid::regclass::text || ' ' || format_type(s.seqtypid, NULL) || ' ' || s.seqstart || ' by ' || s.seqincrement || ' '
        || s.seqmin || '..' || s.seqmax || ' cache=' || s.seqcache || ' cycle=' || s.seqcycle FROM pg_sequence s JOIN rel c ON c.oid = s.seqrelid"),
    ("sequence owner", "d.objid::regclass::text || ' of ' || d.refobjid::regclass::text || '.' || a.attname FROM pg_depend d JOIN rel c ON c.oid = d.objid
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE c.relkind = 'S' AND d.deptype IN ('a', 'i')
        AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0"),
    ("inheritance", "h.inhrelid::regclass::text || ' of ' || h.inhparent::regclass::text || ' ' || coalesce(pg_get_expr(c.relpartbound, c.oid), '')
        FROM pg_inherits h JOIN rel c ON c.oid = h.inhrelid"),
    ("publication", "quote_ident(p.pubname) || ' all=' || b.puballtables || ' ' || b.pubinsert || b.pubupdate || b.pubdelete || b.pubtruncate || ' '
        || quote_ident(p.schemaname) || '.' || quote_ident(p.tablename) || ' ' || {publication} FROM pg_publication_tables p JOIN pg_publication b USING (pubname)"),
    ("event trigger", "quote_ident(evtname) || ' ' || evtevent || ' ' || coalesce(evttags::text, '') || ' enabled=' || evtenabled::text || ' ' || evtfoid::regproc::text
        FROM pg_event_trigger t WHERE NOT EXISTS (SELECT 1 FROM ext WHERE classid = 'pg_event_trigger'::regclass AND objid = t.oid)"),
    ("statistics", "pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s JOIN ns ON ns.oid = s.stxnamespace"),
    ("foreign", "s.srvname || ' ' || coalesce(s.srvoptions::text, '') || ' ' || w.fdwname FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw"),
    ("object", "i.type || ' ' || i.identity FROM (
        SELECT 'pg_operator'::regclass AS class, oid, oprnamespace AS space FROM pg_operator UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace FROM pg_opclass
        UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace FROM pg_opfamily UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace FROM pg_collation
        UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace FROM pg_conversion UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
        UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace FROM pg_ts_dict) o JOIN ns ON ns.oid = o.space, LATERAL pg_identify_object(o.class, o.oid, 0) i
        WHERE NOT EXISTS (SELECT 1 FROM ext WHERE ext.classid = o.class AND ext.objid = o.oid)"),
    ("comment", "coalesce(pg_describe_object(d.classoid, d.objoid, d.objsubid), '') || ' ' || quote_literal(d.description) FROM pg_description d
        WHERE (d.objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass AND d.objoid = 2200)
        AND NOT EXISTS (SELECT 1 FROM ext WHERE ext.classid = d.classoid AND ext.objid = d.objoid)
        AND d.classoid NOT IN ('pg_extension'::regclass, 'pg_largeobject'::regclass)
        AND (d.classoid <> 'pg_namespace'::regclass OR d.objoid IN (SELECT oid FROM ns WHERE nspname <> 'public')) AND NOT EXISTS (SELECT 1 FROM pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        WHERE i.schema IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ns WHERE quote_ident(ns.nspname) = i.schema))"),
    ("owner", "o.line FROM (SELECT 'schema ' || n.nspname || ' ' || n.nspowner::regrole::text AS line FROM spc n
        UNION ALL SELECT c.oid::regclass::text || ' ' || c.relowner::regrole::text FROM rel c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL SELECT p.oid::regprocedure::text || ' ' || p.proowner::regrole::text FROM fun p
        UNION ALL SELECT t.oid::regtype::text || ' ' || t.typowner::regrole::text FROM typ t WHERE t.typtype IN ('d', 'e', 'r')) o"),
    ("acl", "o.line || ' to ' || CASE o.grantee WHEN 0 THEN 'PUBLIC' ELSE o.grantee::regrole::text END || ' ' || o.privilege_type || CASE WHEN o.is_grantable THEN '*' ELSE '' END FROM (
        SELECT 'schema ' || n.nspname AS line, a.* FROM spc n, LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
        UNION ALL SELECT c.oid::regclass::text, a.* FROM rel c, LATERAL aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))) a
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL SELECT c.oid::regclass::text || '.' || quote_ident(t.attname), a.* FROM rel c JOIN pg_attribute t ON t.attrelid = c.oid, LATERAL aclexplode(t.attacl) a WHERE NOT t.attisdropped
        UNION ALL SELECT p.oid::regprocedure::text, a.* FROM fun p, LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        UNION ALL SELECT t.oid::regtype::text, a.* FROM typ t, LATERAL aclexplode(t.typacl) a WHERE t.typtype IN ('d', 'e', 'r')) o"),
    ("default acl", "d.defaclrole::regrole::text || ' ' || d.defaclnamespace::regnamespace::text || ' ' || d.defaclobjtype::text || ' '
        || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END || ' ' || a.privilege_type || a.is_grantable
        FROM pg_default_acl d, LATERAL aclexplode(d.defaclacl) a WHERE d.defaclnamespace = 0 OR d.defaclnamespace IN (SELECT oid FROM ns)"),
];
