//! Plans that put schemas in others' places, proven: failed, killed and repeated at every step, with servers that crash.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{BackupChoice, OperationState, Request, ResourceName, SwapStrategy};
use lifeboat_testkit::{
    World,
    prove::{Case, prove_plan},
    world::restore_of,
};

#[path = "schemas/crashes.rs"]
mod crashes;
#[path = "schemas/salvage.rs"]
mod salvage;
#[path = "writers.rs"]
mod writers;

/// A shop on a server of its own, whose settings ask for a swap of schemas, with one backup and what happened since.
fn shop(major: u32) -> World {
    let mut world = World::on_server(major);
    world.setup.swaps.insert(ResourceName::new("db").unwrap(), SwapStrategy::Schema);
    world.psql(
        "shop",
        "CREATE SCHEMA reports; CREATE VIEW reports.paid AS SELECT id FROM public.orders WHERE cents > 10;
         CREATE TABLE reports.totals (day date, customer bigint REFERENCES public.customers)",
    );
    // Only one schema is the shop's to lose: the other one looks into it.
    let lifeboat_model::ResourceKind::Postgres { schemas, .. } = &mut world.setup.resources[0].kind else { panic!() };
    *schemas = vec!["public".to_owned()];
    world.backup();
    world.psql(
        "shop",
        "INSERT INTO orders (customer, cents) VALUES (1, 77); UPDATE orders SET cents = 1; DROP VIEW turnover",
    );
    world
}

/// A Supabase project, restored by its customer, who is no superuser.
fn project(major: u32) -> World {
    let world = World::on_supabase(major);
    world.backup();
    world.psql(
        "postgres",
        "DELETE FROM public.orders WHERE id % 50 > 10; INSERT INTO public.log (what) VALUES ('since'); DROP VIEW public.turnover",
    );
    world
}

/// Without what every restore begins with: that is proven with the other strategy.
fn restore() -> Request {
    let Request::Restore { resource, from, into, accept_loss, urgent, ack, tablespaces, .. } = restore_of("db") else {
        panic!()
    };
    let without_emergency_backup = Some("it is proven elsewhere".to_owned());
    Request::Restore { resource, from, into, without_emergency_backup, accept_loss, urgent, ack, tablespaces }
}

