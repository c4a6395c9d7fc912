//! What a journal can tell: exactly the legal moves, and never a panic, whatever the lines say.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{
    Action, BackupMark, Entry, Event, Failure, FailureKind, Lease, OnFailure, Operation, OperationId, OperationState,
    Outcome, Phase, Plan, PlanId, Request, Scope, Step, StepClass, StepId, StepState, Timestamp, Undo,
    operation::ENTRY_SCHEMA, plan::PLAN_SCHEMA,
};
use proptest::prelude::*;
use serde_json::Value;

fn step(id: &str, class: StepClass, undo: Undo) -> Step {
    let action = Action::CheckSpace { path: "/".into(), bytes: 1 };
    Step { id: id.into(), title: id.to_owned(), class, action, undo, on_failure: OnFailure::Unwind, hint: None }
}

fn by() -> Undo {
    Undo::By(Box::new(Action::Remove { paths: vec!["/x".into()] }))
}

/// look, make (with an undo), swap (the point of no return), start (after it).
fn plan() -> Plan {
    let steps = vec![
        step("look", StepClass::Read, Undo::Nothing),
        step("make", StepClass::ProbeFirst, by()),
        step("swap", StepClass::Pivot, Undo::Impossible { because: "it is live".into() }),
        step("start", StepClass::Idempotent, Undo::Nothing),
    ];
    Plan {
        schema: PLAN_SCHEMA.into(),
        id: PlanId::from_random(1),
        request: Request::Mark { backup: lifeboat_model::BackupId::from_random(1), mark: BackupMark::Unhold },
        scope: Scope { app: "shop".into(), environment: "production".into() },
        lease: Lease::Environment,
        title: "a plan".into(),
        made_at: Timestamp::UNIX_EPOCH,
        facts: vec![],
        phases: vec![Phase { name: "all".into(), budget_ms: None, expected: None, steps }],
        losses: vec![],
        notes: vec![],
    }
}

fn opened() -> Event {
    let plan = plan();
    let (digest, plan) = (plan.digest(), Box::new(plan));
    Event::Opened { plan, digest, by: "ann".into(), host: "a1".into(), pid: 1, version: "0".into() }
}

fn entry(seq: u64, event: Event) -> Entry {
    let (op, at) = (OperationId::from_random(7), Timestamp::UNIX_EPOCH);
    Entry { schema: ENTRY_SCHEMA.into(), seq, op, epoch: 1, at, mono_ms: 0, event, prev: String::new(), sum: None }
}

fn why() -> Failure {
    Failure::new(FailureKind::Outside, "trouble")
}

/// A short notation for lines: `+make` started, `.make` finished, `!make` failed, `?make` failed and noted, `=make`
/// adopted, `-make` undo started, `~make` undone, `x-make` undo failed, `pivot`, `back`, `pause`, `resume`, `done`, `put-back`, `hand-over`.
fn event(word: &str) -> Event {
    let id = |text: &str| StepId(text.to_owned());
    match word {
        "opened" => return opened(),
        "back" => return Event::TurnedBack { why: why() },
        "pause" => return Event::Paused { why: why() },
        "resume" => return Event::Resumed { by: "bob".into(), pid: 2, gap_ms: 5 },
        "done" => return Event::Closed { state: Outcome::Done },
        "put-back" => return Event::Closed { state: Outcome::PutBack },
        "hand-over" => return Event::Closed { state: Outcome::HandedOver },
        "late" => return Event::OverBudget { phase: "all".into(), over_ms: 3 },
        _step => {}
    }
    if let Some(step) = word.strip_prefix("x-") {
        return Event::UndoFailed { step: id(step), failure: why() };
    }
    if let Some(step) = word.strip_prefix("cross-") {
        return Event::PivotCrossed { step: id(step) };
    }
    let step = id(&word[1..]);
    match &word[..1] {
        "+" => Event::StepStarted { step, attempt: 1 },
        "." => Event::StepFinished { step, took_ms: 1, output: Value::Null },
        "=" => Event::Adopted { step, output: Value::Null },
        "!" => Event::StepFailed { step, took_ms: 1, failure: why(), noted: false },
        "?" => Event::StepFailed { step, took_ms: 1, failure: why(), noted: true },
        "-" => Event::UndoStarted { step },
        "~" => Event::UndoFinished { step, took_ms: 1 },
        other => panic!("no such line: {other}"),
    }
}

fn tell(words: &str) -> Result<Operation, String> {
    let events = std::iter::once("opened").chain(words.split_whitespace()).map(event);
    let entries: Vec<Entry> = events.enumerate().map(|(seq, event)| entry(seq as u64, event)).collect();
    Operation::from_entries(&entries).map_err(|error| format!("line {}: {}", error.line, error.what))
}

