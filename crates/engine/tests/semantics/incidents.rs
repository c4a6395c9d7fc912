//! While an incident is open, and until it is reviewed, nothing of it is deleted or chosen by itself.

use std::time::Duration;

use lifeboat_io::{Clock, Stop};
use lifeboat_model::{
    BackupChoice, BackupReason, FailureKind, IncidentStep, Keep, OperationId, Request, Timestamp,
    escalation::OnDuty,
    message::{Channel, Occasion, Way},
};
use lifeboat_testkit::{World, world::restore_of};

use crate::hands::only_database;

const MONTHS: Duration = Duration::from_secs(100 * 86_400);

fn open(world: &World, since: Timestamp) -> OperationId {
    let about = IncidentStep::Open { title: "prices are wrong".into(), since, provider_sla: None };
    world.must(&Request::Incident { about }).id
}

fn closed(incident: &OperationId) -> Request {
    Request::Incident {
        about: IncidentStep::Close { incident: incident.clone(), note: "restored".into(), leave_off: false },
    }
}

fn reviewed(incident: &OperationId) -> Request {
    Request::Incident { about: IncidentStep::Review { incident: incident.clone(), note: "validated now".into() } }
}

/// What retention would do, in its own words.
fn retention(world: &World) -> String {
    world.engine().plan(&Request::Retention).unwrap().title
}

#[test]
fn ret_06_what_belongs_to_an_incident_is_held_until_its_review() {
    let mut world = only_database();
    world.setup.keep = Keep { within: None, last: 1, daily: 0, weekly: 0, monthly: 0, ..Keep::default() };
    for _ in 0..2 {
        world.backup();
        world.clock.advance(MONTHS);
    }
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    assert_eq!(retention(&world), "let 1 of 2 backups of shop/production go");
    let before = world.engine().plan(&Request::Retention).unwrap();

    // Open: nothing goes at all, not even by a plan that was made before.
    let incident = open(&world, world.clock.now());
    assert_eq!(retention(&world), "let 0 of 2 backups of shop/production go");
    let stale = crate::hands::run(&world.engine(), &before).unwrap_err();
    assert_eq!(stale.failure.kind, FailureKind::Stale);
    let restored = world.restore("db");
    let release = Request::Release { operation: restored.id };
    let emergency =
        |world: &World| world.backups().into_iter().find(|backup| backup.reason == BackupReason::Emergency).unwrap();
    assert!(emergency(&world).held.unwrap().contains("is open: prices are wrong"));

    // Over, and much later: what was there before goes by the rules, what was made since then stays.
    world.must(&closed(&incident));
    world.clock.advance(MONTHS);
    world.backup();
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    assert!(emergency(&world).held.unwrap().contains("is not reviewed"));
    assert_eq!(retention(&world), "let 1 of 4 backups of shop/production go");
    let refused = world.engine().plan(&release).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.message.contains(incident.as_str()), "{refused}");

    // Reviewed: the rules are all there is.
    world.must(&reviewed(&incident));
    assert_eq!(emergency(&world).held, None);
    assert_eq!(retention(&world), "let 2 of 4 backups of shop/production go");
    world.must(&release);
}

#[test]
fn bkp_27_a_backup_from_during_an_incident_is_never_chosen_by_itself() {
    let world = only_database();
    world.backup();
    world.clock.advance(Duration::from_secs(600));
    let since = world.clock.now();
    world.clock.advance(Duration::from_secs(600));
    world.backup();
    let chosen = |world: &World| {
        let plan = world.engine().plan(&restore_of("db")).unwrap();
        plan.steps().find_map(|step| match &step.action {
            lifeboat_model::Action::Fetch { backup, .. } => Some(backup.clone()),
            _other => None,
        })
    };
    let ids = |world: &World| world.backups().into_iter().map(|backup| Some(backup.id)).collect::<Vec<_>>();
    assert_eq!(chosen(&world), ids(&world)[1]);
    // It began before it was noticed: the second backup was taken in between.
    let incident = open(&world, since);
    assert_eq!(chosen(&world), ids(&world)[0]);
    world.must(&closed(&incident));
    assert_eq!(chosen(&world), ids(&world)[0], "it is what it was");
    world.clock.advance(Duration::from_secs(600));
    world.backup();
    assert_eq!(chosen(&world), ids(&world)[2], "from after the end");
}

#[test]
fn what_is_said_of_an_incident_follows_one_order() {
    let world = only_database();
    let now = world.clock.now();
    let refused = |request: &Request| world.engine().plan(request).unwrap_err().kind;
    let later = IncidentStep::Open { title: "x".into(), since: now + Duration::from_secs(60), provider_sla: None };
    assert_eq!(refused(&Request::Incident { about: later }), FailureKind::Usage);
    let silent = IncidentStep::Open { title: " ".into(), since: now, provider_sla: None };
    assert_eq!(refused(&Request::Incident { about: silent }), FailureKind::Usage);
    let incident = open(&world, now);
    assert_eq!(refused(&reviewed(&incident)), FailureKind::Refused, "it is still open");
    world.must(&closed(&incident));
    assert_eq!(refused(&closed(&incident)), FailureKind::Refused, "once is enough");
    world.must(&reviewed(&incident));
    assert_eq!(refused(&reviewed(&incident)), FailureKind::Refused);
    assert_eq!(refused(&closed(&OperationId::from_random(7))), FailureKind::Refused, "there is none");
    let [found] = &world.engine().incidents().unwrap()[..] else { panic!("one incident") };
    assert_eq!((found.state(), found.reviewed.as_ref().unwrap().note.as_str()), ("reviewed", "validated now"));
}

