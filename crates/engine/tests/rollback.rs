//! Releases, and the ways back to them: every plan proven, on a real server with a client that writes all the time.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

#[path = "rollback/older.rs"]
mod older;
#[path = "rollback/proven.rs"]
mod proven;

use lifeboat_engine::consequence::{Consequence, consequence};
use lifeboat_model::{
    Action, FailureKind, OperationState, Profile, ReleaseRecord, ReleaseState, Request, RevertTo, Tri, VersionAsk,
};
use lifeboat_testkit::{
    World,
    delivered::{apply, back, good, run_release, seal, with_migrations, with_releases},
    prove::{Case, prove_plan, prove_steps, prove_ways_out},
};

/// Phase 1 has one migration, phase 2 five, as in the document; the fourth of these has a mistake.
const MIGRATIONS: [(&str, &str); 12] = [
    ("1_tickets.sql", "CREATE TABLE service_tickets (id bigserial PRIMARY KEY, title text NOT NULL)"),
    ("1_tickets_DOWN.sql", "DROP TABLE service_tickets"),
    ("2_templates.sql", "CREATE TABLE task_templates (id bigserial PRIMARY KEY, name text)"),
    ("2_templates_DOWN.sql", "DROP TABLE task_templates CASCADE"),
    (
        "3_tasks.sql",
        "CREATE TABLE service_ticket_tasks (id bigserial PRIMARY KEY, ticket bigint REFERENCES service_tickets)",
    ),
    ("3_tasks_DOWN.sql", "DROP TABLE IF EXISTS service_ticket_tasks"),
    ("4_priority.sql", "ALTER TABLE service_tickets ADD COLUMN priority int NOT NULL DEFAULT 3"),
    ("4_priority_DOWN.sql", "ALTER TABLE service_tickets DROP COLUMN priority"),
    ("5_wrong.sql", "CREATE TABLE half (a int); SELECT 1 / 0"),
    ("5_wrong_DOWN.sql", "DROP TABLE half"),
    ("6_never.sql", "CREATE TABLE never (a int)"),
    ("6_never_DOWN.sql", "DROP TABLE never"),
];

fn revert(to: RevertTo) -> Request {
    let resource = lifeboat_model::ResourceName::new("db").unwrap();
    Request::Version { about: VersionAsk::Revert { resource, to, why: "phase 2 failed".into() } }
}

/// A shop in phase 1, with tickets.
fn phase_one() -> World {
    let world = with_migrations(with_releases(World::on_server(15)), &MIGRATIONS);
    apply(&world, "1_tickets.sql");
    world.psql("shop", "INSERT INTO service_tickets (title) SELECT 'ticket ' || n FROM generate_series(1, 50) n");
    world
}

/// Phase 1 sealed with its backup and known to be good; then phase 2 came, with rows of its own.
fn phase_two() -> World {
    phase_two_of(phase_one())
}

fn phase_two_of(world: World) -> World {
    world.backup();
    world.must(&seal(&world, "phase-1"));
    world.must(&good("phase-1"));
    for name in ["2_templates.sql", "3_tasks.sql", "4_priority.sql"] {
        apply(&world, name);
    }
    run_release(&world, "two");
    world.psql(
        "shop",
        "INSERT INTO task_templates (name) VALUES ('a'), ('b'); INSERT INTO service_tickets (title) VALUES ('later');
         UPDATE service_tickets SET priority = 1 WHERE id <= 4",
    );
    world
}

const TICKETS: &str = "SELECT count(*) || ' ' || md5(string_agg(title, ',' ORDER BY id)) FROM service_tickets";

fn ledger(world: &World) -> String {
    world.psql("shop", "SELECT string_agg(version, ' ' ORDER BY version) FROM schema_migrations").trim().to_owned()
}

fn runs(world: &World) -> String {
    std::fs::read_to_string(world.app("running")).unwrap().trim().to_owned()
}

