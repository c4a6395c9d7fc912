//! What the requirements ask of a mirror under these names, with their numbers.

use std::time::Duration;

use lifeboat_engine::Unwatched;
use lifeboat_io::{Clock, Stop};
use lifeboat_model::sync::SyncAsk;

use crate::{drain, shop::Shop};

fn waiting(shop: &Shop) -> u64 {
    shop.mirror().status().unwrap().queue.queue_size
}

fn clear(shop: &Shop) -> serde_json::Value {
    let done = shop.ask(SyncAsk::Clear { why: "a test".into() });
    done.output(&"clear".into()).unwrap().clone()
}

#[test]
fn sync_05_while_it_is_off_writes_are_held_and_none_is_lost() {
    let shop = Shop::attached();
    drain(&mut shop.mirror());
    shop.ask(SyncAsk::Disable { why: "a test".into() });
    let before = waiting(&shop);
    for id in 101..=125 {
        shop.write(&format!("INSERT INTO customers VALUES ({id}, 'held {id}', '')"));
    }
    assert_eq!(waiting(&shop), before + 25);
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id > 100"), "0");
    shop.ask(SyncAsk::Enable);
    drain(&mut shop.mirror());
    assert_eq!(
        (shop.cloud("SELECT count(*) FROM mirror.customers WHERE id > 100").as_str(), waiting(&shop)),
        ("25", 0)
    );
}

/// Somebody writes all the time while the queue is saved and cleared: what is saved and what waits is all that was written.
#[test]
fn sync_14_nothing_that_comes_between_saving_and_clearing_vanishes() {
    let shop = Shop::attached();
    drain(&mut shop.mirror());
    shop.ask(SyncAsk::Disable { why: "a test".into() });
    let produced = 400;
    let saved: u64 = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for id in 1_000..1_000 + produced {
                shop.write(&format!("INSERT INTO customers VALUES ({id}, 'while {id}', '')"));
            }
        });
        let mut saved = 0;
        while !writer.is_finished() {
            saved += clear(&shop)["count"].as_u64().unwrap();
        }
        saved
    });
    assert!(saved > 0, "nothing was cleared while somebody wrote");
    assert_eq!(saved + waiting(&shop), produced);
}

#[test]
fn sync_17_what_another_program_does_is_noted_and_what_it_rolls_back_is_not() {
    let shop = Shop::attached();
    drain(&mut shop.mirror());
    shop.write("DELETE FROM orders WHERE id = 1;");
    let (queue, _) = shop.mirror().queue(10).unwrap();
    let noted: Vec<_> = queue.iter().map(|entry| (entry.table.as_str(), entry.op)).collect();
    assert_eq!(noted, [("orders", lifeboat_model::sync::Op::Delete)]);
    shop.write("BEGIN; DELETE FROM orders WHERE id = 2; UPDATE orders SET cents = 0; ROLLBACK;");
    assert_eq!(waiting(&shop), 1);
}

/// The cloud itself is backed up once a week; when it was not, somebody is told.
#[test]
fn bkp_10_a_snapshot_of_the_cloud_older_than_a_week_is_an_alert() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut shop = Shop::attached();
    let late = |shop: &Shop| shop.world.engine().late_snapshots().unwrap();
    assert_eq!(late(&shop), ["There is no snapshot of the cloud, db; lifeboat backup db"]);
    shop.world.backup();
    assert_eq!(late(&shop), Vec::<String>::new());
    shop.world.clock.advance(7 * DAY);
    assert_eq!(late(&shop), Vec::<String>::new(), "the next one is being taken");
    shop.world.clock.advance(DAY);
    let told = late(&shop);
    assert_eq!(told, ["The newest snapshot of the cloud, db, is 8 d old (threshold: 7 days); lifeboat backup db"]);
    shop.world.backup();
    assert_eq!(late(&shop), Vec::<String>::new());
    // Whoever backs up no cloud is not told every five minutes: lifeboat ready tells that.
    shop.world.setup.resources.clear();
    assert_eq!(late(&shop), Vec::<String>::new());
}

/// Deletes that went with a cleared queue are found, counted, and taken out after they were saved.
#[test]
fn emrg_15_deletes_that_were_lost_are_found_by_a_re_sync() {
    let shop = Shop::attached();
    drain(&mut shop.mirror());
    shop.write("DELETE FROM orders WHERE id IN (1, 2, 3);");
    assert_eq!(clear(&shop)["count"], 3);
    let compared = shop.mirror().compare(&[], &Unwatched, &Stop::default()).unwrap();
    let orders = compared.tables.iter().find(|table| table.table == "orders").unwrap();
    assert_eq!(orders.orphans, 3, "{orders:?}");
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    shop.is_equal(&mut shop.mirror());
    assert_eq!(shop.cloud("SELECT count(*) FROM lifeboat.deleted WHERE \"table\" = 'orders'"), "3");
}
