//! A file that another one took the place of, and a cloud that somebody changed.

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::sync::SyncAsk;

use super::{drain, shop::Shop};

#[test]
fn sync_29_the_queue_inside_a_restored_file_is_never_replayed() {
    let shop = Shop::attached();
    shop.write("UPDATE orders SET note = 'waits' WHERE id <= 10;");
    let older = shop.world.path("older.db");
    shop.world.copy_database(&older);
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write("UPDATE orders SET note = 'newer' WHERE id = 1;");
    drain(&mut mirror);
    drop(mirror);
    // Somebody puts the older file back, with its ten old entries in it.
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(shop.world.app(&format!("shop.db{end}")));
    }
    std::fs::rename(&older, shop.file()).unwrap();
    let mut mirror = shop.mirror();
    assert_eq!(mirror.status().unwrap().queue.queue_size, 10);
    let report = drain(&mut mirror);
    assert_eq!(report.changes, 0, "{report:?}");
    assert_eq!(shop.cloud("SELECT note FROM mirror.orders WHERE id = 1"), "newer", "nothing was sent");
    let status = mirror.status().unwrap();
    assert!(status.queue.queue_size == 0 && status.unverified.contains(&"orders".to_owned()), "{status:?}");
    // The file is right all the same: what differs is found by comparing, not by replaying.
    shop.write("UPDATE orders SET note = 'of the new life' WHERE id = 5;");
    drain(&mut mirror);
    assert_eq!(shop.cloud("SELECT note FROM mirror.orders WHERE id = 5"), "of the new life");
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    assert_eq!(shop.cloud("SELECT note FROM mirror.orders WHERE id = 1"), "waits");
}

#[test]
fn emrg_16_what_somebody_did_in_the_cloud_is_found_named_and_mended() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.cloud(
        "UPDATE mirror.orders SET cents = 1 WHERE id = 7; DELETE FROM mirror.orders WHERE id = 8;
         INSERT INTO mirror.orders (id, customer, cents, created_at) VALUES (900, 1, 1, '');
         UPDATE mirror.settings SET value = 'GBP' WHERE key = 'currency';",
    );
    let compared = mirror.compare(&[], &Unwatched, &Stop::default()).unwrap();
    let orders = compared.tables.iter().find(|table| table.table == "orders").unwrap();
    assert_eq!((orders.missing, orders.different, orders.orphans), (1, 1, 1), "{orders:?}");
    assert_eq!(orders.keys, ["7", "8", "900"]);
    let settings = compared.tables.iter().find(|table| table.table == "settings").unwrap();
    assert_eq!((settings.different, settings.keys.as_slice()), (1, ["currency".to_owned()].as_slice()));
    drop(mirror);
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    shop.is_equal(&mut shop.mirror());
    assert_eq!(shop.cloud("SELECT \"row\"->>'id' FROM lifeboat.deleted"), "900", "what went is kept");
}
