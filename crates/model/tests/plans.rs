//! Plans and requests as data: their shape, their digest, and that old ones are read for ever.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{
    Action, BackupChoice, BackupId, BackupMark, BackupReason, Entry, Operation, OperationId, OperationState, Plan,
    Prediction, Request, ResourceName, Sample, StepClass, Undo, predict, predict::add,
};

/// A plan of a restore as it was written by version 0.1.0. Never changed: a later version must read and run it.
const OLD_PLAN: &str = include_str!("fixtures/plan-1.json");
/// The journal of that restore.
const OLD_JOURNAL: &str = include_str!("fixtures/journal-1.ndjson");

/// Journals of deploys and rollbacks as version 0.1.0 wrote them, each with how it ended.
const OLD_VERSIONS: [(&str, &str, bool); 5] = [
    ("a deploy that ended good", include_str!("fixtures/journal-deploy-1.ndjson"), true),
    ("a deploy that went back by itself", include_str!("fixtures/journal-deploy-back-1.ndjson"), false),
    ("a full rollback", include_str!("fixtures/journal-rollback-full-1.ndjson"), true),
    ("a rollback by DOWN scripts", include_str!("fixtures/journal-rollback-down-1.ndjson"), true),
    ("a full rollback that is taken back", include_str!("fixtures/journal-undo-rollback-1.ndjson"), true),
];

fn old_plan() -> Plan {
    serde_json::from_str(OLD_PLAN).unwrap()
}

#[test]
fn an_old_plan_is_read_and_has_its_old_digest() {
    let plan = old_plan();
    assert_eq!(plan.flaws(), Vec::<String>::new());
    // What a person agreed to then is what an upgraded program will run: nothing was added, lost or renamed on the way.
    let written: serde_json::Value = serde_json::from_str(OLD_PLAN).unwrap();
    assert_eq!(serde_json::to_value(&plan).unwrap(), written);
    let first: serde_json::Value = serde_json::from_str(OLD_JOURNAL.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"]["digest"].as_str(), Some(plan.digest().as_str()));
}

#[test]
fn an_old_journal_is_read_at_every_line() {
    let entries: Vec<Entry> = OLD_JOURNAL.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for lines in 1..=entries.len() {
        let operation = Operation::from_entries(&entries[..lines]).unwrap();
        assert_eq!(operation.is_closed(), lines == entries.len());
    }
    let whole = Operation::from_entries(&entries).unwrap();
    assert_eq!((&whole.state, whole.past_pivot), (&OperationState::Done, true));
    assert_eq!(whole.plan, old_plan());
}

/// Plans of deploys and rollbacks: nothing is added, lost or renamed on the way through this version, what was agreed to keeps its digest,
/// and the journal is read at every line.
#[test]
fn old_deploys_and_rollbacks_are_read_at_every_line() {
    let mut seen = std::collections::BTreeSet::new();
    for (what, journal, is_done) in OLD_VERSIONS {
        let first: serde_json::Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
        let written = &first["event"]["plan"];
        let plan: Plan = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(plan.flaws(), Vec::<String>::new(), "{what}");
        assert_eq!(&serde_json::to_value(&plan).unwrap(), written, "{what}");
        assert_eq!(first["event"]["digest"].as_str(), Some(plan.digest().as_str()), "{what}");
        for step in plan.steps() {
            let action = serde_json::to_value(&step.action).unwrap();
            let inner = ["target", "ask"].iter().find_map(|key| action["action"][key].as_str());
            seen.insert(inner.or(action["do"].as_str()).unwrap().to_owned());
        }
        let entries: Vec<Entry> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for lines in 1..=entries.len() {
            let operation = Operation::from_entries(&entries[..lines]).unwrap_or_else(|why| panic!("{what}: {why:?}"));
            assert_eq!(operation.is_closed(), lines == entries.len(), "{what}, line {lines}");
        }
        let whole = Operation::from_entries(&entries).unwrap();
        let ended = matches!(whole.state, OperationState::Done);
        assert_eq!((ended, matches!(whole.state, OperationState::PutBack { .. })), (is_done, !is_done), "{what}");
    }
    // The fixtures are worth having only if what deploys and rollbacks do is in them.
    for word in
        ["check-runs", "stage", "switch", "note-instance", "new-instance", "probe", "scan-log", "watch", "release"]
    {
        assert!(seen.contains(word), "no fixture has {word}: {seen:?}");
    }
}

#[test]
fn requests_come_back_as_they_went() {
    let (backup, operation) = (BackupId::from_random(3), OperationId::from_random(4));
    let (resource, hold) = (ResourceName::new("db").unwrap(), BackupMark::Hold { why: "the \"audit\"\n".into() });
    let requests = [
        Request::Backup { resources: vec![], reason: BackupReason::PreDeploy, label: Some("é 🛟".into()) },
        Request::Restore {
            resource: resource.clone(),
            from: BackupChoice::Before("2026-05-01T09:00:00.123Z".parse().unwrap()),
            into: Some("/tmp/a b".into()),
            tablespaces: std::collections::BTreeMap::new(),
            without_emergency_backup: Some("the disk is full".into()),
            accept_loss: lifeboat_model::AcceptLoss::Rows(3),
            urgent: Some("the shop is down".into()),
            ack: Some("disk".into()),
        },
        Request::Prove { backup: BackupChoice::Exactly(backup.clone()), resources: vec![resource] },
        Request::Prove { backup: BackupChoice::Latest, resources: vec![] },
        Request::Undo { operation: operation.clone() },
        Request::Release { operation },
        Request::Retention,
        Request::Prune,
        Request::Mark { backup: backup.clone(), mark: hold },
        Request::Mark { backup: backup.clone(), mark: BackupMark::Unhold },
        Request::Mark { backup: backup.clone(), mark: BackupMark::Suspect { why: String::new() } },
        Request::Mark { backup, mark: BackupMark::Trust },
    ];
    for request in requests {
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request, "{json}");
        assert_eq!(serde_json::to_value(&request).unwrap()["ask"], request.word(), "{json}");
    }
}

