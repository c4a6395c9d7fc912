//! The index: filled from journals, and filled again with the same answers when it is lost.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use lifeboat_io::{
    Clock, Io,
    testing::{ManualClock, twin_io},
};
use lifeboat_model::{
    Action, BackupId, BackupMark, Check, Event, Failure, FailureKind, Lease, OnFailure, OperationId, Outcome, Phase,
    Plan, PlanId, Proof, ProofId, ProofLevel, Request, ResourceName, Scope, Step, StepClass, StepId, Timestamp, Tri,
    Undo, plan::PLAN_SCHEMA,
};
use lifeboat_store::{Catalog, Journal, StateFolder, catalog::Marks};
use serde_json::{Value, json};

/// A state folder, and a clock to write journals by.
struct Desk {
    _home: tempfile::TempDir,
    state: StateFolder,
    clock: Arc<ManualClock>,
    io: Io,
}

impl Desk {
    fn new() -> Desk {
        let home = tempfile::tempdir().unwrap();
        let state = StateFolder::open(home.path()).unwrap();
        let clock = Arc::new(ManualClock::default());
        let io = Io { clock: clock.clone(), ..twin_io() };
        Desk { _home: home, state, clock, io }
    }

    fn later(&self, milliseconds: u64) -> Timestamp {
        self.clock.advance(Duration::from_millis(milliseconds));
        self.clock.now()
    }

    fn begin(&self, number: u64, request: Request, actions: Vec<Action>) -> Journal {
        self.begin_under(1, number, request, actions)
    }

    /// Under this grant of the lease.
    fn begin_under(&self, epoch: u64, number: u64, request: Request, actions: Vec<Action>) -> Journal {
        let step = |(number, action)| Step {
            id: StepId(format!("step-{number}")),
            title: "a step".into(),
            class: StepClass::Idempotent,
            action,
            undo: Undo::Nothing,
            on_failure: OnFailure::Unwind,
            hint: None,
        };
        let steps = actions.into_iter().enumerate().map(step).collect();
        let plan = Plan {
            schema: PLAN_SCHEMA.into(),
            id: PlanId::from_random(number),
            request,
            scope: Scope { app: "shop".into(), environment: "production".into() },
            lease: Lease::Environment,
            title: "a plan".into(),
            made_at: self.clock.now(),
            facts: vec![],
            phases: vec![Phase { name: "all".into(), budget_ms: None, expected: None, steps }],
            losses: vec![],
            notes: vec![],
        };
        let (digest, plan) = (plan.digest(), Box::new(plan));
        let opened = Event::Opened { plan, digest, by: "ann".into(), host: "a1".into(), pid: 1, version: "0".into() };
        let id = OperationId::from_random(number);
        Journal::create(&self.state.journal(&id), &id, epoch, opened, &self.io).unwrap()
    }

    /// An operation of one step with this output, wholly done.
    fn done(&self, number: u64, action: Action, output: Value) {
        let mut journal = self.begin(number, Request::Retention, vec![action]);
        go(&mut journal, 0, output);
        journal.append(Event::Closed { state: Outcome::Done }).unwrap();
    }

    fn mark(&self, number: u64, mark: BackupMark) {
        self.done(number, Action::Mark { backup: backup(), mark }, Value::Null);
    }

    fn catalog(&self) -> Catalog {
        Catalog::open(&self.state).unwrap()
    }

    fn marks(&self) -> Marks {
        self.catalog().marks(&backup()).unwrap()
    }

    fn journal(&self, number: u64) -> PathBuf {
        self.state.journal(&OperationId::from_random(number))
    }

    /// Everything the index can be asked.
    fn answers(&self) -> String {
        let catalog = self.catalog();
        format!(
            "{:#?}",
            (
                catalog.operations(100).unwrap(),
                catalog.unfinished().unwrap(),
                catalog.proofs(None).unwrap(),
                catalog.marks(&backup()).unwrap(),
                catalog.timings().unwrap(),
                catalog.damaged_journals().unwrap(),
            )
        )
    }

    fn ids(&self) -> Vec<OperationId> {
        self.catalog().operations(100).unwrap().into_iter().map(|row| row.id).collect()
    }
}

fn go(journal: &mut Journal, step: usize, output: Value) {
    let step = StepId(format!("step-{step}"));
    journal.append(Event::StepStarted { step: step.clone(), attempt: 1 }).unwrap();
    journal.append(Event::StepFinished { step, took_ms: 120, output }).unwrap();
}

fn backup() -> BackupId {
    BackupId::from_random(1)
}

fn hold(why: &str) -> BackupMark {
    BackupMark::Hold { why: why.into() }
}

