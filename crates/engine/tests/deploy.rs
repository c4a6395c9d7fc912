//! Deploys: a version that does stays and is good; one that does not goes back by itself, application and database together, and no
//! row is lost. On a real server.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use lifeboat_engine::{Engine, Unwatched};
use lifeboat_io::{Clock, Stop, lease};
use lifeboat_model::{
    Action, DeployAsk, FailureKind, Operation, OperationState, PgAction, ReleaseState, Request, Reversibility,
    StepState, TargetAction, VersionAsk, decision::Source,
};
use lifeboat_testkit::{
    World,
    app::App,
    delivered::{apply, ask_for, deploy, good, seal, with_migrations, with_releases},
    prove::{Case, prove_steps},
    trouble::{InTrouble, Trouble, unless_it_dies, with_something_before, written_before},
};

const MIGRATIONS: [(&str, &str); 8] = [
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
];

/// Version one in phase 1, sealed and good; version two comes with three migrations.
fn phase_one() -> World {
    let world = with_migrations(with_releases(World::on_server(15)), &MIGRATIONS);
    apply(&world, "1_tickets.sql");
    world.psql("shop", "INSERT INTO service_tickets (title) SELECT 'ticket ' || n FROM generate_series(1, 50) n");
    world.backup();
    world.must(&seal(&world, "v-one"));
    world.must(&good("v-one"));
    world
}

fn write(world: &World, name: &str, text: &str) {
    std::fs::write(world.app("migrations").join(name), text).unwrap();
}

/// Version two does not do what it is for.
fn make_sick(world: &World) {
    std::fs::write(world.app("releases/two/sick"), "").unwrap();
}

fn ledger(world: &World) -> String {
    world.psql("shop", "SELECT string_agg(version, ' ' ORDER BY version) FROM schema_migrations").trim().to_owned()
}

fn runs(world: &World) -> String {
    std::fs::read_to_string(world.app("running")).unwrap().trim().to_owned()
}

fn state(world: &World, label: &str) -> (ReleaseState, bool) {
    let known = world.engine().releases().unwrap();
    let one = known.iter().rev().find(|one| one.release.label.as_deref() == Some(label)).unwrap();
    (one.state, one.is_live)
}

fn with(world: &World, change: impl FnOnce(&mut DeployAsk)) -> Request {
    let Request::Version { about: VersionAsk::Deploy(mut ask) } = deploy(world, "two") else { panic!() };
    change(&mut ask);
    Request::Version { about: VersionAsk::Deploy(ask) }
}

fn run_by(engine: &Engine, request: &Request) -> Operation {
    engine.run(&engine.plan(request).unwrap(), "tester", &Unwatched, &Stop::default()).unwrap()
}

fn is_smoke(action: &Action) -> bool {
    let Action::Target { action: TargetAction::Run { argv, .. }, .. } = action else { return false };
    argv.last().is_some_and(|word| word == "smoke")
}

fn is_watch(action: &Action) -> bool {
    matches!(action, Action::Target { action: TargetAction::Watch { .. }, .. })
}

/// PHS-17, MIG-09: rehearsed, applied in one transaction with its rows in the ledger, started, tried, watched, good. Killed, failed and
/// repeated at each step it ends as before or as meant, and what is deployed is told right at the end of each.
#[test]
fn phs_17_a_version_that_does_is_good_and_trouble_at_any_step_leaves_no_half() {
    let world = phase_one();
    let request = deploy(&world, "two");
    let plan = world.engine().plan(&request).unwrap();
    let order: Vec<String> = plan.steps().map(|step| step.id.to_string()).collect();
    let at = |id: &str| order.iter().position(|one| one == id).unwrap_or_else(|| panic!("{id} in {order:?}"));
    assert!(at("rehearse") < at("fence.db") && at("fence.db") < at("stop.web"), "{order:?}");
    assert!(at("stop.web") < at("migrate") && at("migrate") < at("start.web"), "old code never meets the new schema");
    assert_eq!(plan.pivot(), None, "up to its end it can be taken back");
    // What it shares with a restore and a rehearsal is proven there.
    let own = [
        "fence.db",
        "stop.web",
        "switch.web",
        "migrate",
        "start.web",
        "let-in.db",
        "smoke.web",
        "watch.web",
        "release",
    ];
    let tried = prove_steps(&Case { world: &world, request: request.clone(), undo: false }, |step| own.contains(&step));
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&request);
    assert_eq!((runs(&world), ledger(&world)), ("two".into(), "1 2 3 4".into()));
    assert_eq!(done.output(&"rehearse".into()).unwrap()["class"], "down-lossless");
    assert_eq!((state(&world, "v-two"), state(&world, "v-one").1), ((ReleaseState::Good, true), false));
    world.psql("shop", "INSERT INTO task_templates (name) VALUES ('writes are let in')");
    assert!(!world.engine().check_deploy(&ask_for("two")).unwrap(), "there is nothing more to deploy");
    // What was sealed leads back.
    world.must(&lifeboat_testkit::delivered::back(Some("v-one"), None));
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
}

