//! A Supabase project: its customer's role is no superuser, and most of what the app leans on belongs to the platform.

use lifeboat_io::{
    Stop,
    database::postgres::{
        CaptureOptions, Captured, Restore, RestoreOptions, Selection, Session, create_database, drop_database, inspect,
        look_at, restore,
    },
};

use crate::{
    helpers::{Memory, address, try_capture},
    servers::{Server, ServerOptions},
};

/// The versions that Supabase runs, or nearly so: it has 15 and 17.
pub const MAJORS: [u32; 2] = [15, 16];

pub fn project(major: u32) -> Server {
    Server::supabase(major, ServerOptions::default())
}

/// A session as the customer has it.
pub fn customer(server: &Server) -> Session {
    Session::open(&address(&server.url_as("postgres", "postgres")), &Stop::default()).unwrap()
}

/// A backup as the customer's role makes it.
pub fn captured(server: &Server, selection: Selection) -> (Captured, Memory) {
    let memory = Memory::default();
    let options = CaptureOptions { selection, ..CaptureOptions::default() };
    let address = address(&server.url_as("postgres", "postgres"));
    let captured = try_capture(server, &address, &options, &memory, &Stop::default()).unwrap();
    (captured, memory)
}

#[test]
fn what_is_the_apps_is_captured_and_comes_back_without_a_superuser() {
    for major in MAJORS {
        let server = project(major);
        let target = look_at(&mut customer(&server)).unwrap();
        assert!(target.is_supabase && !target.role.superuser && target.role.owns_database, "{target:?}");
        let (captured, memory) = captured(&server, Selection::supabase());
        let tables: Vec<&str> = captured.facts.tables.keys().map(String::as_str).collect();
        for table in ["auth.users", "storage.objects", "public.orders", "supabase_migrations.schema_migrations"] {
            assert!(tables.contains(&table), "{tables:?}");
        }
        assert!(!tables.iter().any(|table| table.starts_with("realtime.") || table.starts_with("vault.")));
        let mut admin = customer(&server);
        create_database(&mut admin, "copy", &captured.facts.database).unwrap();
        let copy = address(&server.url_as("postgres", "copy"));
        let clock = lifeboat_io::SystemClock::default();
        let mut options = RestoreOptions { owners_and_grants: false, ..RestoreOptions::default() };
        let into = |options: &RestoreOptions| {
            let what =
                Restore { address: &copy, facts: &captured.facts, entries: &captured.entries, clock: &clock, options };
            restore(&what, &memory, &Stop::default(), &|_, _| ())
        };
        // A webhook calls a function of the platform that no new database has.
        let refused = into(&options).unwrap_err();
        assert!(refused.to_string().contains("calls supabase_functions.http_request"), "{refused}");
        drop_database(&mut admin, "copy").unwrap();
        create_database(&mut admin, "copy", &captured.facts.database).unwrap();
        options.stand_ins = true;
        let notes = into(&options).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains("supabase_functions.http_request")), "{notes:?}");
        let hooks = "SELECT count(*) FROM pg_trigger WHERE tgname = 'tell the shop' AND tgenabled = 'O'";
        assert_eq!(server.sql("copy", hooks), "1");
        server.sql("copy", "INSERT INTO public.log (what) VALUES ('a hook that does nothing'); DELETE FROM public.log WHERE what LIKE 'a hook%'");
        let found = inspect(
            &copy,
            &CaptureOptions { selection: Selection::supabase(), ..CaptureOptions::default() },
            &clock,
            &Stop::default(),
            &|_, _| (),
        )
        .unwrap();
        let rows = |facts: &lifeboat_model::PostgresFacts| -> Vec<(String, u64, String)> {
            facts
                .tables
                .iter()
                .map(|(name, table)| (name.clone(), table.rows.rows, table.rows.digest.clone()))
                .collect()
        };
        assert_eq!(rows(&found), rows(&captured.facts), "PostgreSQL {major}");
    }
}
