//! RST-29: what is lost is told before, counted before the swap, and never more than somebody agreed to.

use lifeboat_model::{AcceptLoss, Action, FailureKind, LossLine, Operation, OperationState, Request, StepState};
use lifeboat_testkit::{
    World,
    world::{restore_of, sql},
};

use crate::hands::{bent, only_database, run, state};

fn accepting(accepted: AcceptLoss) -> Request {
    let Request::Restore { resource, from, into, without_emergency_backup, urgent, tablespaces, .. } = restore_of("db")
    else {
        unreachable!()
    };
    Request::Restore {
        resource,
        from,
        into,
        without_emergency_backup,
        urgent,
        ack: None,
        accept_loss: accepted,
        tablespaces,
    }
}

/// Created, changed and deleted of a table, as the step before the swap counted them.
fn counted(operation: &Operation, table: &str) -> Option<(u64, u64, u64)> {
    let StepState::Done { output, .. } = state(operation, "loss") else { panic!("not counted: {operation:?}") };
    let lines: Vec<LossLine> = serde_json::from_value(output["lost"].clone()).unwrap();
    let line = lines.iter().find(|line| line.table == table)?;
    Some((line.created?, line.changed?, line.deleted?))
}

fn shown(world: &World, table: &str) -> Option<(Option<u64>, Option<u64>, Option<u64>)> {
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let line = plan.losses[0].what.iter().find(|line| line.table == table)?;
    Some((line.created, line.changed, line.deleted))
}

#[test]
fn rows_created_changed_and_deleted_since_are_shown_and_counted() {
    let world = only_database();
    world.backup();
    sql(
        &world.app("shop.db"),
        "DELETE FROM orders WHERE id <= 2; UPDATE customers SET name = 'other' WHERE id = 3;
         INSERT INTO orders (customer, cents, created_at) VALUES (1, 5, '2026-01-03'), (1, 5, '2026-01-03'), (1, 6, '2026-01-03');",
    );
    assert_eq!(shown(&world, "orders"), Some((Some(3), None, Some(2))), "nothing tells when an order changed");
    assert_eq!(shown(&world, "customers"), Some((Some(0), None, Some(0))), "it differs, and no time says where");
    assert_eq!(shown(&world, "settings"), None);
    let done = world.restore("db");
    assert_eq!(counted(&done, "orders"), Some((3, 0, 2)));
    assert_eq!(counted(&done, "customers"), Some((0, 1, 0)), "what was there when it was planned is no surprise");
    assert_eq!(counted(&done, "settings"), None);
}

/// Writes to the live database when the last count begins, and says how the restore ends.
fn written_meanwhile(world: &World, statements: &'static str, request: &Request) -> Operation {
    let path = world.app("shop.db");
    let engine = bent(world, move |action, _context| {
        if matches!(action, Action::CompareLoss { .. }) {
            sql(&path, statements);
        }
        None
    });
    run(&engine, &engine.plan(request).unwrap()).unwrap()
}

#[test]
fn what_was_written_after_the_plan_stops_it_before_the_swap() {
    let more = "INSERT INTO orders (customer, cents, created_at) VALUES (1, 5, '2026-01-03')";
    let other = "UPDATE customers SET name = name || '!' WHERE id < 4";
    for (statements, wanted) in [(more, "orders: 3 rows came"), (other, "customers: 0 rows came and 3 changed")] {
        let world = only_database();
        world.backup();
        world.sell(2);
        let stopped = written_meanwhile(&world, statements, &restore_of("db"));
        let OperationState::PutBack { why: Some(why) } = &stopped.state else { panic!("{:?}", stopped.state) };
        assert_eq!(why.kind, FailureKind::Stale);
        assert!(why.to_string().contains(wanted) && !stopped.past_pivot, "{why}");
        let hint = why.hint.clone().unwrap();
        assert!(hint.starts_with("lifeboat restore db --from b-") && hint.contains("--accept-loss "), "{hint}");
        let look = world.look();
        assert!(look.debris.is_empty() && look.live["db"].contains("orders 4"), "{look:?}");
    }
}