/// PHS-17, MIG-11: a version that does not do goes back by itself. Rows of before stay, those that came in the tables of before stay, and
/// what was written to new tables and columns is kept before the DOWN scripts, and can be brought back.
#[test]
fn mig_11_a_version_that_does_not_do_goes_back_by_itself_and_no_row_is_lost() {
    let world = phase_one();
    make_sick(&world);
    let since = "INSERT INTO service_tickets (title) VALUES ('came since');
                 UPDATE service_tickets SET priority = 1 WHERE id IN (7, 8);
                 INSERT INTO task_templates (name) VALUES ('a'), ('b, with \"quotes\"');
                 INSERT INTO service_ticket_tasks (ticket) VALUES (7)";
    let failed = run_by(&written_before(&world, is_smoke, since), &deploy(&world, "two"));
    let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{:?}", failed.state) };
    assert!(why.to_string().contains("smoke"), "{why}");
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "51");
    assert_eq!(world.psql("shop", "SELECT to_regclass('task_templates') IS NULL").trim(), "t");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in again')");
    let kept = world.kept_rows(&failed);
    let counts: Vec<_> = kept.tables.iter().map(|one| (one.table.as_str(), one.inserted, one.updated)).collect();
    assert_eq!(
        counts,
        [("public.service_ticket_tasks", 1, 0), ("public.service_tickets", 0, 2), ("public.task_templates", 2, 0)]
    );
    let csv = world.state().salvage(&failed.id).join(kept.tables[2].csv.as_ref().unwrap());
    let text = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(text, "change,id,name\ninserted,1,a\ninserted,2,\"b, with \"\"quotes\"\"\"\n");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&csv).unwrap().permissions().mode() & 0o777, 0o600);
    // It is held: no late run of a pipeline puts it back.
    assert_eq!(
        (state(&world, "v-two"), state(&world, "v-one")),
        ((ReleaseState::Bad, false), (ReleaseState::Good, true))
    );
    let refused = world.engine().plan(&deploy(&world, "two")).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.to_string().contains("is held for bad"), "{refused}");
    // Once for each release is enough: whoever deploys it all the same decides about what comes of it.
    world.backup();
    let held = world.must(&with(&world, |ask| ask.although_bad = Some("it was the host".into())));
    assert!(held.steps.iter().any(|step| matches!(step, StepState::Failed { noted: true, .. })));
    assert_eq!((runs(&world), state(&world, "v-two")), ("two".into(), (ReleaseState::Bad, true)));
    // It was mended there: what was kept comes back, where it was taken from.
    let back = Request::BringBack { operation: failed.id, tables: vec![], overwrite: true, deletes: false };
    world.must(&back);
    assert_eq!(
        world.psql("shop", "SELECT string_agg(name, ';' ORDER BY id) FROM task_templates").trim(),
        "a;b, with \"quotes\""
    );
    assert_eq!(
        world.psql("shop", "SELECT string_agg(id::text, ',') FROM service_tickets WHERE priority = 1").trim(),
        "7,8"
    );
}

