//! What the requirements ask of a mirror under these names, with their numbers.

use std::time::Duration;

use lifeboat_engine::Unwatched;
use lifeboat_io::{Clock, Stop};
use lifeboat_model::{
    advice::{Measured, advise},
    sync::SyncAsk,
};

use crate::{drain, shop::Shop};

fn waiting(shop: &Shop) -> u64 {
    shop.mirror().status().unwrap().queue.queue_size
}

fn clear(shop: &Shop) -> serde_json::Value {
    let done = shop.ask(SyncAsk::Clear { why: "a test".into() });
    done.output(&"clear".into()).unwrap().clone()
}

/// The rows of the app's own tables, as the file's own program writes them.
fn rows_of_file(shop: &Shop) -> String {
    let dump = shop.read(".dump");
    dump.lines().filter(|line| !line.contains("_lifeboat_")).collect::<Vec<_>>().join("\n")
}

/// The cloud lost everything: level 4 makes it again out of the file, and writes nothing of the app's there.
#[test]
fn sync_01_and_emrg_14_the_cloud_is_made_again_and_the_file_stays_as_it_is() {
    let shop = Shop::attached();
    drain(&mut shop.mirror());
    let before = rows_of_file(&shop);
    assert!(before.contains("INSERT INTO orders"), "{before}");
    shop.cloud(
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'mirror' LOOP
             EXECUTE format('TRUNCATE mirror.%I', t); END LOOP; END $$",
    );
    shop.ask(SyncAsk::StartOver { why: "the project was wiped".into(), emptied: vec![] });
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "40");
    shop.is_equal(&mut shop.mirror());
    assert!(rows_of_file(&shop) == before, "the file is only read");
}

/// What has arrived and what waits is all that was written, also when somebody switches it off in the middle; nothing comes twice.
#[test]
fn sync_04_switched_off_in_the_middle_of_a_delivery_nothing_is_lost_or_doubled() {
    let mut shop = Shop::attached();
    drain(&mut shop.mirror());
    shop.link(|link| (link.batch_rows, link.batch_rows_max) = (10, 10));
    shop.cloud(
        "CREATE TABLE public.came (id bigint);
         CREATE FUNCTION came() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.came VALUES (NEW.id); PERFORM pg_sleep(0.005); RETURN NEW; END';
         CREATE TRIGGER came AFTER INSERT OR UPDATE ON mirror.customers FOR EACH ROW EXECUTE FUNCTION came()",
    );
    shop.write(
        "WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO customers SELECT i, 'c' || i, '' FROM n;",
    );
    let came = || shop.cloud("SELECT count(*) FROM public.came").parse::<u64>().unwrap();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| shop.mirror().drain(&Stop::default()).unwrap());
        while came() == 0 {
            assert!(!worker.is_finished(), "nothing was delivered");
        }
        shop.ask(SyncAsk::Disable { why: "in the middle".into() });
        assert!(!worker.join().unwrap().drained);
    });
    let (arrived, waits) = (came(), waiting(&shop));
    assert!(arrived < 200, "{arrived}");
    assert_eq!(arrived + waits, 200);
    shop.ask(SyncAsk::Enable);
    drain(&mut shop.mirror());
    assert_eq!(shop.cloud("SELECT count(*) || ' ' || count(DISTINCT id) FROM public.came"), "200 200");
    shop.is_equal(&mut shop.mirror());
}

/// A shop in which nothing happens is delivered to all the same: that the cloud answers is seen by it.
#[test]
fn sync_10_an_idle_shop_is_no_alert() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    let advised = |mirror: &mut lifeboat_engine::Mirror| {
        let measured = Measured { mirror: Some(Ok(mirror.status().unwrap())), ..Measured::default() };
        advise(&measured, shop.world.clock.now())
    };
    for _ in 0..6 {
        drain(&mut mirror);
        shop.world.clock.advance(Duration::from_secs(60));
        assert_eq!(advised(&mut mirror), []);
    }
    let last = mirror.status().unwrap().last_sync.unwrap();
    assert_eq!(lifeboat_model::time::since(last, shop.world.clock.now()), Duration::from_secs(60));
    shop.world.clock.advance(Duration::from_secs(241));
    assert_eq!(advised(&mut mirror).len(), 1, "nobody delivers");
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
