//! Schemas take others' places inside one database, and give them back: what goes wrong without each step is a test.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        Captured, PgError, SchemaSwap, SchemasSwapped, Selection, Session, SwapState, dependents, drop_kept_schemas,
        exchange_schemas, exchange_state, fingerprint, schemas_preflight, schemas_state, swap_schemas,
    },
};
use lifeboat_model::{SchemaNames, SchemaReturn};

use crate::{
    helpers::{Memory, address, open},
    servers::Server,
    supabase::{MAJORS, captured, customer, project},
};

fn names(schemas: &[&str]) -> Vec<SchemaNames> {
    let one = |live: &&str| SchemaNames { live: (*live).to_owned(), kept: Some(format!("{live}_before_x")) };
    schemas.iter().map(one).collect()
}

fn back(schemas: &[&str]) -> Vec<SchemaReturn> {
    let one = |live: &&str| SchemaReturn {
        live: (*live).to_owned(),
        returns: Some(format!("{live}_before_x")),
        becomes: Some(format!("{live}_undone_x")),
    };
    schemas.iter().map(one).collect()
}

/// Schemas out of a backup, into the database as it is.
struct Swap {
    names: Vec<SchemaNames>,
    captured: Captured,
    memory: Memory,
}

impl Swap {
    fn of(server: &Server, schemas: &[&str]) -> Swap {
        let (captured, memory) = captured(server, Selection::supabase());
        Swap { names: names(schemas), captured, memory }
    }

    fn what<'a>(&'a self, clock: &'a SystemClock) -> SchemaSwap<'a> {
        let Captured { facts, entries, .. } = &self.captured;
        SchemaSwap { names: &self.names, facts, entries, clock, lock_wait_ms: 300, quiet: false, leaving: None }
    }

    fn preflight(&self, session: &mut Session) -> Result<(), PgError> {
        schemas_preflight(session, &self.what(&SystemClock::default()))
    }

    fn run(&self, session: &mut Session) -> Result<SchemasSwapped, PgError> {
        let clock = SystemClock::default();
        self.preflight(session)?;
        swap_schemas(session, &self.what(&clock), &self.memory, &Stop::default(), &|_, _| ())
    }

    fn must(&self, server: &Server) -> SchemasSwapped {
        self.run(&mut customer(server)).unwrap()
    }
}

fn exchange(server: &Server, all: &[SchemaReturn]) -> SchemasSwapped {
    exchange_schemas(&mut customer(server), all, None, &SystemClock::default(), &Stop::default()).unwrap()
}

/// All definitions, and the rows of every table, sequences too.
fn all_of(server: &Server) -> (lifeboat_io::database::postgres::Fingerprint, String) {
    let mut session = open(server, "postgres");
    let definitions = fingerprint(&mut session, &Selection::default()).unwrap();
    let tables = session
        .ask("SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'S' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'S', 'm') AND n.nspname IN ('public', 'auth', 'storage', 'private', 'supabase_migrations') ORDER BY 1")
        .unwrap();
    let rows = tables.iter().map(|row| {
        let name = row.text(0);
        let sql = match row.is_true(1) {
            true => format!("SELECT last_value FROM {name}"),
            false => format!("SELECT md5(COALESCE(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {name} t"),
        };
        format!("{name} {}", session.value(&sql).unwrap())
    });
    let rows = rows.collect::<Vec<_>>().join("\n");
    (definitions, rows)
}

const SINCE: &str = "INSERT INTO public.orders (owner, total) SELECT id, 999 FROM auth.users LIMIT 7;
    INSERT INTO auth.users VALUES ('00000000-0000-0000-0000-00000000aaaa', 'late@example.org', '{\"name\": \"late\"}');
    UPDATE public.orders SET status = 'sent' WHERE id < 10; DROP VIEW public.turnover; CREATE TABLE public.newer (x int);
    SET ROLE postgres; CREATE PUBLICATION another FOR TABLE public.log; RESET ROLE; CREATE INDEX by_total ON public.orders (total);
    COMMENT ON SCHEMA public IS 'the shop''s own'";