/// What a DOWN script does is seen, and not only what it says: a dropped type, rows that it changes or deletes in tables that stay.
#[test]
fn mig_11_what_a_down_script_does_to_rows_is_kept_whatever_it_says() {
    let world = phase_one();
    write(
        &world,
        "5_kinds.sql",
        "CREATE TYPE kind AS ENUM ('x', 'y'); ALTER TABLE service_tickets ADD COLUMN kind kind",
    );
    // Lossless where nothing was written since, as on the copy.
    write(
        &world,
        "5_kinds_DOWN.sql",
        "DELETE FROM service_tickets WHERE kind = 'y'; UPDATE service_tickets SET title = upper(title) WHERE kind = 'x';
         DROP TYPE kind CASCADE",
    );
    make_sick(&world);
    let since =
        "UPDATE service_tickets SET kind = 'x' WHERE id = 3; UPDATE service_tickets SET kind = 'y' WHERE id IN (4, 5)";
    let failed = run_by(&written_before(&world, is_smoke, since), &deploy(&world, "two"));
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    let kept = world.kept_rows(&failed);
    let folder = world.state().salvage(&failed.id);
    let texts: Vec<String> = kept
        .tables
        .iter()
        .map(|one| std::fs::read_to_string(folder.join(one.csv.as_ref().unwrap())).unwrap())
        .collect();
    let all = texts.join("");
    for line in ["updated,3,3,x", "updated,4,3,y", "updated,5,3,y", "3,ticket 3", "4,ticket 4", "5,ticket 5"] {
        assert!(all.contains(line), "{line} in {all}");
    }
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "48");
}

/// MIG-08, MIG-09: what cannot be applied, waits too long for a lock or is not found lossless by the rehearsal is not begun, or taken back
/// whole; the version is no worse for it when it never ran.
#[test]
fn mig_09_what_cannot_be_applied_leaves_everything_as_it_was() {
    let world = phase_one();
    let before = world.look();
    let ends_as_before = |what: &str| {
        let failed = world.run(&deploy(&world, "two")).unwrap();
        let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{what}: {:?}", failed.state) };
        assert_eq!(world.look(), before, "{what}");
        why.to_string()
    };
    write(&world, "5_wrong.sql", "CREATE TABLE half (a int); SELECT 1 / 0");
    write(&world, "5_wrong_DOWN.sql", "DROP TABLE half");
    let why = ends_as_before("the copy has said so");
    assert!(why.contains("cannot be applied"), "{why}");
    assert_eq!(state(&world, "v-two"), (ReleaseState::Candidate, false), "it never ran");
    write(&world, "5_wrong.sql", "UPDATE service_tickets SET title = 'x'");
    write(&world, "5_wrong_DOWN.sql", "SELECT 1");
    let why = ends_as_before("it loses rows");
    assert!(why.contains("lossy"), "{why}");
    // What the copy cannot know: somebody holds the table.
    std::fs::remove_file(world.app("migrations/5_wrong.sql")).unwrap();
    std::fs::remove_file(world.app("migrations/5_wrong_DOWN.sql")).unwrap();
    let is_migrate = |action: &Action| matches!(action, Action::Postgres(PgAction::Migrate { .. }));
    let failed = run_by(
        &written_before(
            &world,
            is_migrate,
            "SET default_transaction_read_only = off; CREATE TABLE task_templates (a int)",
        ),
        &deploy(&world, "two"),
    );
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(state(&world, "v-two").0, ReleaseState::Bad);
    // MIG-08: it is a critical decision with its way, on record; it is over with that, and says nothing to whoever decides next.
    let engine = world.engine();
    let decision = engine.decided_by_failure(&failed).unwrap().unwrap();
    assert_eq!(decision.decided.severity, Some(lifeboat_model::decision::Severity::Critical));
    let path = decision.path.clone().unwrap();
    assert_eq!((path.way.as_str(), path.taken), ("down", true), "{path:?}");
    assert!(decision.basis.facts["migration_failure"].source.contains(failed.id.as_str()), "{decision:?}");
    let about = lifeboat_model::decision::DecisionRecord::Decision(Box::new(decision));
    world.must(&Request::Decide { about });
    let recorded = engine.decisions().unwrap();
    assert_eq!(recorded[0].decision().unwrap().path.as_ref(), Some(&path));
    let now = lifeboat_io::Clock::now(&*world.clock);
    let next = engine.decide(lifeboat_engine::decide::Said::default(), &recorded, now, &Stop::default()).unwrap();
    assert!(!next.basis.facts.contains_key("migration_failure"), "{next:?}");
    // One that fails by its own tool, with something applied: by its scripts as long as each has one.
    assert!(engine.way_back_of_migrations().why.contains("nothing is applied"));
    let other = phase_one();
    apply(&other, "2_templates.sql");
    assert_eq!(other.engine().way_back_of_migrations().way, "down");
    std::fs::remove_file(other.app("migrations/2_templates_DOWN.sql")).unwrap();
    assert_eq!(other.engine().way_back_of_migrations().way, "restore");
    // Missing scripts are told before anything is done.
    std::fs::remove_file(world.app("migrations/3_tasks_DOWN.sql")).unwrap();
    let refused = world.engine().plan(&with(&world, |ask| ask.although_bad = Some("a test".into()))).unwrap_err();
    assert!(refused.to_string().contains("3_tasks could not be taken back: it has no DOWN script"), "{refused}");
}

