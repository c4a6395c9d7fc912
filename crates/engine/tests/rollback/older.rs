//! RST-21 in a full rollback: the backup of the release is damaged, really, and an older one is taken where nobody loses more by it.

use std::{fs, path::PathBuf};

use lifeboat_engine::{
    Unwatched,
    ways::{Handover, NextWay},
};
use lifeboat_io::Stop;
use lifeboat_model::{
    BackupChoice, BackupId, FailureKind, Operation, OperationState, Plan, Profile, Request, Resource, ResourceKind,
    ResourceName, VersionAsk,
};
use lifeboat_testkit::{
    World,
    delivered::{apply, back, good, run_release, seal},
};

use super::{ledger, phase_one, runs};

/// Where rows lie in a pack, in percent of it.
const ROWS: usize = 5;

fn packs(world: &World) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.path("vault/data")).unwrap().map(|folder| folder.unwrap().path());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

fn newest(world: &World) -> BackupId {
    world.backups().last().unwrap().id.clone()
}

/// Two backups in phase 1, of which the newer belongs to the release; then phase 2 came. `between` runs between the two. Gives the older one,
/// and the packs that the newer alone uses.
fn two_backups(is_proven: bool, between: &str) -> (World, BackupId, Vec<PathBuf>) {
    two_backups_of(phase_one(), is_proven, between)
}

fn two_backups_of(world: World, is_proven: bool, between: &str) -> (World, BackupId, Vec<PathBuf>) {
    world.backup();
    let older = newest(&world);
    if is_proven {
        world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    }
    let known = packs(&world);
    // Bulk that only the newer backup holds, and that nobody has any more when it comes to going back.
    let bulk = "SELECT 'bulk ' || (SELECT string_agg(md5((m * n)::text), '') FROM generate_series(1, 60) n) FROM generate_series(1, 50) m";
    world.psql("shop", &format!("INSERT INTO service_tickets (title) {bulk}; {between}"));
    world.clock.advance(std::time::Duration::from_secs(60));
    world.backup();
    let packs = packs(&world).into_iter().filter(|pack| !known.contains(pack)).collect();
    world.must(&seal(&world, "phase-1"));
    world.must(&good("phase-1"));
    for name in ["2_templates.sql", "3_tasks.sql", "4_priority.sql"] {
        apply(&world, name);
    }
    run_release(&world, "two");
    world.psql(
        "shop",
        "DELETE FROM service_tickets WHERE title LIKE 'bulk%'; INSERT INTO service_tickets (title) VALUES ('later')",
    );
    (world, older, packs)
}

/// Turns one bit in the largest, as a disk that ages does; once more, and it is whole again.
fn damage(packs: &[PathBuf], at: usize) {
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut body = fs::read(pack).unwrap();
    let at = body.len() * at / 100;
    body[at] ^= 1;
    fs::write(pack, body).unwrap();
}

fn run(world: &World, plan: &Plan) -> Operation {
    world.engine().run(plan, "tester", &Unwatched, &Stop::default()).unwrap()
}

/// A full rollback that was agreed to, and fails by its backup, which has been damaged since; nothing has changed.
fn fails(world: &World, packs: &[PathBuf], request: &Request) -> (Plan, Operation) {
    let plan = world.engine().plan(request).unwrap();
    assert!(!plan.losses.is_empty(), "it was counted");
    damage(packs, ROWS);
    let failed = run(world, &plan);
    let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{:?}", failed.state) };
    assert_eq!(why.kind, FailureKind::Damaged, "{why}");
    assert_eq!((runs(world), ledger(world)), ("two".into(), "1 2 3 4".into()));
    (plan, failed)
}

fn stopped(way: NextWay) -> (String, Handover) {
    match way {
        NextWay::Stop { because, handover } => (because.join("; "), handover.unwrap()),
        NextWay::Take { what, .. } => panic!("{what}"),
    }
}

/// A backup that was lost since it was planned is found before anything is changed, not when the app cannot be started any more; planned
/// again, variables stay, and say so.
#[test]
fn phs_01_variables_that_cannot_be_read_any_more_hold_up_nothing_half_way() {
    let mut world = phase_one();
    fs::write(world.app(".env"), "PHASE_2=off\n").unwrap();
    let kind = ResourceKind::Env { path: world.app(".env") };
    world.setup.resources.push(Resource::plain(ResourceName::new("env").unwrap(), kind));
    let (world, _older, packs) = two_backups_of(world, false, "SELECT 1");
    fs::write(world.app(".env"), "PHASE_2=on\n").unwrap();
    let request = back(Some("phase-1"), Some(Profile::AppAndDown));
    let plan = world.engine().plan(&request).unwrap();
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let failed = run(&world, &plan);
    let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{:?}", failed.state) };
    assert_eq!(why.kind, FailureKind::Damaged, "{why}");
    assert_eq!((runs(&world), ledger(&world)), ("two".into(), "1 2 3 4".into()));

    let plan = world.engine().plan(&request).unwrap();
    assert!(plan.notes.iter().any(|note| note.starts_with("Variables stay as they are")), "{:?}", plan.notes);
    assert_eq!(run(&world, &plan).state, OperationState::Done);
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(fs::read_to_string(world.app(".env")).unwrap(), "PHASE_2=on\n");
}