#[test]
fn a_restore_by_schemas_is_wholly_old_or_wholly_new() {
    let world = shop(15);
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    assert!(plan.notes.iter().any(|note| note.starts_with("Strategy schema, since the settings say so: public")));
    let tried = prove_plan(&Case { world: &world, request: restore(), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn a_supabase_project_is_proven_restored_and_put_back_by_its_customer() {
    let world = project(15);
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let notes = plan.notes.join("\n");
    assert!(notes.contains("Strategy schema, since this is Supabase"), "{notes}");
    assert!(notes.contains("auth, storage stay as they are, since they do not belong to postgres"), "{notes}");
    assert!(!notes.contains("could not be counted"), "{notes}");
    let tables: Vec<&str> = plan.losses[0].what.iter().map(|line| line.table.as_str()).collect();
    assert!(tables.contains(&"public.log") && !tables.iter().any(|table| table.starts_with("auth.")), "{tables:?}");
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    let backup = world.backups().pop().unwrap();
    let proofs = world.engine().proofs(&backup.id).unwrap();
    let checks = proofs.iter().flat_map(|proof| &proof.checks);
    let open: Vec<_> = checks.filter(|check| check.1.outcome != lifeboat_model::Tri::Pass).collect();
    assert!(backup.proven_at.is_some(), "a project's backup is tried by its customer: {open:?}");
    let before = world.look();
    let restored = world.restore("db");
    let kept = world.kept_rows(&restored);
    assert!(kept.tables.iter().any(|table| table.table == "public.log" && table.inserted == 1), "{kept:?}");
    assert!(kept.tables.iter().all(|table| !table.table.starts_with("auth.")), "{kept:?}");
    assert_eq!(world.psql("postgres", "SELECT count(*) FROM public.orders"), "300");
    assert_eq!(world.psql("postgres", "SELECT count(*) FROM public.turnover"), "20");
    assert_eq!(
        world.psql("postgres", "SET ROLE anon; SELECT count(*) FROM public.log"),
        "10",
        "grants are as they were"
    );
    // What stood in for it in the proof's copy stayed there: live is the platform's own.
    let hook =
        "SELECT p.prosrc LIKE '%INTO supabase_functions.hooks%' FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
                 WHERE g.tgname = 'tell the shop' AND g.tgrelid = 'public.log'::regclass AND g.tgenabled = 'O'";
    assert_eq!(world.psql("postgres", hook), "t");
    let undone = world.must(&Request::Undo { operation: restored.id.clone() });
    assert_eq!(world.look().live, before.live);
    let redone = world.must(&Request::Undo { operation: undone.id });
    assert_eq!(world.psql("postgres", "SELECT count(*) FROM public.orders"), "300");
    world.must(&Request::Release { operation: redone.id });
    assert!(world.look().debris.is_empty(), "{:?}", world.look().debris);
}

#[test]
fn an_undo_and_a_release_of_a_swap_of_schemas_happen_or_do_not() {
    let world = shop(15);
    let restored = world.restore("db");
    world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (2, 78)");
    let undo = Request::Undo { operation: restored.id.clone() };
    let release = Request::Release { operation: restored.id };
    for request in [undo, release] {
        let tried = prove_plan(&Case { world: &world, request, undo: false });
        assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    }
}

#[test]
fn a_release_is_refused_while_something_depends_on_what_is_kept() {
    let world = shop(15);
    let restored = world.restore("db");
    let kept = world.psql("shop", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public_before%'");
    world.psql("shop", &format!("CREATE VIEW reports.old AS SELECT * FROM {kept}.orders"));
    let look = world.look();
    let ended = world.run(&Request::Release { operation: restored.id.clone() }).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    assert!(failure.to_string().contains("view reports.old"), "{failure}");
    assert_eq!(world.look(), look);
    world.psql("shop", "DROP VIEW reports.old");
    world.must(&Request::Release { operation: restored.id });
    assert!(world.look().kept.is_empty());
}

/// A role that may make no databases: nothing is tried beside, and the swap compares.
#[test]
fn a_role_that_may_make_no_databases_restores_into_its_schemas() {
    let mut world = World::on_server(15);
    world.psql("postgres", "CREATE ROLE tenant LOGIN; GRANT CREATE ON DATABASE shop TO tenant");
    world.psql(
        "shop",
        "CREATE SCHEMA app AUTHORIZATION tenant; SET ROLE tenant; CREATE TABLE app.t (id bigserial PRIMARY KEY, x text);
         INSERT INTO app.t (x) SELECT 'row' FROM generate_series(1, 5)",
    );
    world.setup.resources[0].kind = lifeboat_model::ResourceKind::Postgres {
        url: lifeboat_testkit::databases::url("tenant", "shop"),
        schemas: vec!["app".to_owned()],
    };
    world.backup();
    world.psql("shop", "DELETE FROM app.t WHERE id < 4");
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let notes = plan.notes.join("\n");
    assert!(notes.contains("Strategy schema, since tenant may not rename databases"), "{notes}");
    assert!(notes.contains("tenant may not make databases"), "{notes}");
    assert!(!plan.phases.iter().any(|phase| phase.name == "restore"), "nothing is filled beside");
    world.restore("db");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM app.t"), "5");
    // The whole schema is gone: it is made, and an undo takes it away again.
    world.psql("shop", "DROP SCHEMA app CASCADE");
    let restored = world.restore("db");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM app.t"), "5");
    world.must(&Request::Undo { operation: restored.id });
    assert_eq!(world.psql("shop", "SELECT to_regclass('app.t') IS NULL"), "t");
}

/// Somebody holds a table when the swap comes to its end: nothing is changed, and the sentence names who.
#[test]
fn a_long_transaction_across_the_swap_leaves_everything_as_it_was() {
    use lifeboat_io::{
        Stop,
        database::postgres::{Address, Session},
        testing::MapEnv,
    };
    let world = shop(15);
    let address = Address::parse(&world.server().url("shop"), &MapEnv::default()).unwrap();
    let mut session = Session::open(&address, &Stop::default()).unwrap();
    session.run("BEGIN; SELECT count(*) FROM public.orders").unwrap();
    let before = world.look();
    let ended = world.run(&restore_of("db")).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    let who = format!("process {} of postgres (lifeboat) holds orders", session.process());
    assert!(failure.to_string().contains(&who), "{failure}");
    // While somebody holds a table, its trigger cannot be taken away; it does nothing, and goes with the next operation.
    assert_eq!(world.look().debris, ["schema lifeboat_watch".to_owned()].into());
    world.psql("shop", "UPDATE orders SET cents = cents");
    assert_eq!(world.psql("shop", "SELECT is_called FROM lifeboat_watch.turn"), "f", "nothing is told any more");
    session.run("ROLLBACK").unwrap();
    world.must(&Request::Fence { resource: ResourceName::new("db").unwrap(), on: false, why: String::new() });
    assert_eq!(world.look(), before);
    world.restore("db");
    assert!(world.look().debris.is_empty());
}

/// RST-30: accounts that are gone, and accounts that are newer, are told before anything begins; what is gone comes back by the
/// command that is told, and the restore goes through then.
#[test]
fn rst_30_accounts_of_a_project_that_differ_from_the_backup_are_told_and_brought_back() {
    let world = World::on_supabase(15);
    world.backup();
    let gone = "00000000-0000-0000-0000-000000000020";
    world.psql(
        "postgres",
        &format!(
            "DELETE FROM private.invoices; DELETE FROM public.orders WHERE owner = '{gone}'; DELETE FROM auth.users WHERE id = '{gone}';
             INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-000000000099', 'new@example.org')"
        ),
    );
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let notes = plan.notes.join("\n");
    assert!(notes.contains("1 rows of auth.users that the backup has are gone"), "{notes}");
    assert!(notes.contains("--table auth.users --apply"), "{notes}");
    assert!(notes.contains("1 rows of auth.users are newer than the backup and stay"), "{notes}");
    assert!(notes.contains("1 rows of auth.identities that the backup has are gone"), "{notes}");
    let ended = world.run(&restore_of("db")).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    assert!(failure.to_string().contains("rows of the backup refer to rows elsewhere that are gone"), "{failure}");
    for table in ["auth.users", "auth.identities"] {
        let resource = ResourceName::new("db").unwrap();
        let (from, table) = (BackupChoice::Latest, table.to_owned());
        world.must(&Request::RestoreTable { resource, from, table, condition: None, insert: true, overwrite: false });
    }
    let account = format!(
        "SELECT email FROM auth.users JOIN auth.identities i ON i.user_id = users.id WHERE users.id = '{gone}'"
    );
    assert_eq!(world.psql("postgres", &account), "u20@example.org");
    let mut again = restore_of("db");
    if let Request::Restore { accept_loss, ack, .. } = &mut again {
        (*accept_loss, *ack) = (lifeboat_model::AcceptLoss::Any, None);
    }
    world.must(&again);
    assert_eq!(world.psql("postgres", "SELECT count(*) FROM public.orders"), "300");
    assert_eq!(world.psql("postgres", "SELECT count(*) FROM auth.users"), "21", "the new account stays");
}

/// A fence that a person has put up goes together with a swap of schemas: new tables stand behind it, and so does what comes back
/// with an undo.
#[test]
fn a_fence_that_a_person_has_put_up_stays_up_through_a_swap_of_schemas_and_its_undo() {
    let world = shop(15);
    let fence =
        |on: bool| Request::Fence { resource: ResourceName::new("db").unwrap(), on, why: "a bad release".into() };
    let refused = || !world.server().try_sql("postgres", "shop", "INSERT INTO log VALUES ('x')").status.success();
    world.must(&fence(true));
    let restored = world.restore("db");
    assert!(refused(), "the new table");
    world.must(&fence(false));
    world.psql("shop", "INSERT INTO log VALUES ('x')");
    world.must(&fence(true));
    world.must(&Request::Undo { operation: restored.id });
    assert!(refused(), "the table that came back");
    world.must(&fence(false));
    world.psql("shop", "INSERT INTO log VALUES ('x')");
}

/// From another environment, where schemas are exchanged: a trigger that calls the web does not act in this one.
#[test]
fn what_comes_from_another_environment_by_schemas_does_not_act_in_this_one() {
    let mut world = shop(15);
    world.psql(
        "shop",
        "CREATE FUNCTION public.call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it called'; PERFORM net.http_post('https://example.org'); END $$;
         CREATE TRIGGER call AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION public.call()",
    );
    world.backup();
    let (scope, resource) = (world.setup.scope.clone(), ResourceName::new("db").unwrap());
    world.setup.scope.environment = "staging".to_owned();
    let mut request = restore_of("db");
    if let Request::Restore { from, accept_loss, without_emergency_backup, .. } = &mut request {
        *from = BackupChoice::Elsewhere { scope, resource, which: Box::new(BackupChoice::Latest) };
        (*accept_loss, *without_emergency_backup) = (lifeboat_model::AcceptLoss::Any, Some("it is a test".into()));
    }
    let plan = world.engine().plan(&request).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("triggers that call the web")), "{:?}", plan.notes);
    world.must(&request);
    world.psql("shop", "INSERT INTO log VALUES ('quiet')");
}