/// Where somebody has agreed to a loss, the migrations are the point of no return: what does not do stays, held.
#[test]
fn a_loss_that_was_agreed_to_is_held_and_not_taken_back() {
    let world = phase_one();
    write(&world, "5_titles.sql", "UPDATE service_tickets SET title = 'x'");
    write(&world, "5_titles_DOWN.sql", "SELECT 1");
    make_sick(&world);
    let request = with(&world, |ask| ask.at_least = Reversibility::Lossy);
    let plan = world.engine().plan(&request).unwrap();
    assert_eq!(plan.pivot().and_then(|at| plan.steps().nth(at)).unwrap().id.to_string(), "migrate");
    assert_eq!(lifeboat_engine::consequence::consequence(&plan), lifeboat_engine::consequence::Consequence::RowsLeave);
    let tried = prove_steps(&Case { world: &world, request: request.clone(), undo: false }, |step| {
        ["fence.db", "migrate", "let-in.db", "smoke.web"].contains(&step)
    });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    world.must(&request);
    assert_eq!((runs(&world), ledger(&world)), ("two".into(), "1 2 3 4 5".into()));
    assert_eq!(state(&world, "v-two"), (ReleaseState::Bad, true));
    // The way back is a person's: with the database from the backup of the release before.
    world.must(&lifeboat_testkit::delivered::back(Some("v-one"), Some(lifeboat_model::Profile::Full)));
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
}

/// The rules are asked while it is watched: what they call a reason goes back; what nobody can measure is not good.
#[test]
fn dec_01_the_watch_asks_the_rules() {
    let mut world = with_releases(World::shop());
    let rate = vec!["/bin/sh".to_owned(), world.app("control").display().to_string(), "rate".to_owned()];
    world.setup.matrix.sources.insert("error_rate".into(), Source::Command(rate));
    let says = |world: &World, text: &str| std::fs::write(world.app("rate"), text).unwrap();
    says(&world, "61/1200,window=5m");
    let failed = world.run(&deploy(&world, "two")).unwrap();
    let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{:?}", failed.state) };
    assert!(why.to_string().contains("does not do well"), "{why}");
    assert!(why.causes.join(" ").contains("requests fail: 5.08"), "{why:?}");
    assert_eq!((runs(&world), state(&world, "v-two")), ("one".into(), (ReleaseState::Bad, false)));
    world.must(&good("v-two"));
    says(&world, "1/3,window=5m");
    world.must(&deploy(&world, "two"));
    assert_eq!(state(&world, "v-two"), (ReleaseState::Live, true), "three requests tell nothing");
    lifeboat_testkit::delivered::run_release(&world, "one");
    says(&world, "10/1200,window=5m");
    world.must(&deploy(&world, "two"));
    assert_eq!(state(&world, "v-two"), (ReleaseState::Good, true));
}

/// The app behind the link answers this to its looks since version two runs, counted from 0; two of them belong to the start.
fn answering(answers: impl Fn(u32) -> bool + Send + Sync + 'static) -> (World, App) {
    let mut world = with_releases(World::shop());
    let (running, looks) = (world.app("running"), AtomicU32::new(0));
    let app = App::new(move |_method, _path, _body| {
        let runs_two = std::fs::read_to_string(&running).is_ok_and(|version| version.trim() == "two");
        let is_well = !runs_two || answers(looks.fetch_add(1, Ordering::SeqCst));
        (if is_well { 200 } else { 503 }, String::new())
    });
    let target = &mut world.setup.targets[0];
    (target.url, target.probes) = (Some(app.url()), vec!["/health".into()]);
    (world, app)
}