#[test]
fn rst_21_a_full_rollback_goes_on_with_the_proven_backup_before_it() {
    let (world, older, packs) = two_backups(true, "SELECT 1");
    let (confirmed, failed) = fails(&world, &packs, &back(Some("phase-1"), Some(Profile::Full)));
    let way = world.engine().next_way(&confirmed, std::slice::from_ref(&failed));
    let NextWay::Take { what, plan, .. } = way else { panic!("{way:?}") };
    assert!(what.contains(older.as_str()), "{what}");
    assert_eq!(Profile::of(&plan), Some(Profile::Full));
    assert!(plan.notes.iter().any(|note| note.contains(&format!("Its data come from {older}"))), "{:?}", plan.notes);
    let done = run(&world, &plan);
    assert_eq!(done.state, OperationState::Done);
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "50");
    world.psql("shop", "INSERT INTO service_tickets (title) VALUES ('writes are let in')");
    // What left is kept, whichever backup took its place.
    assert!(world.kept_rows(&done).tables.iter().any(|table| table.table.contains("service_tickets")));
}

#[test]
fn rst_21_a_full_rollback_loses_no_more_than_was_agreed_to_and_is_handed_over() {
    let (world, older, packs) =
        two_backups(true, "INSERT INTO service_tickets (title) SELECT 'new' FROM generate_series(1, 5)");
    let (confirmed, failed) = fails(&world, &packs, &back(Some("phase-1"), Some(Profile::Full)));
    let (because, handover) = stopped(world.engine().next_way(&confirmed, std::slice::from_ref(&failed)));
    assert!(because.contains(older.as_str()) && because.contains("lose more than was agreed to"), "{because}");
    let stands = handover.stands.join("; ");
    assert!(stands.contains("web runs two") && stands.contains("db has its migrations up to 4"), "{stands}");
    assert!(handover.next[0].contains(&format!("--backup {older}")), "{handover:?}");
    assert!(handover.next.iter().any(|next| next.contains("--profile app-and-down")), "{handover:?}");
    // The next command, once somebody agrees.
    let about =
        VersionAsk::RollBack { to: Some("phase-1".into()), profile: None, why: String::new(), backup: Some(older) };
    world.must(&Request::Version { about });
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM service_tickets").trim(), "50");
}

#[test]
fn rst_21_an_unproven_backup_and_one_of_another_schema_are_not_taken() {
    let (world, _older, packs) = two_backups(false, "SELECT 1");
    let (confirmed, failed) = fails(&world, &packs, &back(Some("phase-1"), Some(Profile::Full)));
    let (because, _handover) = stopped(world.engine().next_way(&confirmed, std::slice::from_ref(&failed)));
    assert!(because.contains("no proven backup before it"), "{because}");

    let (world, older, packs) = two_backups(true, "CREATE TABLE since (a int)");
    let (confirmed, failed) = fails(&world, &packs, &back(Some("phase-1"), Some(Profile::Full)));
    let (because, handover) = stopped(world.engine().next_way(&confirmed, std::slice::from_ref(&failed)));
    assert!(because.contains(&format!("{older} holds another schema of db")), "{because}");
    assert!(!handover.next.iter().any(|next| next.contains("--backup")), "{handover:?}");
    let named = |profile| {
        let (to, why) = (Some("phase-1".into()), String::new());
        let about = VersionAsk::RollBack { to, profile, why, backup: Some(older.clone()) };
        world.engine().plan(&Request::Version { about }).unwrap_err()
    };
    assert!(named(None).causes.join(" ").contains("holds another schema"), "{:?}", named(None));
    assert_eq!(named(Some(Profile::AppOnly)).kind, FailureKind::Usage);
}

/// What cannot even be planned was agreed to by nobody: the one before it is named, and a person takes it.
#[test]
fn rst_21_a_backup_whose_manifest_is_damaged_names_the_one_before_it() {
    let (world, older, packs) = two_backups(true, "SELECT 1");
    let request = back(Some("phase-1"), Some(Profile::Full));
    let planned = |at| {
        damage(&packs, at);
        let failure = world.engine().plan(&request).err();
        // What only keeps the rows that leave from being counted is another matter.
        failure.or_else(|| {
            damage(&packs, at);
            None
        })
    };
    let failure = (50..100).rev().find_map(planned).unwrap();
    assert!(failure.message.contains("manifest"), "{failure}");
    assert_eq!(failure.kind, FailureKind::Damaged);
    let hint = failure.hint.unwrap();
    assert!(hint.contains("lifeboat rollback") && hint.contains(&format!("--backup {older}")), "{hint}");
    let (to, why) = (Some("phase-1".into()), String::new());
    world.must(&Request::Version { about: VersionAsk::RollBack { to, profile: None, why, backup: Some(older) } });
    assert_eq!((runs(&world), ledger(&world)), ("one".into(), "1".into()));
}