fn proof(number: u64, at: Timestamp, outcome: Tri) -> (Action, Value) {
    let (id, resource) = (ProofId::from_random(number), ResourceName::new("db").unwrap());
    let action = Action::RecordProof {
        proof: id.clone(),
        backup: backup(),
        resource: resource.clone(),
        fetched_by: "fetch".into(),
        checked_by: vec![],
    };
    let checks = vec![(ProofLevel::Stored, Check::new("a", outcome, "b"))];
    let operation = OperationId::from_random(number);
    let (backup, level) = (backup(), Some(ProofLevel::Usable));
    let made = Proof {
        id,
        backup,
        resource,
        operation,
        at,
        level,
        outcome,
        restore_ms: 1,
        restore_expected: None,
        check_ms: 2,
        bytes: 3,
        checks,
    };
    (action, serde_json::to_value(made).unwrap())
}

fn busy() -> Desk {
    let desk = Desk::new();
    desk.mark(1, hold("the audit"));
    desk.later(1500);
    let (action, output) = proof(2, desk.clock.now(), Tri::Pass);
    desk.done(2, action, output);
    desk.later(10);
    let fetch = Action::Fetch {
        vault: "v".into(),
        backup: backup(),
        resource: ResourceName::new("db").unwrap(),
        into: "/x".into(),
    };
    desk.done(3, fetch, json!({ "bytes": 4096 }));
    desk.later(7);
    desk.begin(4, Request::Prune, vec![]);
    fs::write(desk.journal(5), "not json\n").unwrap();
    desk
}

#[test]
fn the_answers_come_from_the_journals() {
    let desk = busy();
    assert_eq!(desk.ids(), [4, 3, 2, 1].map(OperationId::from_random), "newest first");
    let catalog = desk.catalog();
    let open: Vec<_> = catalog.unfinished().unwrap().into_iter().map(|row| (row.id, row.kind, row.state)).collect();
    assert_eq!(open, [(OperationId::from_random(4), "prune".to_owned(), "running".to_owned())]);
    assert_eq!(catalog.proofs(Some(&backup())).unwrap().len(), 1);
    assert_eq!(catalog.proofs(Some(&BackupId::from_random(9))).unwrap().len(), 0);
    assert_eq!(catalog.marks(&backup()).unwrap().held.as_deref(), Some("the audit"));
    let timings = catalog.timings().unwrap();
    let fetched = &timings[&("fetch".to_owned(), "v db".to_owned())];
    assert_eq!((fetched[0].bytes, fetched[0].ms), (4096, 120));
    let damaged = catalog.damaged_journals().unwrap();
    assert_eq!(damaged.len(), 1, "a damaged journal is listed and the others are read: {damaged:?}");
    assert!(damaged[0].1.contains("is not a journal entry"), "{damaged:?}");
}

#[test]
fn a_lost_or_garbled_index_is_made_anew_with_the_same_answers() {
    let desk = busy();
    let before = desk.answers();
    let index = desk.state.catalog();
    fs::remove_file(&index).unwrap();
    assert_eq!(desk.answers(), before, "lost");
    fs::write(&index, "this is no database, whatever its name says").unwrap();
    assert_eq!(desk.answers(), before, "garbage");
    fs::write(&index, "").unwrap();
    assert_eq!(desk.answers(), before, "empty");
    // The header is whole and the pages behind it are not.
    let mut body = fs::read(&index).unwrap();
    body[100..].fill(0xa5);
    fs::write(&index, body).unwrap();
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(index.with_file_name(format!("lifeboat.db{end}")));
    }
    assert_eq!(desk.answers(), before, "garbled pages");
    let other = rusqlite::Connection::open(&index).unwrap();
    other.execute_batch("PRAGMA user_version = 99; DROP TABLE marks; CREATE TABLE \"odd \"\"one\" (x)").unwrap();
    drop(other);
    assert_eq!(desk.answers(), before, "another layout");
}

#[test]
fn several_processes_may_open_a_new_index_at_once() {
    let desk = Arc::new(busy());
    let open = |desk: &Arc<Desk>| {
        let state = desk.state.clone();
        std::thread::spawn(move || (0..5).map(|_| Catalog::open(&state).unwrap().operations(9).unwrap().len()).sum())
    };
    for _ in 0..20 {
        let all: Vec<usize> =
            (0..4).map(|_| open(&desk)).collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(all, [20, 20, 20, 20]);
        fs::remove_file(desk.state.catalog()).unwrap(); // and once more, where there is none
    }
}