/// Who answers now and again is not good, and who fails as the watch ends is looked at until it is known.
#[test]
fn a_version_that_answers_now_and_again_is_not_good() {
    let watched = |seconds: u64, answers: fn(u32) -> bool| {
        let (world, _app) = answering(answers);
        let ended = world.run(&with(&world, |ask| ask.watch_ms = seconds * 1_000)).unwrap();
        let why = match &ended.state {
            OperationState::PutBack { why: Some(why) } => why.causes.join(" "),
            OperationState::Done => String::new(),
            other => panic!("{other:?}"),
        };
        assert_eq!(runs(&world), if why.is_empty() { "two" } else { "one" });
        why
    };
    // In 20 s it is looked at 11 times: the looks 2 to 12.
    assert_eq!(watched(20, |_look| true), "");
    assert_eq!(watched(20, |look| look != 5 && look != 6), "", "twice in a row is not too often");
    assert!(watched(20, |look| look < 5).contains("3 times in a row"));
    let now_and_again = watched(20, |look| look < 3 || look % 2 == 0);
    assert!(now_and_again.contains("answers with 503, 3 times in "), "{now_and_again}");
    // The last look fails: it falls, or stands twice in a row.
    assert!(watched(20, |look| look < 12).contains("3 times in a row"));
    assert_eq!(watched(20, |look| look != 12), "");
    assert!(watched(20, |look| look < 12 || look % 2 == 1).contains("3 times in "), "it never stands");
    // It answers the first who asks, and then nobody any more.
    let once = watched(0, |look| look == 0);
    assert!(once.contains("/health answers with 503"), "{once}");
    assert_eq!(watched(0, |look| look != 1), "", "it needed a moment");
}

/// A clock that is put back in the middle hides nothing that comes after: what is live, good and held follows from the order of what was done.
#[test]
fn a_clock_that_is_put_back_hides_no_rollback() {
    let world = with_releases(World::shop());
    world.backup();
    world.must(&seal(&world, "v-one"));
    world.must(&good("v-one"));
    let clock = world.clock.clone();
    let an_hour_ago = move || clock.jump_to(clock.now() - Duration::from_secs(3_600));
    let engine = with_something_before(&world, is_watch, an_hour_ago);
    assert_eq!(run_by(&engine, &deploy(&world, "two")).state, OperationState::Done);
    assert_eq!(state(&world, "v-two"), (ReleaseState::Good, true));
    world.must(&lifeboat_testkit::delivered::back(Some("v-one"), None));
    assert_eq!((state(&world, "v-two").1, state(&world, "v-one").1), (false, true));
    let newest = &world.engine().look().operations(1).unwrap()[0];
    assert_eq!(newest.kind, "rollback", "it is the newest, although it began before the deploy by the clock");
    world.must(&good("v-two"));
    assert_eq!(state(&world, "v-two"), (ReleaseState::Good, false));
}

/// PHS-18: whatever step a deploy died at, its state and the backup of right before are named by its journal, until somebody goes on.
#[test]
fn phs_18_a_deploy_that_died_at_any_step_is_named_with_its_backup() {
    let before = with_releases(World::shop());
    before.backup();
    before.must(&seal(&before, "v-one"));
    let backup = before.backups().last().unwrap().id.clone();
    let steps = before.engine().plan(&deploy(&before, "two")).unwrap().steps().count();
    for (at, trouble) in (0..steps).flat_map(|at| [(at, Trouble::DieBefore(at)), (at, Trouble::DieAfter(at))]) {
        let world = before.copy();
        let engine = world.engine_with(|hands| Arc::new(InTrouble::new(hands, trouble)));
        let plan = engine.plan(&deploy(&world, "two")).unwrap();
        assert!(unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default())).is_none());
        drop(engine);
        // A later backup is not the one that belongs to it.
        let standing = world.engine().standing().unwrap();
        let open = standing.deploy.as_ref().unwrap();
        assert_eq!((&open.backup, open.state), (&Some(backup.clone()), "running"), "{trouble:?}");
        assert_eq!(open.at.as_ref(), plan.steps().nth(at).map(|step| &step.title), "{trouble:?}");
        assert_eq!(open.release.label.as_deref(), Some("v-two"));
        assert_eq!(standing.live.as_ref().unwrap().label.as_deref(), Some("v-one"));
        assert_eq!(standing.good(), lifeboat_model::Tri::Fail);
        world.engine().abort(&open.operation, "tester", &Unwatched).unwrap();
        assert_eq!(world.engine().standing().unwrap().deploy, None);
    }
}