#[test]
fn schemas_take_the_place_of_others_and_give_it_back() {
    for major in MAJORS {
        let server = project(major);
        let schemas = ["public", "private", "supabase_migrations"];
        let swap = Swap::of(&server, &schemas);
        let captured_rows =
            server.sql("postgres", "SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM public.orders o");
        let sequence = "SELECT last_value FROM public.orders_id_seq";
        server.sql("postgres", SINCE);
        let (given_out, before) = (server.sql("postgres", sequence), all_of(&server));
        let swapped = swap.must(&server);
        assert_eq!(swapped.rows, 300 + 20 + 10 + 6 + 2, "{swapped:?}");
        assert_eq!(swapped.types_moved, 3, "{swapped:?}");
        assert_eq!(swapped.pointed, 1, "the trigger on the accounts");
        let mut admin = open(&server, "postgres");
        assert_eq!(schemas_state(&mut admin, &swap.names).unwrap(), SwapState::Done);
        assert_eq!(
            server.sql("postgres", "SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM public.orders o"),
            captured_rows
        );
        assert_eq!(server.sql("postgres", "SELECT to_regclass('public.newer')"), "", "what came later is gone");
        assert_eq!(server.sql("postgres", "SELECT count(*) FROM public_before_x.newer, public_before_x.orders"), "0");
        assert_eq!(server.sql("postgres", "SELECT count(*) FROM public_before_x.orders"), "307");
        // Numbers that were given out are not given out again.
        assert_eq!(server.sql("postgres", sequence), given_out);
        let kept: Vec<&str> = swap.names.iter().map(|names| names.kept.as_deref().unwrap()).collect();
        assert_eq!(dependents(&mut admin, &kept).unwrap(), []);
        // A signup makes its profile in the new table.
        server.sql("postgres", "INSERT INTO auth.users VALUES ('00000000-0000-0000-0000-00000000bbbb', 'new@example.org', '{\"name\": \"new\"}')");
        assert_eq!(server.sql("postgres", "SELECT name FROM public.profiles WHERE id::text LIKE '%bbbb'"), "new");
        server.sql("postgres", "DELETE FROM auth.users WHERE id::text LIKE '%bbbb'");
        let tables = "SELECT string_agg(pubname || ' ' || schemaname || '.' || tablename, ', ' ORDER BY 1) FROM (SELECT * FROM pg_publication_tables ORDER BY 1, 2, 3) p";
        assert_eq!(server.sql("postgres", tables), "another public.log, supabase_realtime public.orders");
        let new = all_of(&server);
        // Again: nothing more to do.
        assert!(swap.preflight(&mut customer(&server)).is_err(), "it is done already");
        let clock = SystemClock::default();
        let again =
            swap_schemas(&mut customer(&server), &swap.what(&clock), &swap.memory, &Stop::default(), &|_, _| ());
        assert_eq!(again.unwrap(), SchemasSwapped::default());
        // A backup that is taken now leaves out what is kept.
        let later = captured(&server, Selection::supabase()).0;
        assert!(later.facts.tables.keys().all(|title| !title.contains("_before_x")), "{:?}", later.facts.tables.keys());
        assert!(!later.pre_data.contains("_before_x"));

        let undone = exchange(&server, &back(&schemas));
        assert_eq!((undone.types_moved, undone.pointed), (3, 1), "{undone:?}");
        let now = all_of(&server);
        assert_eq!(before.0.differences(&now.0), Vec::<String>::new(), "PostgreSQL {major}: undone");
        assert_eq!(before.1, now.1);
        assert_eq!(server.sql("postgres", "SELECT obj_description('public'::regnamespace)"), "the shop's own");
        assert_eq!(exchange_state(&mut admin, &back(&schemas)).unwrap(), SwapState::Done);
        exchange(&server, &back(&schemas));
        // And forth again.
        let forth: Vec<SchemaReturn> = back(&schemas)
            .into_iter()
            .map(|one| SchemaReturn { returns: one.becomes, becomes: one.returns, live: one.live })
            .collect();
        exchange(&server, &forth);
        let now = all_of(&server);
        assert_eq!(new.0.differences(&now.0), Vec::<String>::new(), "PostgreSQL {major}: done again");
        assert_eq!(new.1, now.1);
        drop_kept_schemas(&mut customer(&server), &kept.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .unwrap();
        let now = all_of(&server);
        assert_eq!((new.0.differences(&now.0), &new.1), (Vec::<String>::new(), &now.1), "PostgreSQL {major}: released");
        assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%_x'"), "0");
    }
}

/// One schema only: another one looks into it by a key, a view, a default and column types.
#[test]
fn trap_keys_views_defaults_and_triggers_elsewhere_would_keep_the_old_tables() {
    for major in MAJORS {
        let server = project(major);
        server.sql(
            "postgres",
            "SET ROLE postgres; CREATE FUNCTION public.is_shop(who uuid) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT true $$;
             CREATE TABLE private.notes (id int, who uuid); ALTER TABLE private.notes ENABLE ROW LEVEL SECURITY;
             CREATE POLICY shop ON private.notes USING (public.is_shop(who));
             CREATE FUNCTION private.newest() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT max(id) FROM public.orders; END",
        );
        let swap = Swap::of(&server, &["public"]);
        server.sql("postgres", "INSERT INTO public.orders (owner, total) SELECT id, 999 FROM auth.users LIMIT 7");
        assert_eq!(server.sql("postgres", "SELECT private.newest(), count(*) FROM private.big_orders"), "307|157");
        let before = all_of(&server);
        let swapped = swap.must(&server);
        assert_eq!(swapped.pointed, 6, "{swapped:?}");
        assert_eq!(server.sql("postgres", "SELECT private.newest(), count(*) FROM private.big_orders"), "300|150");
        assert_eq!(dependents(&mut open(&server, "postgres"), &["public_before_x"]).unwrap(), []);
        let refused = server.try_sql(
            "postgres",
            "postgres",
            "INSERT INTO private.invoices (id, order_id, number) VALUES (99, 305, 1)",
        );
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("invoices_order_id_fkey"),
            "it looks into the new table"
        );
        let mut expected = before.0.clone();
        // It stayed a view with its options.
        assert!(
            server
                .sql("postgres", "SELECT reloptions FROM pg_class WHERE relname = 'big_orders'")
                .contains("security_barrier")
        );
        exchange(&server, &back(&["public"]));
        let now = all_of(&server);
        expected.lines.retain(|_, _| true);
        assert_eq!(expected.differences(&now.0), Vec::<String>::new());
        assert_eq!(before.1, now.1);
    }
}