/// MIG-02: three of five were applied, the fourth failed. These three go, newest first, with their rows in the ledger; nothing is
/// restored, the rows of phase 1 stay, and what was in the tables that go is in a backup.
#[test]
fn mig_02_a_partial_migration_is_taken_back_by_its_down_scripts() {
    let world = phase_two();
    world.psql(
        "shop",
        "DO $$ BEGIN CREATE TABLE half (a int); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
    );
    assert_eq!(ledger(&world), "1 2 3 4", "the fourth of phase 2 has failed and left nothing");
    let tickets = world.psql("shop", TICKETS);
    let request = revert(RevertTo::Version("1".into()));
    let plan = world.engine().plan(&request).unwrap();
    let down = plan.steps().find(|step| step.id.to_string() == "down").unwrap();
    assert_eq!(down.title, "take back 4, 3, 2 in db, newest first, in one transaction");
    let lost: Vec<_> =
        plan.losses.iter().flat_map(|loss| &loss.what).map(|line| (line.table.as_str(), line.rows_lost())).collect();
    let wanted = [("public.service_ticket_tasks", 0), ("public.task_templates", 2), ("public.service_tickets", 4)];
    assert_eq!(lost, wanted, "values of columns that go count too");
    assert!(plan.steps().all(|step| !step.id.to_string().contains("fill")), "nothing is restored");
    let tried = prove_plan(&Case { world: &world, request: request.clone(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&request);
    assert_eq!(ledger(&world), "1");
    let rows = world.kept_rows(&done);
    let rows: Vec<_> = rows.tables.iter().map(|one| (one.table.as_str(), one.inserted, one.updated)).collect();
    assert_eq!(rows, [("public.service_tickets", 0, 4), ("public.task_templates", 2, 0)]);
    assert_eq!(world.psql("shop", TICKETS), tickets, "rows of phase 1 are untouched");
    assert_eq!(world.psql("shop", "SELECT to_regclass('public.task_templates') IS NULL").trim(), "t");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in again')");
    // What the dropped table held is in the emergency backup.
    let kept = world.backups().pop().unwrap();
    let manifest = world.engine().manifest(&kept.id).unwrap();
    assert!(serde_json::to_string(&manifest).unwrap().contains("task_templates"));
    // There is nothing more to take back.
    assert_eq!(world.engine().plan(&request).unwrap().steps().count(), 0);
}

/// A script that is missing, one that would end our transaction, and one that fails: refused or taken back whole.
#[test]
fn mig_03_what_cannot_be_taken_back_whole_is_not_begun() {
    let world = phase_two();
    let request = revert(RevertTo::Steps(3));
    let down = world.app("migrations").join("3_tasks_DOWN.sql");
    std::fs::remove_file(&down).unwrap();
    let refused = world.engine().plan(&revert(RevertTo::Release("phase-1".into()))).unwrap_err();
    assert!(refused.to_string().contains("3 of db has no DOWN script"), "{refused}");
    std::fs::write(&down, "BEGIN; DROP TABLE service_ticket_tasks; COMMIT").unwrap();
    let refused = world.engine().plan(&request).unwrap_err();
    assert!(refused.to_string().contains("does not run inside of a transaction"), "{refused}");
    std::fs::write(&down, "DROP TABLE no_such_table").unwrap();
    let failed = world.run(&request).unwrap();
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!(ledger(&world), "1 2 3 4", "the newer ones came back with it");
    world.psql("shop", "INSERT INTO task_templates (name) VALUES ('writes are let in again')");
}

/// MIG-03: a migration that waits and has no way back is told before it is deployed, whatever was rehearsed or said.
#[test]
fn mig_03_a_missing_down_script_is_not_ready() {
    let world = phase_one();
    let rollback = || world.engine().ready().unwrap().into_iter().find(|one| one.key == "rollback").unwrap();
    let about = world.engine().ready_about("rollback").unwrap();
    world.must(&Request::Attest { about, report: Vec::new(), note: "tried by Ada".into() });
    assert_eq!(rollback().outcome, Tri::Pass);
    std::fs::remove_file(world.app("migrations/3_tasks_DOWN.sql")).unwrap();
    let (outcome, detail) = (rollback().outcome, rollback().detail);
    assert!(outcome == Tri::Fail && detail.contains("no DOWN script leads back from 3_tasks"), "{detail}");
    // One that is applied is no question of readiness.
    for name in ["2_templates.sql", "3_tasks.sql"] {
        apply(&world, name);
    }
    assert_eq!(rollback().outcome, Tri::Pass);
}

/// APP-11, PHS-14: three ledgers, one answer; a sealed script counts, whatever became of the folder since.
#[test]
fn mig_01_ledgers_of_three_tools_say_the_same() {
    let world = World::on_server(15);
    let world = with_migrations(world, &MIGRATIONS);
    let db = lifeboat_model::ResourceName::new("db").unwrap();
    let none = world.engine().applied(&db).unwrap_err();
    assert_eq!(none.kind, FailureKind::Refused);
    world.psql("shop", "CREATE TABLE \"SequelizeMeta\" (name text PRIMARY KEY); INSERT INTO \"SequelizeMeta\" VALUES ('1_tickets.sql')");
    assert_eq!(world.engine().applied(&db).unwrap().versions, ["1_tickets.sql"]);
    assert_eq!(world.engine().scripts(&db, true).unwrap()[0].version, "1_tickets.sql");
    world.psql(
        "shop",
        "CREATE TABLE schema_migrations (version text PRIMARY KEY); INSERT INTO schema_migrations VALUES ('2'), ('1')",
    );
    assert_eq!(world.engine().applied(&db).unwrap().versions, ["1", "2"]);
    world.psql(
        "shop",
        "CREATE SCHEMA supabase_migrations; CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY, name text);
         INSERT INTO supabase_migrations.schema_migrations VALUES ('1', 'tickets');
         CREATE SCHEMA auth; CREATE TABLE auth.schema_migrations (version text); INSERT INTO auth.schema_migrations VALUES ('9')",
    );
    let applied = world.engine().applied(&db).unwrap();
    assert_eq!(
        (applied.ledger.to_string(), applied.versions.len()),
        ("supabase_migrations.schema_migrations".into(), 1)
    );
}

/// MIG-03: up, down, up on a copy of a backup tells how far it can be taken back; nothing of the copy stays, and nothing of the
/// environment is touched.
#[test]
fn mig_03_a_rehearsal_measures_how_far_it_can_be_taken_back() {
    let world = phase_one();
    world.backup();
    let db = lifeboat_model::ResourceName::new("db").unwrap();
    let from = lifeboat_model::BackupChoice::Latest;
    let request = Request::Version { about: VersionAsk::Rehearse { resource: db, from } };
    let write = |name: &str, text: &str| std::fs::write(world.app("migrations").join(name), text).unwrap();
    for name in ["5_wrong", "5_wrong_DOWN", "6_never", "6_never_DOWN"] {
        std::fs::remove_file(world.app("migrations").join(format!("{name}.sql"))).unwrap();
    }
    let tried = prove_plan(&Case { world: &world, request: request.clone(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let class = || {
        let done = world.must(&request);
        let output = done.output(&"rehearse".into()).unwrap();
        format!("{}: {}", output["class"].as_str().unwrap(), output["found"])
    };
    assert_eq!(class(), "down-lossless: []");
    let before = world.look();
    // It takes values along that it cannot bring back.
    write("7_titles.sql", "UPDATE service_tickets SET title = 'new'");
    write("7_titles_DOWN.sql", "UPDATE service_tickets SET title = 'old'");
    let lossy = class();
    assert!(lossy.starts_with("lossy") && lossy.contains("public.service_tickets"), "{lossy}");
    // It forgets a column; it has no DOWN script; it cannot even be applied.
    write("7_titles.sql", "ALTER TABLE service_tickets ADD COLUMN a int, ADD COLUMN b int");
    write("7_titles_DOWN.sql", "ALTER TABLE service_tickets DROP COLUMN a");
    let forgets = class();
    assert!(forgets.starts_with("one-way") && forgets.contains("not as before"), "{forgets}");
    std::fs::remove_file(world.app("migrations/7_titles_DOWN.sql")).unwrap();
    assert!(class().contains("7_titles has no DOWN script"));
    write("7_titles.sql", "ALTER TABLE no_such_table ADD COLUMN a int");
    assert!(class().contains("cannot be applied: 7_titles"));
    assert_eq!(world.look(), before);
}

/// APP-only: no database is touched, or connected to; what goes wrong is put back.
#[test]
fn phs_22_the_application_goes_back_alone() {
    let world = with_releases(World::shop());
    world.must(&seal(&world, "v1"));
    let none = world.engine().plan(&back(None, None)).unwrap_err();
    assert!(none.to_string().contains("known to be good"), "{none}");
    world.must(&good("v1"));
    run_release(&world, "two");
    world.must(&seal(&world, "v2"));
    let tried = prove_ways_out(&Case { world: &world, request: back(None, None), undo: false }, |_step| true);
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&back(None, Some(Profile::AppOnly)));
    assert_eq!(runs(&world), "one");
    assert!(!done.plan.steps().any(|step| matches!(step.action, Action::Postgres(_))));
    let known = world.engine().releases().unwrap();
    let states: Vec<_> = known.iter().map(|one| (one.state, one.is_live)).collect();
    assert_eq!(states, [(ReleaseState::Good, true), (ReleaseState::Bad, false)]);
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(runs(&world), "two");
    let known = world.engine().releases().unwrap();
    assert_eq!((known[1].state, known[1].is_live), (ReleaseState::Live, true), "what was taken back counts no more");
    // And done again, and taken back again.
    let request = back(None, Some(Profile::AppOnly));
    prove_ways_out(&Case { world: &world.copy(), request, undo: true }, |_step| false);
    // A release that is gone from its folder, and one that does not start: as before.
    std::fs::write(world.app("releases/one/broken"), "").unwrap();
    let before = world.look();
    let failed = world.run(&back(Some("v1"), None)).unwrap();
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!(world.look(), before);
    std::fs::remove_dir_all(world.app("releases/one")).unwrap();
    let failed = world.run(&back(Some("v1"), None)).unwrap();
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!(runs(&world), "two");
}

/// PHS-04, PHS-14 (appendix 2): the shortest way that works is taken, and each that does not says why; writes are refused before
/// the application changes, and the former one starts when its schema is there.
#[test]
fn phs_04_old_code_never_meets_the_new_schema() {
    let world = proven::with_variables();
    let tickets = world.psql("shop", TICKETS);
    let refused = world.engine().plan(&back(None, Some(Profile::AppOnly)));
    assert!(refused.is_ok(), "who asks for it by name gets it, with a word of warning");
    let plan = world.engine().plan(&back(None, None)).unwrap();
    let notes = plan.notes.join("\n");
    assert!(notes.contains("Way app-only: does not work, since db differs by 4, 3, 2"), "{notes}");
    assert!(notes.contains("Way app-and-down: this one"), "{notes}");
    assert!(notes.contains("Way full: would work"), "{notes}");
    let order: Vec<String> = plan.steps().map(|step| step.id.to_string()).collect();
    let at = |id: &str| order.iter().position(|one| one == id).unwrap_or_else(|| panic!("{id} in {order:?}"));
    assert!(at("fence.db") < at("stop.web") && at("stop.web") < at("switch.web"), "{order:?}");
    assert!(
        at("keep.store") < at("down") && at("switch.web") < at("down") && at("down") < at("variables.env"),
        "{order:?}"
    );
    assert!(at("variables.env") < at("start.web"), "{order:?}");
    let tried = prove_ways_out(&Case { world: &world, request: back(None, None), undo: false }, |_step| true);
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    world.must(&back(None, None));
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(std::fs::read_to_string(world.app(".env")).unwrap(), "THEME=plain\nKEY=first\n");
    assert_eq!(world.psql("shop", TICKETS), tickets, "rows that came since stay");
}

/// A rollback by DOWN scripts is taken back: the newer version, its migrations, and what left with them.
#[test]
fn a_rollback_that_took_migrations_back_is_taken_back() {
    let world = proven::with_variables();
    let variables = || std::fs::read_to_string(world.app(".env")).unwrap();
    let of_phase_two = variables();
    let tickets = world.psql("shop", TICKETS);
    let done = world.must(&back(None, None));
    assert_eq!(variables(), "THEME=plain\nKEY=first\n");
    // On a copy of now it is tried first.
    let undo = Request::Undo { operation: done.id };
    let refused = world.engine().plan(&undo).unwrap_err();
    assert!(refused.to_string().contains("nothing was backed up since"), "{refused}");
    world.backup();
    let own = ["switch.web", "migrate", "bring-back", "variables.env", "start.web", "let-in.db", "release"];
    let copied = world.copy();
    let tried = prove_steps(&Case { world: &copied, request: undo.clone(), undo: false }, |step| own.contains(&step));
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    world.must(&undo);
    assert_eq!((runs(&world), ledger(&world)), ("two".into(), "1 2 3 4".into()));
    assert_eq!(variables(), of_phase_two, "variables are of phase two again");
    assert_eq!(world.psql("shop", TICKETS), tickets);
    assert_eq!(world.psql("shop", "SELECT string_agg(name, ',' ORDER BY id) FROM task_templates").trim(), "a,b");
    assert_eq!(
        world
            .psql("shop", "SELECT string_agg(id::text, ',' ORDER BY id) FROM service_tickets WHERE priority = 1")
            .trim(),
        "1,2,3,4"
    );
}

/// The database comes back from that release's backup, together with the application: wholly old or wholly new.
#[test]
fn a_full_rollback_brings_application_and_database_back_together() {
    let world = phase_two();
    let request = back(None, Some(Profile::Full));
    let done = world.must(&request);
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "50");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in')");
    let kept = world.kept_rows(&done);
    let tables: Vec<&str> = kept.tables.iter().map(|table| table.table.as_str()).collect();
    assert!(tables.iter().any(|table| table.contains("service_tickets")), "{tables:?}");
}

/// A full rollback is taken back: the database that it kept, and the version that it left. What was written since leaves with the database
/// that was live, which is kept in turn, so that this is taken back as well.
#[test]
fn a_full_rollback_is_taken_back_and_again() {
    let world = phase_two();
    world.must(&seal(&world, "phase-2"));
    let tickets = world.psql("shop", TICKETS);
    let done = world.must(&back(Some("phase-1"), Some(Profile::Full)));
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('since')");
    let undo = Request::Undo { operation: done.id.clone() };
    let plan = world.engine().plan(&undo).unwrap();
    assert_eq!(consequence(&plan), Consequence::RowsLeave, "{:?}", plan.losses);
    let own = ["fence", "stop.web", "switch.web", "take-the-name", "lift", "start.web", "report"];
    let copied = world.copy();
    let tried = prove_steps(&Case { world: &copied, request: undo.clone(), undo: false }, |step| own.contains(&step));
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let undone = world.must(&undo);
    assert_eq!((runs(&world), ledger(&world)), ("two".into(), "1 2 3 4".into()));
    assert_eq!(
        world.psql("shop", TICKETS),
        tickets,
        "nothing of before the rollback is missing, and nothing of after it is there"
    );
    assert_eq!(world.psql("shop", "SELECT string_agg(name, ',' ORDER BY id) FROM task_templates").trim(), "a,b");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in')");
    let known = world.engine().releases().unwrap();
    let live = known.iter().find(|one| one.is_live).unwrap();
    assert_eq!(live.release.label.as_deref(), Some("phase-2"), "{known:?}");
    assert_ne!(live.state, ReleaseState::Bad, "it is not held any more");
    // And back again, with what was written in between.
    let again = world.must(&Request::Undo { operation: undone.id });
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets WHERE title = 'since'").trim(), "1");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in')");
    // Once something else is in use, it is not what was put there; what it keeps can be let go.
    run_release(&world, "two");
    let refused = world.engine().plan(&Request::Undo { operation: again.id.clone() }).unwrap_err();
    assert!(
        refused.to_string().contains("web runs two, and") && refused.to_string().contains("one there"),
        "{refused}"
    );
    world.must(&Request::Release { operation: again.id.clone() });
    let gone = world.engine().plan(&Request::Release { operation: again.id }).unwrap_err();
    assert!(gone.to_string().contains("keeps no database"), "{gone}");
}

fn shadow(of: Option<lifeboat_model::BackupId>) -> Request {
    let resource = lifeboat_model::ResourceName::new("db").unwrap();
    Request::Shadow { resource, of: of.map(lifeboat_model::BackupChoice::Exactly) }
}

fn shadows(world: &World) -> Vec<String> {
    let all = world.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%shadow%' ORDER BY 1");
    all.split_whitespace().map(str::to_owned).collect()
}

/// From which shadow a database was taken; nothing when it was filled out of the vault.
fn taken_from(done: &lifeboat_model::Operation) -> Option<String> {
    let at = done.plan.steps().position(|step| step.id.to_string() == "fill").unwrap();
    let lifeboat_model::StepState::Done { output, .. } = &done.steps[at] else { panic!("not filled") };
    output["shadow"].as_str().map(str::to_owned)
}

/// A copy that lies ready is compared while the app still answers; then it needs a name and nothing else.
#[test]
fn a_shadow_takes_the_place_and_nothing_is_fetched() {
    let world = phase_two();
    let checkpoint = world.backups().remove(0).id;
    world.must(&shadow(Some(checkpoint)));
    let [name] = shadows(&world).try_into().unwrap();
    let request = back(None, Some(Profile::Full));
    let plan = world.engine().plan(&request).unwrap();
    let order: Vec<&str> = plan.phases.iter().map(|phase| phase.name.as_str()).collect();
    let wanted = ["preflight", "app", "restore", "verify", "fence", "emergency-backup", "app-switch", "swap"];
    assert_eq!(order[..8], wanted);
    // Put back, it has its own name again - as long as its sequences were not moved on to where the live ones are.
    let own = ["fill", "fence.db"];
    let tried = prove_steps(&Case { world: &world, request: request.clone(), undo: false }, |step| own.contains(&step));
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&request);
    assert_eq!(taken_from(&done), Some(name));
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "50");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in')");
    assert_eq!(shadows(&world), [""; 0], "it is the live one now");
    let kept = world.kept_rows(&done);
    assert!(kept.tables.iter().any(|table| table.table.contains("service_tickets")), "{:?}", kept.tables);
}