/// The backup of a release that somebody could go back to outlives the rules of retention.
#[test]
fn a_backup_that_a_release_goes_back_to_is_not_let_go() {
    let mut world = with_releases(World::shop());
    world.setup.keep = lifeboat_model::Keep {
        within: None,
        last: 1,
        daily: 0,
        weekly: 0,
        monthly: 0,
        proven: 1,
        ..Default::default()
    };
    world.backup();
    world.must(&seal(&world, "v-one"));
    world.must(&good("v-one"));
    for _ in 0..3 {
        world.clock.advance(std::time::Duration::from_secs(400 * 86_400));
        world.backup();
    }
    let newest = world.backups().pop().unwrap().id;
    world.must(&Request::Prove { backup: lifeboat_model::BackupChoice::Exactly(newest), resources: vec![] });
    let all: Vec<_> = world.backups().into_iter().map(|backup| backup.id).collect();
    let plan = world.engine().plan(&Request::Retention).unwrap();
    let forgotten = plan.steps().find_map(|step| match &step.action {
        Action::Forget { backups, .. } => Some(backups.clone()),
        _other => None,
    });
    let mut forgotten = forgotten.unwrap();
    forgotten.sort_by_key(|id| all.iter().position(|one| one == id));
    assert_eq!(forgotten, all[1..3], "{:?}", plan.notes);
    assert!(plan.notes.join("\n").contains("(v-one) goes back to it"), "{:?}", plan.notes);
}

/// Who ends a terminal has not asked for a rollback: the deploy waits, is named, and goes on or back as somebody says.
#[test]
fn phs_18_an_interrupted_deploy_waits_and_is_named() {
    for goes_on in [true, false] {
        let world = with_releases(World::shop());
        let stop = Stop::default();
        let asked = stop.clone();
        let engine = with_something_before(&world, is_watch, move || asked.at_safe_point());
        let plan = engine.plan(&deploy(&world, "two")).unwrap();
        let waits = engine.run(&plan, "tester", &Unwatched, &stop).unwrap();
        assert!(matches!(waits.state, OperationState::Paused { .. }), "{:?}", waits.state);
        drop(engine);
        assert_eq!((runs(&world), state(&world, "v-two")), ("two".into(), (ReleaseState::Candidate, false)));
        let busy = world.run(&deploy(&world, "two")).unwrap_err();
        assert!(busy.hint.unwrap().contains(&format!("lifeboat abort {}", waits.id)));
        let engine = world.engine();
        let ended = match goes_on {
            true => engine.resume(&waits.id, "tester", &Unwatched, &Stop::default()).unwrap(),
            false => engine.abort(&waits.id, "tester", &Unwatched).unwrap(),
        };
        assert!(ended.is_closed());
        let wanted =
            if goes_on { ("two", (ReleaseState::Good, true)) } else { ("one", (ReleaseState::Candidate, false)) };
        assert_eq!((runs(&world).as_str(), state(&world, "v-two")), wanted);
    }
}

const WAIT: Duration = Duration::from_secs(60);

fn environment(world: &World) -> std::path::PathBuf {
    world.state().lease(&world.setup.scope, lifeboat_model::Lease::Environment)
}

/// Runs a request with an engine that stands before an action of this kind until somebody asks for the lease; meanwhile somebody else works.
fn until_asked<T>(
    world: &World,
    request: &Request,
    is_it: fn(&Action) -> bool,
    urgently: bool,
    work: impl FnOnce() -> T,
) -> (Result<Operation, lifeboat_engine::RunError>, T) {
    let (begun, has_begun) = mpsc::channel();
    let path = environment(world);
    let engine = with_something_before(world, is_it, move || {
        begun.send(()).unwrap();
        let waits = std::time::Instant::now();
        while lease::asked(&path).is_none_or(|wish| wish.now != urgently) {
            assert!(waits.elapsed() < WAIT, "nobody has asked");
            std::thread::yield_now();
        }
    });
    let plan = engine.plan(request).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| engine.run(&plan, "ann", &Unwatched, &Stop::default()));
        has_begun.recv().unwrap();
        let worked = work();
        (running.join().unwrap(), worked)
    })
}