#[test]
fn so_many_rows_or_any_can_be_agreed_to() {
    let more = "INSERT INTO orders (customer, cents, created_at) VALUES (1, 5, '2026-01-03')";
    for (accepted, done) in
        [(AcceptLoss::Shown, false), (AcceptLoss::Rows(2), false), (AcceptLoss::Rows(3), true), (AcceptLoss::Any, true)]
    {
        let world = only_database();
        world.backup();
        world.sell(2);
        let ended = written_meanwhile(&world, more, &accepting(accepted));
        assert_eq!(ended.state == OperationState::Done, done, "{accepted:?}: {:?}", ended.state);
    }
}

#[test]
fn a_kept_plan_whose_loss_has_grown_is_refused_and_names_the_tables() {
    let world = only_database();
    world.backup();
    world.sell(2);
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let any = world.engine().plan(&accepting(AcceptLoss::Any)).unwrap();
    world.engine().check_losses(&plan).unwrap();
    world.sell(3);
    let refused = world.engine().check_losses(&plan).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Stale);
    assert!(refused.to_string().contains("orders: 5 rows came"), "{refused}");
    world.engine().check_losses(&any).unwrap();
}

/// Before a running app is stopped for nothing, it is counted once already.
#[test]
fn with_a_writer_to_stop_it_is_counted_before_it_is_stopped() {
    let mut world = only_database();
    let touched = world.path("stopped");
    let argv = |word: &str| vec![word.to_owned(), touched.display().to_string()];
    world.setup.resources[0].writer =
        Some(lifeboat_model::Writer { stop: argv("touch"), start: vec!["true".to_owned()] });
    world.backup();
    world.sell(1);
    let more = "INSERT INTO orders (customer, cents, created_at) VALUES (1, 5, '2026-01-03')";
    let stopped = written_meanwhile(&world, more, &restore_of("db"));
    assert!(matches!(stopped.state, OperationState::PutBack { .. }), "{:?}", stopped.state);
    assert!(!touched.exists(), "the app was stopped for nothing");
    world.restore("db");
    assert!(touched.exists());
}

/// An undo loses what was written since the swap, in rows that came as in rows that were there.
#[test]
fn the_plan_of_an_undo_shows_what_was_written_since() {
    let world = only_database();
    world.backup();
    world.sell(2);
    let restored = world.restore("db");
    let undo_of = |operation: &Operation| Request::Undo { operation: operation.id.clone() };
    let leaving = |request: &Request, table: &str| {
        let plan = world.engine().plan(request).unwrap();
        let line = plan.losses.iter().flat_map(|loss| &loss.what).find(|line| line.table == table)?.clone();
        Some((line.rows_now?, line.rows_backup?, line.created, line.changed, line.rows_lost()))
    };
    // Two orders come back, and none leaves that is not in the backup.
    let (now, then, created, _, lost) = leaving(&undo_of(&restored), "orders").unwrap();
    assert_eq!((then - now, created, lost), (2, Some(0), 0));
    assert_eq!(leaving(&undo_of(&restored), "customers"), None);

    world.sell(1);
    sql(&world.app("shop.db"), "UPDATE customers SET name = 'other' WHERE id = 3");
    let (_, _, created, _, lost) = leaving(&undo_of(&restored), "orders").unwrap();
    assert_eq!((created, lost), (Some(1), 1));
    let (.., changed, _) = leaving(&undo_of(&restored), "customers").unwrap();
    assert_eq!(changed, None, "it differs from the backup, and no time says in how many rows");

    // What the undo put there came out of no backup: compared with what it kept, row by row.
    let engine = world.engine();
    let undone = run(&engine, &engine.plan(&undo_of(&restored)).unwrap()).unwrap();
    let (.., created, changed, _) = leaving(&undo_of(&undone), "orders").unwrap();
    // Two orders; the first has the number of the one that was sold since the restore.
    assert_eq!((created, changed), (Some(1), Some(1)));
    assert_eq!(leaving(&undo_of(&undone), "customers").map(|line| line.3), Some(Some(1)));
}