#[test]
fn what_cannot_be_pointed_to_new_tables_is_refused_before_anything_begins() {
    let server = project(15);
    let swap = Swap::of(&server, &["public"]);
    for (make, take, what) in [
        (
            "CREATE MATERIALIZED VIEW private.m AS SELECT * FROM public.log",
            "DROP MATERIALIZED VIEW private.m",
            "private.m",
        ),
        (
            "CREATE TYPE public.later AS ENUM ('a'); CREATE TABLE private.t (x public.later)",
            "DROP TABLE private.t; DROP TYPE public.later",
            "type public.later",
        ),
        (
            "BEGIN; INSERT INTO public.log (what) VALUES ('2pc'); PREPARE TRANSACTION 'half'",
            "ROLLBACK PREPARED 'half'",
            "prepared transaction",
        ),
        ("CREATE PUBLICATION theirs FOR TABLE public.log", "DROP PUBLICATION theirs", "publication theirs"),
        ("CREATE EXTENSION pg_trgm SCHEMA public", "DROP EXTENSION pg_trgm", "the extension pg_trgm"),
    ] {
        server.sql("postgres", make);
        let before = all_of(&server);
        let error = swap.run(&mut customer(&server)).unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
        let now = all_of(&server);
        assert_eq!((before.0.differences(&now.0), before.1), (Vec::<String>::new(), now.1));
        server.sql("postgres", take);
    }
    swap.must(&server);
}

#[test]
fn trap_publics_right_to_use_the_schema_would_be_lost() {
    let server = project(16);
    server.sql("postgres", "CREATE ROLE somebody LOGIN");
    let usage = "SELECT has_schema_privilege('somebody', 'public', 'USAGE'), nspacl, nspowner::regrole FROM pg_namespace WHERE nspname = 'public'";
    let grants = "SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM pg_namespace n, unnest(n.nspacl) x WHERE nspname = 'public'";
    let swap = Swap::of(&server, &["public"]);
    let (before, granted) = (server.sql("postgres", usage), server.sql("postgres", grants));
    let swapped = swap.must(&server);
    assert!(before.starts_with("t|") && server.sql("postgres", usage).starts_with("t|"), "{before}");
    assert_eq!(server.sql("postgres", grants), granted);
    // What a table that is made from now on is granted, is what it was; but for a role that is not ours, which is told.
    server.sql("postgres", "SET ROLE postgres; CREATE TABLE public.later (x int)");
    assert_eq!(server.sql("postgres", "SELECT has_table_privilege('anon', 'public.later', 'INSERT')"), "t");
    assert_eq!(swapped.notes.len(), 1, "{:?}", swapped.notes);
    assert!(swapped.notes[0].contains("FOR ROLE supabase_admin"), "{:?}", swapped.notes);
}