#[test]
fn a_journal_that_has_grown_since_is_taken_in_again() {
    let desk = Desk::new();
    let mut journal = desk.begin(1, Request::Prune, vec![Action::Remove { paths: vec![] }]);
    assert_eq!(desk.catalog().unfinished().unwrap().len(), 1);
    go(&mut journal, 0, Value::Null);
    let why = Failure::new(FailureKind::Interrupted, "asked");
    journal.append(Event::Paused { why }).unwrap();
    assert_eq!(desk.catalog().unfinished().unwrap()[0].state, "paused");
    journal.append(Event::Resumed { by: "ann".into(), pid: 1, gap_ms: 0 }).unwrap();
    journal.append(Event::Closed { state: Outcome::Done }).unwrap();
    assert_eq!(desk.catalog().unfinished().unwrap(), []);
    assert_eq!(desk.catalog().operations(9).unwrap()[0].state, "done");
}

#[test]
fn a_journal_that_is_damaged_later_vouches_for_nothing_until_it_is_mended() {
    let desk = busy();
    let before = desk.answers();
    let path = desk.journal(2);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"x\n"].concat()).unwrap();
    let catalog = desk.catalog();
    assert_eq!(catalog.proofs(None).unwrap(), [], "a proof that nothing vouches for is none");
    assert_eq!(catalog.damaged_journals().unwrap().len(), 2);
    assert!(!desk.ids().contains(&OperationId::from_random(2)));
    let index = desk.state.catalog();
    let damaged = desk.answers();
    fs::remove_file(index).unwrap();
    assert_eq!(desk.answers(), damaged, "an index made anew says the same");
    fs::write(&path, whole).unwrap();
    assert_eq!(desk.answers(), before, "mended");
}

#[test]
fn a_journal_that_was_taken_away_is_forgotten() {
    let desk = busy();
    for number in [1, 4, 5] {
        fs::remove_file(desk.journal(number)).unwrap();
    }
    assert_eq!(desk.ids(), [3, 2].map(OperationId::from_random));
    let catalog = desk.catalog();
    assert_eq!(catalog.unfinished().unwrap(), [], "nothing waits for a journal that is not there");
    assert_eq!((catalog.damaged_journals().unwrap(), desk.marks()), (vec![], Marks::default()));
}

#[test]
fn an_operation_that_died_before_its_first_line_was_never_begun() {
    let desk = Desk::new();
    for half in ["", "{\"schema\":\"lifeboat/en"] {
        fs::write(desk.journal(1), half).unwrap();
        let catalog = desk.catalog();
        assert_eq!((catalog.operations(9).unwrap(), catalog.damaged_journals().unwrap()), (vec![], vec![]), "{half:?}");
    }
    // One that had lines and has none any more is damage.
    let desk = busy();
    desk.ids();
    fs::write(desk.journal(1), "").unwrap();
    assert_eq!(desk.catalog().damaged_journals().unwrap().len(), 2);
}

#[test]
fn of_marks_the_newest_counts_in_whatever_order_they_are_read() {
    // Numbers decide the files' names and with them the order of reading; the clock decides what is newest. The third
    // comes 880 ms after the second and within the same second, where unequal lengths once sorted wrongly.
    for numbers in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let desk = Desk::new();
        desk.mark(numbers[0], hold("first"));
        desk.later(1000);
        desk.mark(numbers[1], BackupMark::Unhold);
        desk.later(120);
        desk.mark(numbers[2], hold("second"));
        assert_eq!(desk.marks().held.as_deref(), Some("second"), "{numbers:?}");
        desk.later(3);
        desk.mark(9, BackupMark::Unhold);
        assert_eq!(desk.marks(), Marks::default(), "{numbers:?}");
        desk.mark(10, BackupMark::Suspect { why: "late".into() });
        assert_eq!(desk.marks(), Marks { held: None, suspect: Some("late".into()) });
        fs::remove_file(desk.journal(9)).unwrap();
        assert_eq!(desk.marks().held.as_deref(), Some("second"), "what was said before counts again");
    }
}

#[test]
fn a_clock_that_was_put_back_turns_no_order_around() {
    let desk = Desk::new();
    let marked = |epoch, number, mark| {
        let action = Action::Mark { backup: backup(), mark };
        let mut journal = desk.begin_under(epoch, number, Request::Retention, vec![action]);
        go(&mut journal, 0, Value::Null);
        journal.append(Event::Closed { state: Outcome::Done }).unwrap();
    };
    let ids = |numbers: [u64; 4]| numbers.map(OperationId::from_random).to_vec();
    marked(5, 3, hold("first"));
    desk.later(1_000);
    marked(6, 9, BackupMark::Unhold);
    desk.clock.jump_to(desk.clock.now() - Duration::from_secs(3 * 3_600));
    marked(7, 1, hold("after the clock was put back"));
    assert_eq!(desk.marks().held.as_deref(), Some("after the clock was put back"));
    desk.later(1_000);
    marked(8, 2, BackupMark::Suspect { why: "late".into() });
    assert_eq!(desk.ids(), ids([2, 1, 9, 3]));
    // The clock is right again.
    desk.later(4 * 3_600_000);
    marked(9, 4, BackupMark::Unhold);
    assert_eq!(desk.ids()[..4], ids([4, 2, 1, 9]));
    assert_eq!(desk.marks(), Marks { held: None, suspect: Some("late".into()) });
}