/// The deploy that runs stops at its next safe point; what it did is taken back by who asked, and no row is lost.
#[test]
fn a_running_deploy_makes_way_for_a_rollback() {
    let world = phase_one();
    let (engine, stop) = (world.engine(), Stop::default());
    let (paused, ended) = until_asked(&world, &deploy(&world, "two"), is_watch, false, || {
        world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('came since')");
        let busy = engine.take_over(&engine.standing().unwrap().deploy.unwrap().operation, "bob", "", &Unwatched);
        assert_eq!(busy.unwrap_err().failure.kind, FailureKind::Busy, "nothing is taken out of somebody's hands");
        let _hold = engine.make_way("bob", "roll back", WAIT, &Unwatched, &stop).unwrap();
        assert_eq!(runs(&world), "two", "it has not been taken back yet");
        let open = engine.standing().unwrap().deploy.unwrap();
        assert_eq!(open.state, "paused");
        engine.take_over(&open.operation, "bob", "it is slow", &Unwatched).unwrap()
    });
    let OperationState::Paused { why } = paused.unwrap().state else { panic!() };
    assert_eq!(why.kind, FailureKind::Interrupted);
    let told = format!("{why} {}", why.causes.join(" "));
    assert!(told.contains("bob waits since"), "{why:?}");
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "51");
    assert_eq!(
        (state(&world, "v-two"), state(&world, "v-one")),
        ((ReleaseState::Bad, false), (ReleaseState::Good, true))
    );
    let known = engine.releases().unwrap();
    let why =
        known.iter().rev().find(|one| one.release.label.as_deref() == Some("v-two")).unwrap().why.clone().unwrap();
    assert!(why.contains("by a person") && why.contains("bob rolled back"), "{why}");
    assert!(engine.stands_at("v-one").unwrap());
    assert_eq!(lease::asked(&environment(&world)), None, "nobody asks any more");
}

/// Killed before and after each step: whoever rolls back ends where the deploy began.
#[test]
fn a_deploy_that_was_killed_is_taken_over() {
    let before = with_releases(World::shop());
    before.backup();
    before.must(&seal(&before, "v-one"));
    let steps = before.engine().plan(&deploy(&before, "two")).unwrap().steps().count();
    for trouble in (0..steps).flat_map(|at| [Trouble::DieBefore(at), Trouble::DieAfter(at)]) {
        let world = before.copy();
        let engine = world.engine_with(|hands| Arc::new(InTrouble::new(hands, trouble)));
        let plan = engine.plan(&deploy(&world, "two")).unwrap();
        assert!(unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default())).is_none());
        drop(engine);
        let engine = world.engine();
        let _hold = engine.make_way("bob", "roll back", WAIT, &Unwatched, &Stop::default()).unwrap();
        let open = engine.standing().unwrap().deploy.unwrap();
        let ended = engine.take_over(&open.operation, "bob", "", &Unwatched).unwrap();
        assert!(matches!(ended.state, OperationState::PutBack { .. }), "{trouble:?}: {:?}", ended.state);
        assert_eq!(runs(&world), "one", "{trouble:?}");
        assert_eq!(std::fs::read_link(world.app("current")).unwrap(), world.app("releases/one"), "{trouble:?}");
        assert!(engine.stands_at("v-one").unwrap());
    }
}

fn is_let_in(action: &Action) -> bool {
    matches!(action, Action::Postgres(PgAction::Fence { on: false, .. }))
}