#[test]
fn trap_types_made_again_would_break_prepared_statements() {
    let server = project(15);
    let prepared =
        |session: &mut Session| session.run("PREPARE q AS SELECT id, status FROM public.orders ORDER BY id LIMIT 1");
    let ask = |session: &mut Session| session.ask("EXECUTE q").map(|rows| rows[0].text(1).to_owned());
    let swap = Swap::of(&server, &["public", "private"]);
    let mut client = open(&server, "postgres");
    prepared(&mut client).unwrap();
    let was = ask(&mut client).unwrap();
    swap.must(&server);
    assert_eq!(ask(&mut client).unwrap(), was, "the type was moved");
    exchange(&server, &back(&["public", "private"]));
    assert_eq!(ask(&mut client).unwrap(), was, "and back");
    // What goes wrong where the type is another one: it cannot be moved.
    drop_kept(&server, "_undone_x");
    server.sql("postgres", "ALTER TYPE public.order_status ADD VALUE 'lost'");
    let swapped = swap.must(&server);
    assert_eq!(swapped.types_moved, 2);
    let error = ask(&mut client).unwrap_err().to_string();
    assert!(error.contains("cached plan must not change result type"), "{error}");
}

fn drop_kept(server: &Server, end: &str) {
    let mut session = customer(server);
    let kept = lifeboat_io::database::postgres::kept_schemas(&mut session).unwrap();
    let mine: Vec<String> = kept.into_iter().filter(|name| name.ends_with(end)).collect();
    assert!(!mine.is_empty());
    drop_kept_schemas(&mut session, &mine).unwrap();
}

#[test]
fn trap_dropping_what_is_kept_would_take_a_column_of_the_accounts_along() {
    let server = project(15);
    let swap = Swap::of(&server, &["public", "private"]);
    swap.must(&server);
    // As it would be if the types had not been moved.
    server.sql(
        "postgres",
        "CREATE DOMAIN public_before_x.email AS text; GRANT USAGE ON SCHEMA public_before_x TO supabase_auth_admin;
         ALTER TABLE auth.users ADD COLUMN second_email public_before_x.email",
    );
    let kept = ["public_before_x".to_owned(), "private_before_x".to_owned()];
    let before = all_of(&server);
    let error = drop_kept_schemas(&mut customer(&server), &kept).unwrap_err();
    assert!(
        matches!(&error, PgError::Preflight { found, .. } if found.contains("second_email of table auth.users")),
        "{error}"
    );
    let now = all_of(&server);
    assert_eq!((before.0.differences(&now.0), &before.1), (Vec::<String>::new(), &now.1));
    server.sql("postgres", "ALTER TABLE auth.users DROP COLUMN second_email");
    drop_kept_schemas(&mut customer(&server), &kept).unwrap();
    // A schema that nobody kept is not dropped, whatever is asked.
    let error = drop_kept_schemas(&mut customer(&server), &["public".to_owned()]).unwrap_err();
    assert!(matches!(error, PgError::Preflight { .. }), "{error}");
}

/// Who holds a table when the swap comes to its end: for writing, for reading, in a transaction that is never closed.
#[test]
fn a_lock_that_is_not_had_in_time_changes_nothing() {
    let server = project(15);
    let swap = Swap::of(&server, &["public", "private"]);
    let before = all_of(&server);
    for (held, table) in [
        ("INSERT INTO public.log (what) VALUES ('open')", "log"),
        ("SELECT count(*) FROM private.invoices", "invoices"),
        ("UPDATE public.orders SET total = 1", "orders"),
    ] {
        let mut open_one = open(&server, "postgres");
        open_one.run(&format!("BEGIN; {held}")).unwrap();
        let error = swap.run(&mut customer(&server)).unwrap_err();
        let PgError::Preflight { found, .. } = &error else { panic!("{error}") };
        assert!(found.contains(&format!("process {}", open_one.process())) && found.contains(table), "{found}");
        assert_eq!(schemas_state(&mut customer(&server), &swap.names).unwrap(), SwapState::NotYet);
        open_one.run("ROLLBACK").unwrap();
        let now = all_of(&server);
        // A sequence that gave out a number does not take it back.
        assert_eq!(before.0.differences(&now.0), Vec::<String>::new());
    }
    swap.must(&server);
}

#[test]
fn rows_that_refer_to_an_account_that_is_gone_stop_it_and_change_nothing() {
    let server = project(15);
    let swap = Swap::of(&server, &["public", "private"]);
    server.sql("postgres", "DELETE FROM private.invoices; DELETE FROM public.orders; DELETE FROM auth.users WHERE email = 'u3@example.org'");
    let before = all_of(&server);
    let error = swap.run(&mut customer(&server)).unwrap_err();
    assert!(error.to_string().contains("refer to rows elsewhere that are gone"), "{error}");
    let now = all_of(&server);
    assert_eq!((before.0.differences(&now.0), before.1), (Vec::<String>::new(), now.1));
}