/// PIR-01, PIR-03..05: what is due when an incident is over, at its times; overdue it comes first, and it is ticked off with who and when.
#[test]
fn pir_03_what_is_due_is_on_record_becomes_overdue_and_is_ticked_off() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let mut world = only_database();
    world.setup.due_times.insert("post-mortem".to_owned(), Some(48 * HOUR));
    world.setup.due_times.insert("report".to_owned(), None);
    let incident = open(&world, world.clock.now());
    assert_eq!(world.engine().deadlines().unwrap(), vec![]);
    world.must(&closed(&incident));
    let due = |world: &World| world.engine().open_deadlines().unwrap();
    let hours = |world: &World| -> Vec<(String, u64)> {
        let closed = world.engine().incidents().unwrap()[0].closed.clone().unwrap().at;
        let after = |at| lifeboat_model::time::since(closed, at).as_secs().div_ceil(3_600);
        due(world).iter().map(|one| (one.key.clone(), after(one.due))).collect()
    };
    let wanted = [
        ("document", 1),
        ("evidence", 1),
        ("stability", 1),
        ("review", 24),
        ("root-cause", 24),
        ("post-mortem", 48),
        ("prevention", 168),
    ];
    assert_eq!(hours(&world), wanted.map(|(key, after)| (key.to_owned(), after)));

    // Other settings move nothing that is on record.
    world.setup.due_times.clear();
    world.clock.advance(HOUR - Duration::from_secs(60));
    assert!(due(&world).iter().all(|one| !one.overdue));
    world.clock.advance(Duration::from_secs(60));
    let overdue: Vec<String> = due(&world).into_iter().filter(|one| one.overdue).map(|one| one.key).collect();
    assert_eq!(overdue, ["document", "evidence", "stability"]);
    assert!(due(&world)[0].sentence(world.clock.now()).starts_with("OVERDUE since "), "{:?}", due(&world)[0]);
    let status = world.engine().look().status().unwrap();
    assert_eq!((status.deadlines.len(), status.good), (7, lifeboat_model::Tri::Fail));

    let tick = |key: &str, category| world.engine().tick_off(key, None, category, "it is");
    world.must(&tick("stability", None).unwrap());
    assert_eq!(tick("stability", None).unwrap_err().message, "no stability is due");
    let refused = tick("root-cause", Some("bad luck")).unwrap_err();
    assert!(refused.hint.unwrap().contains("Migration error"));
    assert!(
        tick("root-cause", None).is_err() && tick("document", Some("Code bug")).is_err() && tick("x", None).is_err()
    );
    world.must(&tick("root-cause", Some("code bug")).unwrap());
    world.must(&reviewed(&incident));
    let left: Vec<String> = due(&world).into_iter().map(|one| one.key).collect();
    assert_eq!(left, ["document", "evidence", "prevention"], "a review is the post-mortem too");
    let all = world.engine().deadlines().unwrap();
    let cause = all.iter().find(|one| one.key == "root-cause").unwrap().done.clone().unwrap();
    assert_eq!((cause.note.as_str(), cause.by.is_empty()), ("Code bug: it is", false));
}

/// ESC-07: the times run in journals and in the outbox, not in a process: whoever looks next, tells on time what was not told.
#[test]
fn esc_07_who_is_to_be_called_survives_every_restart() {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut world = only_database();
    let file = world.path("messages.jsonl");
    world.setup.channels = vec![Channel {
        name: "status".into(),
        way: Way::File { path: file.clone() },
        occasions: vec![
            Occasion::BackupCalled,
            Occasion::EverybodyCalled,
            Occasion::ExecutiveCalled,
            Occasion::Overdue,
        ],
    }];
    let duty = |name: &str| OnDuty {
        primary: Some(format!("{name} one")),
        backup: Some(format!("{name} two")),
        phone: Some("1".into()),
    };
    world.setup.contacts.roles = [("deployment_lead", "Ada"), ("database_administrator", "Bob")]
        .map(|(key, name)| (key.to_owned(), duty(name)))
        .into();
    world.setup.contacts.executive = Some("Eve".into());
    let incident = open(&world, world.clock.now());
    // Each look is that of a daemon that was started anew.
    let told = |world: &World| -> Vec<String> {
        world.engine().tend_messages(&Stop::default()).unwrap().into_iter().map(|one| one.notice.text).collect()
    };
    world.clock.advance(5 * MINUTE - Duration::from_secs(20));
    assert_eq!(told(&world), [""; 0]);
    // The database administrator answers in the last moment; the lead does not.
    world.must(&world.engine().answer(Some("database-administrator"), None).unwrap());
    assert_eq!(world.engine().answer(Some("captain"), None).unwrap_err().kind, FailureKind::Usage);
    world.clock.advance(Duration::from_secs(20));
    let backup = told(&world);
    assert_eq!(backup.len(), 1, "{backup:?}");
    assert!(backup[0].contains("deployment lead: Ada one has not answered, call Ada two, 1"), "{backup:?}");
    assert!(!backup[0].contains("Bob"), "{backup:?}");
    assert_eq!(told(&world), [""; 0], "each once");
    world.clock.advance(5 * MINUTE);
    assert!(told(&world)[0].contains("neither Ada one nor Ada two has answered"));
    world.must(&world.engine().answer(None, Some("on my way")).unwrap());
    // Down for half an hour: what was to be said then is said at once. Somebody has answered, and it is not over all the same.
    world.clock.advance(30 * MINUTE);
    let executive = told(&world);
    assert!(executive.len() == 1 && executive[0].contains("call Eve; at work: "), "{executive:?}");
    world.must(&closed(&incident));
    assert!(world.engine().answer(None, None).is_err(), "nobody is waited for any more");
    world.clock.advance(61 * MINUTE);
    assert_eq!(told(&world).len(), 3, "and what is overdue afterwards, each by itself");
    assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 6);
}