/// What cannot be taken back is left where it stands, and the rollback goes on from there: past the point of no return, and where a DOWN script
/// fails.
#[test]
fn what_cannot_be_taken_back_is_handed_over_to_the_rollback() {
    for past_pivot in [true, false] {
        let world = phase_one();
        let request = with(&world, |ask| {
            if past_pivot {
                ask.at_least = Reversibility::Lossy;
            }
        });
        let since = "CREATE VIEW urgent AS SELECT id, priority FROM service_tickets";
        let server = world.server.clone().unwrap();
        let engine = with_something_before(&world, is_let_in, move || {
            server.lock().unwrap().sql("shop", since);
            std::panic::panic_any(lifeboat_io::failpoint::Death)
        });
        let plan = engine.plan(&request).unwrap();
        assert!(unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default())).is_none());
        drop(engine);
        assert_eq!(ledger(&world), "1 2 3 4");
        let engine = world.engine();
        let _hold = engine.make_way("bob", "roll back", WAIT, &Unwatched, &Stop::default()).unwrap();
        let open = engine.standing().unwrap().deploy.unwrap();
        assert_eq!(open.past_point_of_no_return, past_pivot);
        let ended = engine.take_over(&open.operation, "bob", "", &Unwatched).unwrap();
        let OperationState::HandedOver { why } = &ended.state else { panic!("{:?}", ended.state) };
        assert!(!why.to_string().is_empty() && ended.is_closed());
        let stuck = ended.steps.iter().any(|step| matches!(step, StepState::Stuck { .. }));
        assert_eq!(stuck, !past_pivot, "{:?}", ended.steps);
        assert_eq!((engine.standing().unwrap().deploy, state(&world, "v-two").0), (None, ReleaseState::Bad));
        assert!(!engine.stands_at("v-one").unwrap());
        // By its DOWN scripts it does not go back, by its backup it does.
        let back = lifeboat_testkit::delivered::back(Some("v-one"), Some(lifeboat_model::Profile::Full));
        let done = run_by(&engine, &back);
        assert_eq!(done.state, OperationState::Done);
        assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
        world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in again')");
        assert_eq!(state(&world, "v-one"), (ReleaseState::Good, true));
    }
}

/// Nobody comes between the operations of a deploy; of two who roll back, the second is told who was first.
#[test]
fn one_lease_is_held_over_several_operations_and_two_operators_do_not_meet() {
    let world = with_releases(World::shop());
    let (ann, bob, stop) = (world.engine(), world.engine(), Stop::default());
    let backup = Request::Backup { resources: vec![], reason: lifeboat_model::BackupReason::PreDeploy, label: None };
    let hold = ann.hold_lease("ann", "deploy two", &Unwatched).unwrap();
    let epochs: Vec<u64> = (0..2).map(|_| run_by(&ann, &backup).epoch).collect();
    assert!(epochs[0] < epochs[1], "{epochs:?}");
    let busy = bob.run(&bob.plan(&backup).unwrap(), "bob", &Unwatched, &stop).unwrap_err();
    assert_eq!(busy.failure.kind, FailureKind::Busy, "{busy}");
    // Between two of its operations the next is not begun while somebody waits; who does not come to a safe point is named.
    let short = Duration::from_millis(20);
    let busy = bob.make_way("bob", "roll back", short, &Unwatched, &stop).err().unwrap();
    assert_eq!(busy.kind, FailureKind::Busy);
    assert!(busy.hint.as_ref().unwrap().starts_with(&format!("kill {}", std::process::id())), "{busy:?}");
    let wish = lease::ask(&environment(&world), "bob", lifeboat_io::Clock::now(&*world.clock), "roll back").unwrap();
    let refused = ann.run(&ann.plan(&backup).unwrap(), "ann", &Unwatched, &stop).unwrap_err();
    assert_eq!(refused.failure.kind, FailureKind::Busy);
    assert!(refused.failure.causes.join(" ").contains("bob waits"), "{refused:?}");
    drop(wish);
    run_by(&ann, &backup);
    drop(hold);
    let _first = bob.make_way("bob", "roll back", WAIT, &Unwatched, &stop).unwrap();
    let second = ann.make_way("ann", "roll back", WAIT, &Unwatched, &stop).err().unwrap();
    assert_eq!(second.kind, FailureKind::Busy);
    assert!(second.causes.join(" ").contains("locked by bob"), "{second:?}");
}

/// A backup that takes long is broken off, and nothing of it is left.
#[test]
fn who_does_not_come_to_a_safe_point_is_broken_off() {
    let world = with_releases(World::shop());
    let backup = Request::Backup { resources: vec![], reason: lifeboat_model::BackupReason::Manual, label: None };
    let is_store = |action: &Action| matches!(action, Action::StoreBackup { .. });
    let (broken, hold) = until_asked(&world, &backup, is_store, true, || {
        let engine = world.engine();
        engine.make_way("bob", "roll back", Duration::from_millis(300), &Unwatched, &Stop::default()).map(drop)
    });
    hold.unwrap();
    let broken = broken.unwrap();
    let OperationState::PutBack { why: Some(why) } = &broken.state else { panic!("{:?}", broken.state) };
    assert_eq!(why.kind, FailureKind::Interrupted);
    assert_eq!((world.backups().len(), world.look().debris.len()), (0, 0));
}