#[test]
fn possible_stories_end_as_they_tell() {
    let clean = "+look .look +make .make +swap .swap cross-swap +start .start";
    let cases = [
        ("", "running", false),
        (clean, "running", true),
        (&format!("{clean} done"), "done", true),
        ("+look .look +make !make back -make ~make put-back", "put-back", false),
        ("+look .look +make .make pause", "paused", false),
        ("+look .look pause resume +make", "running", false),
        // Killed in a step: it is begun again, adopted, or taken back and begun again.
        ("+look resume +look .look", "running", false),
        ("+look .look +make resume =make", "running", false),
        ("+look .look +make resume -make ~make +make .make", "running", false),
        ("+look .look +make resume -make resume -make ~make +make", "running", false),
        ("+look ?look +make", "running", false),
        // An undo that fails is tried again and never skipped.
        ("+look .look +make .make back -make x-make pause", "turning-back", false),
        ("+look .look +make .make back -make x-make pause resume -make ~make put-back", "put-back", false),
        ("+look .look +make .make +swap .swap cross-swap +start !start pause", "paused", true),
        ("late late +look", "running", false),
        // Closed where it stands, for whoever goes on from there.
        ("+look .look +make resume pause hand-over", "handed-over", false),
        ("+look .look +make .make +swap .swap cross-swap +start resume pause hand-over", "handed-over", true),
        ("+look .look +make .make back -make x-make pause resume pause hand-over", "handed-over", false),
    ];
    for (words, state, past_pivot) in cases {
        let operation = tell(words).unwrap_or_else(|error| panic!("{words}: {error}"));
        let found = match operation.state {
            OperationState::Running => "running",
            OperationState::TurningBack { .. } => "turning-back",
            OperationState::Paused { .. } => "paused",
            OperationState::Done => "done",
            OperationState::PutBack { .. } => "put-back",
            OperationState::HandedOver { .. } => "handed-over",
        };
        assert_eq!((found, operation.past_pivot), (state, past_pivot), "{words}");
        assert_eq!(operation.lines as usize, words.split_whitespace().count() + 1, "{words}");
    }
    assert_eq!(tell("late late").unwrap().over_budget, [("all".to_owned(), 3)], "told twice, listed once");
}

#[test]
fn impossible_stories_are_refused_with_the_line() {
    let made = "+look .look +make .make";
    let swapped = "+look .look +make .make +swap .swap cross-swap";
    let cases = [
        ("opened", "it was opened before"),
        ("+look .look hand-over", "only what waits, or goes back, is handed over"),
        ("pause hand-over resume", "the operation was closed"),
        ("+nothing", "the plan has no step nothing"),
        (".look", "the step is in no state for that"),
        ("=look", "the step is in no state for that"),
        ("!look", "the step is in no state for that"),
        ("+look .look +look", "another step is next"),
        ("+look ?look +look", "another step is next"),
        ("+make", "another step is next"),
        ("-look", "the step is in no state for that"),
        ("~look", "the step is in no state for that"),
        ("x-look", "the step is in no state for that"),
        ("+look .look +make -make +make", "the step is in no state for that"),
        ("pause +look", "the operation waits and nobody has resumed it"),
        ("back +look", "the operation is turning back"),
        ("+look back .look", "the operation is turning back"),
        ("+look back resume =look", "the operation is turning back"),
        ("cross-swap", "only a point of no return that is done can be crossed"),
        ("+look .look cross-look", "only a point of no return that is done can be crossed"),
        (&format!("{made} +swap cross-swap"), "only a point of no return that is done can be crossed"),
        (&format!("{made} +swap .swap back"), "past the point of no return there is no way back"),
        (&format!("{swapped} back"), "past the point of no return there is no way back"),
        (&format!("{swapped} -make"), "past the point of no return there is no way back"),
        (&format!("{made} done"), "it is not done: steps are left"),
        ("pause done", "it is not done: steps are left"),
        ("put-back", "it is not put back: steps are left to be undone"),
        (&format!("{made} back put-back"), "it is not put back: steps are left to be undone"),
        (&format!("{made} back -make put-back"), "it is not put back: steps are left to be undone"),
        (&format!("{made} back -make x-make put-back"), "it is not put back: steps are left to be undone"),
        ("back put-back resume", "the operation was closed"),
        ("back put-back put-back", "the operation was closed"),
    ];
    for (words, what) in cases {
        let last = words.split_whitespace().count();
        assert_eq!(tell(words).err(), Some(format!("line {last}: {what}")), "{words}");
    }
}