#[test]
fn a_plan_whose_shape_is_wrong_says_so() {
    let sound = old_plan();
    let pivot = sound.pivot().unwrap();
    let change = |act: &dyn Fn(&mut Plan)| {
        let mut plan = sound.clone();
        act(&mut plan);
        plan.flaws()
    };
    fn nth(plan: &mut Plan, index: usize) -> &mut lifeboat_model::Step {
        plan.phases.iter_mut().flat_map(|phase| &mut phase.steps).nth(index).unwrap()
    }
    let twice = change(&|plan| nth(plan, 1).id = nth(plan, 0).id.clone());
    assert_eq!(twice, [format!("two steps are called {}", sound.steps().next().unwrap().id)]);
    let two_ways = change(&|plan| nth(plan, pivot + 1).class = StepClass::Pivot);
    assert_eq!(two_ways, ["there are two points of no return"]);
    let stuck = change(&|plan| nth(plan, 0).undo = Undo::Impossible { because: "it is gone".into() });
    let first = sound.steps().next().unwrap().id.clone();
    assert_eq!(stuck, [format!("{first} comes before the point of no return and cannot be undone: it is gone")]);
    let no_pivot = change(&|plan| nth(plan, pivot).class = StepClass::ProbeFirst);
    assert_eq!(no_pivot.len(), 1, "without a point of no return every step must have a way back: {no_pivot:?}");
}

#[test]
fn the_digest_is_of_everything_in_the_plan() {
    let plan = old_plan();
    let mut others = vec![plan.clone(); 5];
    others[0].title.push(' ');
    others[1].facts.pop();
    others[2].phases[0].steps[0].title.push(' ');
    others[3].notes.push("a note".into());
    others[4].phases[0].budget_ms = Some(1);
    for other in others {
        assert_ne!(other.digest(), plan.digest());
    }
    assert_eq!(plan.digest(), old_plan().digest());
}

#[test]
fn every_action_comes_back_as_it_went() {
    let mut seen = std::collections::BTreeSet::new();
    for step in old_plan().steps() {
        let json = serde_json::to_value(&step.action).unwrap();
        seen.insert(json["do"].as_str().unwrap().to_owned());
        assert_eq!(serde_json::from_value::<Action>(json).unwrap(), step.action);
    }
    // A restore in place of a database with a writer uses these; the fixture is worth having only if they are in it.
    for word in [
        "check-backup",
        "capture-sqlite",
        "store-backup",
        "fetch",
        "check-fetched",
        "set-aside",
        "put-in-place",
        "command",
    ] {
        assert!(seen.contains(word), "the fixture has no {word}: {seen:?}");
    }
}

#[test]
fn predictions_add_up_and_a_guess_makes_the_sum_one() {
    let measured = Prediction { p50_ms: 10, p95_ms: 20, samples: 4, back_test: None };
    let guessed = Prediction { p50_ms: 1, p95_ms: 3, samples: 0, back_test: None };
    assert_eq!(add([]), None);
    assert_eq!(add([measured]), Some(measured));
    assert_eq!(add([measured, guessed]), Some(Prediction { p50_ms: 11, p95_ms: 23, samples: 0, back_test: None }));
}

#[test]
fn odd_samples_give_finite_answers() {
    let odd = [
        vec![Sample { bytes: 0, ms: 7 }],
        vec![Sample { bytes: 1, ms: 0 }],
        vec![Sample { bytes: u64::MAX, ms: u64::MAX }, Sample { bytes: 0, ms: 0 }],
    ];
    for samples in odd {
        for bytes in [0, 1, u64::MAX] {
            let predicted = predict(&samples, bytes, 1.0);
            assert_eq!(predicted.samples as usize, samples.len());
            assert!(predicted.p50_ms <= predicted.p95_ms, "{samples:?} {bytes}: {predicted:?}");
        }
    }
    let large = Sample { bytes: 100 << 20, ms: 150 };
    assert_eq!(predict(&[large], 200 << 20, 1.0).p50_ms, 250, "50 ms are fixed, the rest doubles");
    let fewer = predict(&[Sample { bytes: 1, ms: 100 }; 2], 1, 1.0);
    let more = predict(&[Sample { bytes: 1, ms: 100 }; 19], 1, 1.0);
    assert!(fewer.p95_ms > more.p95_ms, "the margin shrinks as measurements come in");
}
