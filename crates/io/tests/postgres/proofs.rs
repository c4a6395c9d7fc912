//! What a proof must see in a copy, by the names of the requirements; and a copy that does nothing by itself.

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        CaptureOptions, Captured, PgError, Restore, RestoreOptions, SchemaSwap, Selection, check_database,
        compare_facts, compare_seen, create_database, extension_schemas, inspect, quarantine, restore, swap_schemas,
    },
};
use lifeboat_model::{Check, PostgresFacts, SchemaNames, Tri};

use crate::{
    helpers::{Memory, address, open, try_capture},
    servers::Server,
    supabase::{customer, project},
};

/// A project with a copy beside it, made by the superuser, so that owners and grants are there.
fn copied(major: u32) -> (Server, Captured, Memory) {
    let server = project(major);
    let memory = Memory::default();
    let options = CaptureOptions { selection: Selection::supabase(), ..CaptureOptions::default() };
    let captured =
        try_capture(&server, &address(&server.url("postgres")), &options, &memory, &Stop::default()).unwrap();
    fill(&server, &captured, &memory).unwrap();
    (server, captured, memory)
}

fn fill(server: &Server, captured: &Captured, memory: &Memory) -> Result<(), PgError> {
    create_database(&mut open(server, "template1"), "copy", &captured.facts.database)?;
    let (copy, clock) = (address(&server.url("copy")), SystemClock::default());
    let options = RestoreOptions { stand_ins: true, ..RestoreOptions::default() };
    let what = Restore {
        address: &copy,
        facts: &captured.facts,
        entries: &captured.entries,
        clock: &clock,
        options: &options,
    };
    restore(&what, memory, &Stop::default(), &|_, _| ()).map(drop)
}