#[test]
fn lines_must_follow_each_other_under_leases_that_do_not_get_older() {
    let first = entry(0, opened());
    let refused = |second: Entry| Operation::from_entries(&[first.clone(), second]).unwrap_err().what;
    let missing = "a line is missing, or belongs to another operation";
    assert_eq!(refused(entry(2, event("+look"))), missing);
    assert_eq!(refused(entry(0, event("+look"))), missing);
    assert_eq!(refused(Entry { op: OperationId::from_random(8), ..entry(1, event("+look")) }), missing);
    assert_eq!(refused(Entry { epoch: 0, ..entry(1, event("+look")) }), "it was written under an older lease");
    assert_eq!(Operation::from_entries(&[]).unwrap_err().what, "there is no line at all");
    let late = Operation::from_entries(&[entry(0, event("+look"))]).unwrap_err();
    assert_eq!(late.what, "a journal begins with \"opened\"");
    let Event::Opened { mut plan, digest, by, host, pid, version } = opened() else { panic!("not opened") };
    plan.title.push('!');
    let changed = entry(0, Event::Opened { plan, digest, by, host, pid, version });
    assert_eq!(Operation::open(&changed).unwrap_err().what, "the plan is not the one that was agreed to");
}

/// The wall's clock is set back and forth; what a person waits for goes by the other one, and only from one process to the
/// next, which have no clock in common, by the wall's.
#[test]
fn obj_08_a_duration_is_right_although_the_clock_is_changed_meanwhile() {
    let line = |seq, epoch, seconds, mono_ms, what| Entry {
        epoch,
        at: Timestamp::from_second(seconds).unwrap(),
        mono_ms,
        ..entry(seq, what)
    };
    let told = [
        line(0, 1, 10_000, 500, opened()),
        line(1, 1, 6_400, 1_500, event("+look")),
        line(2, 1, 17_200, 4_500, event(".look")),
        // Another process goes on, ten seconds later.
        line(3, 2, 17_210, 3, event("+make")),
        line(4, 2, 0, 1_003, event(".make")),
    ];
    let operation = Operation::from_entries(&told).unwrap();
    assert_eq!((operation.elapsed_ms, operation.elapsed()), (15_000, std::time::Duration::from_secs(15)));
}

#[test]
fn the_next_step_is_the_first_that_is_neither_done_nor_noted() {
    for (words, next) in [
        ("", Some(0)),
        ("+look", Some(0)),
        ("+look .look", Some(1)),
        ("+look !look", Some(0)),
        ("+look ?look", Some(1)),
        ("+look .look +make -make", Some(1)),
        ("+look .look +make -make x-make", Some(1)),
        ("+look .look +make .make +swap .swap cross-swap +start .start", None),
    ] {
        assert_eq!(tell(words).unwrap().next_step(), next, "{words}");
    }
    let operation = tell("+look .look +make").unwrap();
    assert_eq!(operation.output(&"look".into()), Some(&Value::Null));
    assert_eq!((operation.output(&"make".into()), operation.output(&"nothing".into())), (None, None));
    assert!(operation.is_pivot(2) && !operation.is_pivot(1) && !operation.is_pivot(99));
}

fn any_word() -> impl Strategy<Value = String> {
    let steps = || prop::sample::select(vec!["look", "make", "swap", "start", "nothing"]);
    let verbs = prop::sample::select(vec!["+", ".", "=", "!", "?", "-", "~", "x-", "cross-"]);
    let plain = prop::sample::select(vec!["back", "pause", "resume", "done", "put-back", "late", "opened"]);
    prop_oneof![3 => (verbs, steps()).prop_map(|(verb, step)| format!("{verb}{step}")), 1 => plain.prop_map(str::to_owned)]
}

proptest! {
    // What fails is printed in its smallest form; it becomes a case above.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Lines that cannot follow are left out and leave no trace; what is left obeys the rules a person relies on.
    #[test]
    fn random_lines_never_panic_and_what_is_accepted_is_sound(words in prop::collection::vec(any_word(), 0..60)) {
        let mut operation = Operation::open(&entry(0, opened())).unwrap();
        let mut crossed = false;
        for word in &words {
            let before = operation.clone();
            let accepted = operation.take(&entry(operation.lines, event(word))).is_ok();
            crossed |= accepted && word.starts_with("cross-");
            if !accepted {
                prop_assert_eq!(&operation, &before, "a refused line left a trace: {}", word);
            }
            prop_assert_eq!(operation.past_pivot, crossed);
            if crossed {
                prop_assert!(matches!(operation.steps[2], StepState::Done { .. }), "past a swap that is not done");
                let back = matches!(operation.state, OperationState::TurningBack { .. } | OperationState::PutBack { .. });
                prop_assert!(!back, "back past the point of no return");
            }
            if operation.state == OperationState::Done {
                prop_assert_eq!(operation.next_step(), None);
            }
            let begun = operation.steps.iter().rposition(|state| *state != StepState::Planned).unwrap_or(0);
            prop_assert!(operation.steps[..begun].iter().all(|state| *state != StepState::Planned), "a step was left out");
            if matches!(operation.state, OperationState::PutBack { .. }) {
                prop_assert!(matches!(operation.steps[1], StepState::Planned | StepState::Undone));
            }
        }
    }
}