/// Clients write all the time, one signs up, one holds a prepared statement: nobody is ended, nobody's acknowledged row
/// is lost, and after the commit not one row goes into what is kept.
#[test]
fn trap_without_the_last_lock_a_row_would_go_into_the_old_table() {
    for major in MAJORS {
        let server = project(major);
        let schemas = ["public", "private"];
        let swap = Swap::of(&server, &schemas);
        let over = AtomicBool::new(false);
        let (acknowledged, gap) = (AtomicU64::new(0), AtomicU64::new(0));
        let told = std::thread::scope(|scope| {
            for client in 0..3 {
                let (over, acknowledged, gap, server) = (&over, &acknowledged, &gap, &server);
                scope.spawn(move || {
                    let app = address(&server.url_as("postgres", "postgres"));
                    let mut session = Session::open(&app, &Stop::default()).unwrap();
                    let mut last = Instant::now();
                    while !over.load(Ordering::SeqCst) {
                        let sql = match client {
                            0 => "INSERT INTO auth.users VALUES (gen_random_uuid(), NULL, '{\"name\": \"client\"}')",
                            _ => "INSERT INTO public.log (what) VALUES ('client')",
                        };
                        // No session is ended and none fails: each waits, and goes on with the new table.
                        session.run(sql).unwrap();
                        if client > 0 {
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                        gap.fetch_max(last.elapsed().as_millis() as u64, Ordering::SeqCst);
                        last = Instant::now();
                    }
                });
            }
            let go_on = |rows: u64| {
                let then = acknowledged.load(Ordering::SeqCst);
                while acknowledged.load(Ordering::SeqCst) < then + rows {
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            go_on(100);
            let swapped = swap.run(&mut customer(&server));
            let kept = "SELECT count(*) FROM public_before_x.log";
            let told = swapped.map(|swapped| {
                let then = server.sql("postgres", kept);
                go_on(200);
                assert_eq!(server.sql("postgres", kept), then, "no row is late");
                let undone = exchange(&server, &back(&schemas));
                go_on(100);
                (swapped.held_for, undone.held_for)
            });
            over.store(true, Ordering::SeqCst);
            told
        });
        let (held, undone) = told.unwrap();
        println!("PostgreSQL {major}: held for {held:?} and {undone:?}, the clients' longest gap {gap:?} ms");
        let rows = |schema: &str| -> u64 {
            server.sql("postgres", &format!("SELECT count(*) FROM {schema}.log WHERE what = 'client'")).parse().unwrap()
        };
        assert_eq!(rows("public") + rows("public_undone_x"), acknowledged.load(Ordering::SeqCst));
        assert!(rows("public_undone_x") >= 200);
    }
}

/// The server dies anywhere in it: wholly old or wholly new.
#[test]
fn a_server_that_dies_during_a_swap_of_schemas_leaves_old_or_new() {
    let first = project(16);
    let swap = Swap::of(&first, &["public", "private"]);
    first.sql("postgres", "DELETE FROM public.log");
    let (mut old, mut new) = (0, 0);
    for delay_ms in [0, 120, 300, 600, 3000] {
        let mut server = first.copy();
        let address = address(&server.url_as("postgres", "postgres"));
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                let mut session = Session::open(&address, &Stop::default())?;
                let clock = SystemClock::default();
                swap_schemas(&mut session, &swap.what(&clock), &swap.memory, &Stop::default(), &|_, _| ()).map(drop)
            });
            let until = Instant::now() + Duration::from_millis(delay_ms);
            while Instant::now() < until && !swapping.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            server.crash();
            let _ = swapping.join().unwrap(); // whichever: the state tells
        });
        server.restart();
        let state = schemas_state(&mut open(&server, "postgres"), &swap.names).unwrap();
        let rows = server.sql("postgres", "SELECT count(*) FROM public.log");
        match state {
            SwapState::NotYet => assert_eq!((old += 1, rows.as_str()), ((), "0"), "after {delay_ms} ms"),
            SwapState::Done => assert_eq!((new += 1, rows.as_str()), ((), "10"), "after {delay_ms} ms"),
            SwapState::Unknown => panic!("after {delay_ms} ms it is neither"),
        }
        if state == SwapState::NotYet {
            swap.must(&server);
            assert_eq!(server.sql("postgres", "SELECT count(*) FROM public.log"), "10");
        }
    }
    assert!(old > 0 && new > 0, "{old} {new}");
}