/// All that a proof looks at in the copy.
fn checks(server: &Server, captured: &PostgresFacts) -> Vec<Check> {
    let except = extension_schemas(&mut open(server, "copy"), &captured.schemas).unwrap();
    assert_eq!(except, ["extensions", "supabase_functions"], "what is there for the platform alone");
    let selection = Selection { only: vec![], except };
    let options = CaptureOptions { selection, ..CaptureOptions::default() };
    let copy = address(&server.url("copy"));
    let found = inspect(&copy, &options, &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap();
    let mut session = open(server, "copy");
    let mut checks = compare_facts(captured, &found, true);
    checks.extend(compare_seen(&mut session, captured, &found, true));
    checks.extend(check_database(&mut session));
    checks
}

/// Which checks fail after something was done to the copy.
fn failed(server: &Server, captured: &PostgresFacts, harm: &str) -> Vec<String> {
    server.sql("copy", harm);
    let failed = checks(server, captured).into_iter().filter(|check| check.outcome == Tri::Fail);
    failed.map(|check| format!("{}: {}", check.name, check.detail)).collect()
}

fn has(failed: &[String], what: &str) -> bool {
    failed.iter().any(|line| line.starts_with(what))
}

#[test]
fn vfy_10_policies_that_are_listed_and_do_not_hold_fail() {
    let (server, captured, _) = copied(15);
    assert_eq!(failed(&server, &captured.facts, "SELECT 1"), Vec::<String>::new(), "the copy is good");
    let found = failed(&server, &captured.facts, "ALTER TABLE public.orders DISABLE ROW LEVEL SECURITY");
    assert_eq!(server.sql("copy", "SELECT count(*) FROM pg_policies WHERE tablename = 'orders'"), "1", "still listed");
    assert!(has(&found, "definitions: rls") && !has(&found, "definitions: policy"), "{found:?}");
    // Who asks as that role sees it too.
    let sees =
        "what authenticated sees: it sees more than it should: 300 rows of public.orders, and 0 when it was captured";
    assert!(found.iter().any(|line| line == sees), "{found:?}");
}

#[test]
fn vfy_11_a_trigger_that_is_switched_off_fails() {
    let (server, captured, _) = copied(16);
    let found = failed(&server, &captured.facts, "ALTER TABLE public.orders DISABLE TRIGGER touched");
    assert!(has(&found, "definitions: trigger") && found.len() == 1, "{found:?}");
    let found = failed(&server, &captured.facts, "ALTER TABLE auth.users DISABLE TRIGGER on_auth_user_created");
    assert!(has(&found, "definitions: trigger"), "{found:?}");
}

#[test]
fn vfy_12_a_row_without_its_parent_fails() {
    let (server, captured, _) = copied(15);
    let harm = "SET session_replication_role = replica; DELETE FROM auth.users WHERE email = 'u3@example.org'";
    let found = failed(&server, &captured.facts, harm);
    assert!(
        found.iter().any(|line| line.starts_with("foreign keys: ") && line.contains("have no row in auth.users")),
        "{found:?}"
    );
}

#[test]
fn vfy_13_a_materialized_view_without_its_rows_fails() {
    let (server, captured, _) = copied(15);
    let found = failed(&server, &captured.facts, "REFRESH MATERIALIZED VIEW public.busiest WITH NO DATA");
    assert!(has(&found, "definitions: relation"), "{found:?}");
}

/// What a role may see grows without any policy changing: by a grant, by a function that policies ask, by a role above them.
#[test]
fn a_role_that_sees_more_in_a_copy_fails_the_proof() {
    let (server, captured, _) = copied(15);
    let seen = &captured.facts.seen;
    assert_eq!(seen["authenticated"]["public.log"], 10, "{seen:?}");
    assert_eq!(seen["authenticated"]["public.orders"], 0, "nobody has said who asks");
    assert!(!seen["anon"].contains_key("auth.users") && !seen.contains_key("postgres"), "{seen:?}");
    for (harm, what) in [
        (
            "GRANT SELECT ON auth.users TO anon",
            "what anon sees: it sees more than it should: 20 rows of auth.users, and 0",
        ),
        (
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '00000000-0000-0000-0000-000000000007'::uuid $$",
            "what authenticated sees: it sees more",
        ),
    ] {
        let found = failed(&server, &captured.facts, harm);
        assert!(has(&found, what), "{found:?}");
    }
}

/// The rows of a table are gone from the file, and the manifest still counts them: as `supabase db dump` would leave it.
#[test]
fn bkp_16_a_dump_without_rows_is_refused_while_the_manifest_counts_them() {
    let (server, captured, memory) = copied(15);
    server.sql("template1", "DROP DATABASE copy");
    let path = captured.facts.tables["public.orders"].parts[0].path.clone();
    memory.files.lock().unwrap().insert(path, Vec::new());
    let error = fill(&server, &captured, &memory).unwrap_err();
    let says = |error: &PgError| {
        error.to_string().contains("public.orders is damaged: 0 rows") && error.to_string().contains("300")
    };
    assert!(says(&error), "{error}");
    // Nor does it take the place of what is live.
    let names = [SchemaNames { live: "public".into(), kept: Some("public_before_x".into()) }];
    let (clock, Captured { facts, entries, .. }) = (SystemClock::default(), &captured);
    let what =
        SchemaSwap { names: &names, facts, entries, clock: &clock, lock_wait_ms: 300, quiet: false, leaving: None };
    let error = swap_schemas(&mut customer(&server), &what, &memory, &Stop::default(), &|_, _| ()).unwrap_err();
    assert!(says(&error), "{error}");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM public.orders"), "300");
}

#[test]
fn a_copy_in_quarantine_fetches_runs_and_calls_nothing() {
    let server = Server::start(15);
    server.sql(
        "postgres",
        "CREATE TABLE t (id int); CREATE EXTENSION postgres_fdw; CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.internal');
         CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'x', password 'y'); CREATE USER MAPPING FOR PUBLIC SERVER other;
         CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint, schedule text, active boolean); INSERT INTO cron.job VALUES (1, '* * * * *', true), (2, '@daily', false);
         CREATE SCHEMA supabase_functions; CREATE FUNCTION supabase_functions.http_request() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it called'; END $$;
         CREATE TRIGGER hook AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION supabase_functions.http_request('https://shop.example/hook');
         CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM net.http_post('https://shop.example'); RETURN new; END $$;
         CREATE TRIGGER own_hook AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION own();
         CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
         CREATE TRIGGER stays BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION harmless()",
    );
    server.sql("postgres", "CREATE SUBSCRIPTION feed CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false, slot_name = 'the_slot')");
    server.sql("postgres", "ALTER SUBSCRIPTION feed ENABLE");
    let notes = quarantine(&mut open(&server, "postgres")).unwrap();
    assert_eq!(
        notes,
        [
            "The subscription \"feed\" is switched off, and has no slot.",
            "1 jobs of cron are switched off.",
            "2 mappings into other servers are taken away.",
            "The trigger hook of public.t reaches out of the database, and is switched off.",
            "The trigger own_hook of public.t reaches out of the database, and is switched off.",
        ]
    );
    assert_eq!(server.sql("postgres", "SELECT subenabled, subslotname IS NULL FROM pg_subscription"), "f|t");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM cron.job WHERE active"), "0");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_user_mappings"), "0");
    server.sql("postgres", "INSERT INTO t VALUES (1)");
    assert_eq!(
        server.sql("postgres", "SELECT count(*) FROM pg_trigger WHERE tgname = 'stays' AND tgenabled = 'O'"),
        "1"
    );
    // Again: nothing is left to switch off; and what is dropped takes nothing of the publisher's along.
    assert_eq!(
        quarantine(&mut open(&server, "postgres")).unwrap(),
        ["The subscription \"feed\" is switched off, and has no slot."]
    );
    server.sql("postgres", "DROP SUBSCRIPTION feed");
}

/// An index whose order is not its operators' any more - what another version of a library does - and a collation that says so.
#[test]
fn an_index_out_of_order_and_a_collation_of_another_version_fail() {
    let (server, captured, _) = copied(15);
    let sound = "CREATE FUNCTION compare_odd(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(a, b)';
         CREATE OPERATOR CLASS odd FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
             FUNCTION 1 compare_odd(int, int);
         CREATE TABLE public.sorted AS SELECT n FROM generate_series(1, 500) n; CREATE INDEX ON public.sorted (n odd)";
    let found = failed(&server, &captured.facts, sound);
    assert!(!has(&found, "index structure") && !has(&found, "collation versions"), "{found:?}");
    let other = "CREATE OR REPLACE FUNCTION compare_odd(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(b, a)'";
    let found = failed(&server, &captured.facts, other);
    assert!(has(&found, "index structure") && !has(&found, "collation versions"), "{found:?}");
    assert_eq!(
        server.sql("copy", "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'"),
        "0",
        "only for the look"
    );
    let older = "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'copy'";
    let found = failed(&server, &captured.facts, older);
    assert!(
        found.iter().any(|line| line.starts_with("collation versions") && line.contains("the database")),
        "{found:?}"
    );
}