/// What is not what the backup holds any more, or not there, is passed over: the backup is fetched, and all ends the same.
#[test]
fn a_shadow_that_does_not_do_is_passed_over() {
    for spoiled in [true, false] {
        let world = phase_two();
        let checkpoint = world.backups().remove(0).id;
        world.must(&shadow(Some(checkpoint)));
        let [name] = shadows(&world).try_into().unwrap();
        let engine = world.engine();
        let plan = engine.plan(&back(None, Some(Profile::Full))).unwrap();
        match spoiled {
            true => drop(world.psql(&name, "UPDATE service_tickets SET title = 'somebody tried it out' WHERE id = 7")),
            false => drop(world.must(&shadow(None))),
        }
        let done = engine.run(&plan, "tester", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap();
        assert_eq!((done.state.clone(), taken_from(&done)), (OperationState::Done, None));
        assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
        assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets WHERE title LIKE 'ticket %'").trim(), "50");
    }
}

#[test]
fn of_each_database_there_is_at_most_one_shadow() {
    let world = phase_two();
    let first = world.backups().remove(0).id;
    let tried = prove_plan(&Case { world: &world, request: shadow(Some(first.clone())), undo: false });
    assert!(tried.as_meant > 0, "{tried:?}");
    world.must(&shadow(Some(first.clone())));
    let before = shadows(&world);
    // Somebody's own, which is called much the same.
    let others = ["shop_shadow_before_lunch", "shop_shadow_b12345", "shop_shadow_bilou000000"];
    others.iter().for_each(|name| drop(world.psql("postgres", &format!("CREATE DATABASE {name}"))));
    let again = world.engine().plan(&shadow(Some(first))).unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");
    world.backup();
    let second = world.backups().pop().unwrap().id;
    world.must(&shadow(Some(second)));
    let after = shadows(&world);
    assert!(after.len() == 4 && before.iter().all(|gone| !after.contains(gone)), "{before:?} {after:?}");
    world.must(&shadow(None));
    let mut left = others.map(str::to_owned);
    left.sort();
    assert_eq!(shadows(&world), left, "what is somebody's own stays");
    let none = world.engine().plan(&shadow(None)).unwrap_err();
    assert_eq!(none.kind, FailureKind::Refused);
    assert!(none.to_string().contains("there is no shadow of db"), "{none}");
}

/// PHS-19: how long it will take is said from what former ones of its kind have taken, and not from hope.
#[test]
fn phs_19_what_is_expected_is_the_median_of_former_ones() {
    let world = with_releases(World::shop());
    world.must(&seal(&world, "v1"));
    let request = back(Some("v1"), Some(Profile::AppOnly));
    let expected = || {
        let plan = world.engine().plan(&request).unwrap();
        plan.notes.into_iter().find(|note| note.starts_with("Expected: "))
    };
    let is_switch =
        |action: &Action| matches!(action, Action::Target { action: lifeboat_model::TargetAction::Switch { .. }, .. });
    run_release(&world, "two");
    assert_eq!(expected(), None, "nothing was measured yet");
    for seconds in [90, 30, 60] {
        run_release(&world, "two");
        let clock = world.clock.clone();
        let slow = lifeboat_testkit::trouble::with_something_before(&world, is_switch, move || {
            clock.advance(std::time::Duration::from_secs(seconds));
        });
        let plan = slow.plan(&request).unwrap();
        let done = slow.run(&plan, "tester", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap();
        assert_eq!(done.state, OperationState::Done);
    }
    run_release(&world, "two");
    assert_eq!(expected().as_deref(), Some("Expected: 1:00, at most 1:30, of 3 so far."));
}

/// PHS-19: one whose emergency backup had to read everything says nothing of the next, which takes it over; and what that one took
/// says nothing of one for which the server was started anew.
#[test]
fn phs_19_what_is_expected_knows_what_the_emergency_backup_reads() {
    let world = phase_two();
    let ballast = "CREATE TABLE ballast (id int PRIMARY KEY, body text) WITH (fillfactor = 10);
        INSERT INTO ballast SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 5000) i";
    world.psql("shop", ballast);
    let request = back(None, Some(Profile::AppAndDown));
    let planned = || {
        let plan = world.engine().plan(&request).unwrap();
        let store = plan.steps().find(|step| step.id.to_string() == "keep.store").unwrap().title.clone();
        (plan.notes.into_iter().find(|note| note.starts_with("Expected: ")), store)
    };
    let (expected, store) = planned();
    assert!(expected.is_none() && store.ends_with("chunk, compress, encrypt"), "{expected:?}, {store}");
    let clock = world.clock.clone();
    let is_store = |action: &Action| matches!(action, Action::StoreBackup { .. });
    let slow = lifeboat_testkit::trouble::with_something_before(&world, is_store, move || {
        clock.advance(std::time::Duration::from_secs(100));
    });
    let plan = slow.plan(&request).unwrap();
    let done = slow.run(&plan, "tester", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    let again = || {
        for name in ["2_templates.sql", "3_tasks.sql", "4_priority.sql"] {
            apply(&world, name);
        }
        run_release(&world, "two");
    };
    again();
    let seconds = |expected: Option<String>| -> f64 {
        let time = expected.unwrap()["Expected: ".len()..].split(',').next().unwrap().to_owned();
        let parts = time.trim_end_matches(" s").split(':').map(|part| part.parse::<f64>().unwrap());
        parts.fold(0.0, |sum, part| sum * 60.0 + part)
    };
    let (expected, store) = planned();
    assert!(store.contains("take over 3"), "{store}");
    assert!(seconds(expected.clone()) < 10.0, "{expected:?}");
    world.server().crash_and_restart();
    let (expected, store) = planned();
    assert!(store.ends_with("chunk, compress, encrypt"), "{store}");
    assert!((90.0..110.0).contains(&seconds(expected.clone())), "{expected:?}");
}

/// PHS-02: phases and the whole against the document's budgets, by a clock that belongs to the test.
#[test]
fn phs_02_a_phase_over_its_budget_is_told() {
    let world = phase_two();
    let plan = world.engine().plan(&back(None, Some(Profile::Full))).unwrap();
    let budget = |name: &str| plan.phases.iter().find(|phase| phase.name == name).unwrap().budget_ms.unwrap() / 1_000;
    let names = ["app", "fence", "emergency-backup", "restore", "verify", "restart", "report"];
    assert_eq!(names.map(budget), [300, 30, 120, 300, 120, 180, 60]);
    let clock = world.clock.clone();
    let slow = lifeboat_testkit::trouble::with_something_before(
        &world,
        |action| matches!(action, Action::Postgres(lifeboat_model::PgAction::Fill { .. })),
        move || clock.advance(std::time::Duration::from_secs(1_300)),
    );
    let plan = slow.plan(&back(None, Some(Profile::Full))).unwrap();
    let done = slow.run(&plan, "tester", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    assert!(
        done.over_budget.iter().any(|(name, over)| name == "restore" && *over >= 1_000_000),
        "{:?}",
        done.over_budget
    );
    assert!(done.over_budget.iter().all(|(name, _)| name == "restore"), "{:?}", done.over_budget);
    let whole = lifeboat_model::time::since(done.started_at, done.last_at).as_millis() as u64;
    assert_eq!((Profile::of(&done.plan), Profile::Full.judge(whole)), (Some(Profile::Full), "over-max"));
}

/// A sealed release is a record, and a record is said once.
#[test]
fn a_seal_holds_what_leads_back() {
    let world = phase_two();
    let tried = prove_plan(&Case { world: &world, request: seal(&world, "phase-2"), undo: false });
    assert!(tried.as_meant > 0, "{tried:?}");
    let done = world.must(&seal(&world, "phase-2"));
    let Some(Action::Release(ReleaseRecord::Seal { release, .. })) =
        done.plan.steps().map(|step| &step.action).find(|action| matches!(action, Action::Release(_)))
    else {
        panic!("nothing was sealed")
    };
    let schema = &release.databases.values().next().unwrap();
    assert_eq!(schema.applied, ["1", "2", "3", "4"]);
    assert!(schema.migrations.iter().all(|one| one.down.is_some() && one.up.is_some()));
    // The folder of scripts is gone with the bad code; what was sealed leads back all the same.
    for (name, _) in &MIGRATIONS[2..] {
        std::fs::remove_file(world.app("migrations").join(name)).unwrap();
    }
    world.must(&back(None, Some(Profile::AppAndDown)));
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
}