/// An index of an earlier layout has no column for the lease's grants: it is filled anew from the journals, whoever wrote them.
#[test]
fn an_index_of_an_earlier_layout_is_filled_anew() {
    let desk = busy();
    let answers = desk.answers();
    let old = rusqlite::Connection::open(desk.state.catalog()).unwrap();
    old.execute_batch(
        "DROP TABLE operations;
         CREATE TABLE operations (
             id TEXT PRIMARY KEY, kind TEXT NOT NULL, scope TEXT NOT NULL, started_at TEXT NOT NULL, last_at TEXT NOT NULL,
             state TEXT NOT NULL, closed INTEGER NOT NULL, lines INTEGER NOT NULL, bytes INTEGER NOT NULL);
         DELETE FROM proofs;
         PRAGMA user_version = 4;",
    )
    .unwrap();
    drop(old);
    assert_eq!(desk.answers(), answers);
}

#[test]
fn a_mark_counts_when_its_operation_is_done_and_not_before() {
    let desk = Desk::new();
    let mut journal = desk.begin(1, Request::Retention, vec![Action::Mark { backup: backup(), mark: hold("x") }]);
    go(&mut journal, 0, Value::Null);
    assert_eq!(desk.marks(), Marks::default());
    journal.append(Event::TurnedBack { why: Failure::new(FailureKind::Interrupted, "asked") }).unwrap();
    journal.append(Event::Closed { state: Outcome::PutBack }).unwrap();
    assert_eq!(desk.marks(), Marks::default(), "what was put back has marked nothing");
}

#[test]
fn proofs_come_newest_first_within_a_second_too() {
    let desk = Desk::new();
    let mut expected = Vec::new();
    for (number, milliseconds) in [(5, 0), (3, 120), (4, 3), (1, 77), (2, 800)] {
        let at = desk.later(milliseconds);
        let (action, output) = proof(number, at, Tri::Pass);
        desk.done(number, action, output);
        expected.insert(0, ProofId::from_random(number));
    }
    let found: Vec<_> = desk.catalog().proofs(Some(&backup())).unwrap().into_iter().map(|proof| proof.id).collect();
    assert_eq!(found, expected);
    assert_eq!(desk.ids().len(), 5);
}

fn store_action() -> Action {
    Action::StoreBackup {
        backup: backup(),
        vault: "v".into(),
        reason: lifeboat_model::BackupReason::Manual,
        label: None,
        parts: vec![],
        deploy: None,
    }
}

/// What was taken over from an earlier backup cost nothing to read. Journals from before say only how large a backup is.
#[test]
fn a_backup_is_measured_by_what_was_read_for_it() {
    let desk = Desk::new();
    for (number, output) in
        [json!({ "bytes": 900 }), json!({ "bytes": 1000, "bytes_read": 12 })].into_iter().enumerate()
    {
        desk.later(1000);
        desk.done(number as u64, store_action(), output);
    }
    desk.later(1000);
    let verify = Action::VerifyStored { vault: "v".into(), backup: backup() };
    desk.done(2, verify, json!({ "bytes": 1000, "bytes_read": 12 }));
    let timings = desk.catalog().timings().unwrap();
    let of = |kind: &str| timings[&(kind.to_owned(), "v".to_owned())].iter().map(|one| one.bytes).collect::<Vec<_>>();
    assert_eq!((of("store"), of("verify-stored")), (vec![12, 900], vec![1000]));
}

#[test]
fn of_each_kind_the_twenty_newest_timings_are_told() {
    let desk = Desk::new();
    for number in 0..25 {
        desk.later(1000);
        desk.done(number, store_action(), json!({ "bytes": number }));
    }
    let timings: BTreeMap<_, _> = desk.catalog().timings().unwrap();
    let stored: Vec<u64> = timings[&("store".to_owned(), "v".to_owned())].iter().map(|sample| sample.bytes).collect();
    assert_eq!(stored, (5..25).rev().collect::<Vec<u64>>());
}
