//! Large objects: bytes that belong to no table. They travel as rows of `(object, offset, bytes)` in one stream.

use std::io::Read;

use super::{PgError, Selection, Session};

/// What is there.
pub(super) struct LargeObjects {
    /// How many.
    pub count: u64,
    /// All bytes of them.
    pub bytes: u64,
    /// Statements that make them, empty, with owners, grants and comments.
    pub statements: Vec<String>,
}

/// What comes after COPY to read all pieces of all large objects. A size is known only by going to the end, so each is
/// opened once. A piece has 64 KiB, a row, in hex, twice that; the rows come in the order of objects and offsets.
pub(super) const COPY_SOURCE: &str = "(SELECT o.oid, p.place, pg_catalog.lo_get(o.oid, p.place, 65536)
      FROM (SELECT s.oid, pg_catalog.lo_lseek64(s.fd, 0, 2) AS size, pg_catalog.lo_close(s.fd)
              FROM (SELECT m.oid, pg_catalog.lo_open(m.oid, 262144) AS fd
                      FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid OFFSET 0) s OFFSET 0) o,
           LATERAL pg_catalog.generate_series(0, o.size - 1, 65536) AS p(place))";

/// Lists large objects; none when there are none, or when only some schemas are meant, since they are in no schema.
pub(super) fn list(session: &mut Session, selection: &Selection) -> Result<Option<LargeObjects>, PgError> {
    if !selection.only.is_empty() {
        return Ok(None);
    }
    let row = session.one(
        "SELECT count(*), COALESCE(sum(pg_catalog.lo_lseek64(s.fd, 0, 2) + pg_catalog.lo_close(s.fd)), 0)
           FROM (SELECT pg_catalog.lo_open(m.oid, 262144) AS fd FROM pg_catalog.pg_largeobject_metadata m OFFSET 0) s",
    )?;
    if row.count(0) == 0 {
        return Ok(None);
    }
    let (count, bytes) = (row.count(0), row.count(1));
    Ok(Some(LargeObjects { count, bytes, statements: statements(session)? }))
}

fn statements(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(
        "SELECT l.line FROM pg_catalog.pg_largeobject_metadata m, LATERAL (
           SELECT 1 AS place, pg_catalog.format('SELECT pg_catalog.lo_create(%s)', m.oid) AS line
           UNION ALL SELECT 2, pg_catalog.format('ALTER LARGE OBJECT %s OWNER TO %I', m.oid, pg_catalog.pg_get_userbyid(m.lomowner))
           UNION ALL SELECT 3, pg_catalog.format('REVOKE ALL ON LARGE OBJECT %s FROM %I', m.oid, pg_catalog.pg_get_userbyid(m.lomowner))
                      WHERE m.lomacl IS NOT NULL
           UNION ALL SELECT 4, pg_catalog.format('GRANT %s ON LARGE OBJECT %s TO %s%s', a.privilege_type, m.oid,
                       CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                       FROM pg_catalog.aclexplode(m.lomacl) a
           UNION ALL SELECT 5, pg_catalog.format('COMMENT ON LARGE OBJECT %s IS %L', m.oid, pg_catalog.obj_description(m.oid, 'pg_largeobject'))
                      WHERE pg_catalog.obj_description(m.oid, 'pg_largeobject') IS NOT NULL) l
          ORDER BY m.oid, l.place, l.line",
    )?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Fills large objects, which are there already, with the pieces in a stream.
pub(super) fn fill(session: &mut Session, source: &mut dyn Read, told: &dyn Fn(u64)) -> Result<(), PgError> {
    session.run("CREATE TEMPORARY TABLE lifeboat_pieces(object oid, place bigint, bytes bytea) ON COMMIT DROP")?;
    session.copy_in("COPY pg_temp.lifeboat_pieces FROM STDIN", source, told)?;
    session.run("SELECT count(pg_catalog.lo_put(object, place, bytes)) FROM pg_temp.lifeboat_pieces")
}
