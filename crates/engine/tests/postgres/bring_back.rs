//! Rows that left, brought back: into an older schema, through circles, never over a row that is there, and undone.

use lifeboat_model::{
    Operation, Request,
    salvage::{BroughtBack, BroughtBackTable},
};
use lifeboat_testkit::{
    World,
    prove::{Case, prove_plan},
};

use super::salvage::shop_since;

const TICKETS: &str = "
    CREATE TABLE tickets (id bigserial PRIMARY KEY, subject varchar(10), ref text UNIQUE, parent bigint REFERENCES tickets,
                          customer bigint REFERENCES customers, price numeric(8, 0));
    CREATE SEQUENCE mails;
    CREATE TABLE teams (id int PRIMARY KEY, lead int);
    CREATE TABLE members (id int PRIMARY KEY, team int NOT NULL REFERENCES teams);
    ALTER TABLE teams ADD FOREIGN KEY (lead) REFERENCES members;
    CREATE FUNCTION mail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.mails'); RETURN new; END $$;
    CREATE TRIGGER mail AFTER INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION mail();
    ALTER TABLE tickets ENABLE ALWAYS TRIGGER mail;
    INSERT INTO tickets (subject, ref) SELECT 'old', 'r-' || n FROM generate_series(1, 3) AS n;";

/// The release that is rolled back: a column has another name, another one came, a table came; and what people did in it.
const RELEASE: &str = "
    ALTER TABLE tickets RENAME subject TO title; ALTER TABLE tickets ALTER title TYPE text; ALTER TABLE tickets ADD priority int;
    ALTER TABLE tickets ALTER price TYPE numeric(8, 2);
    CREATE TABLE service_ticket_tasks (id int PRIMARY KEY, what text);
    INSERT INTO service_ticket_tasks VALUES (1, 'call back');
    INSERT INTO customers (email) VALUES ('new@example.org');
    INSERT INTO tickets (id, title, ref, parent, customer, priority, price) VALUES
        (11, 'parent', 'r-11', NULL, 21, 1, 5), (10, 'child', 'r-10', 11, NULL, NULL, NULL),
        (12, 'taken', 'r-taken', NULL, NULL, 2, NULL), (13, 'a title that is too long', 'r-13', NULL, NULL, NULL, NULL),
        (14, 'key', 'r-14', NULL, NULL, NULL, NULL), (16, 'orphan', 'r-16', 13, NULL, NULL, NULL),
        (17, 'cents', 'r-17', NULL, NULL, NULL, 1.25);
    INSERT INTO teams VALUES (5, NULL); INSERT INTO members VALUES (7, 5); UPDATE teams SET lead = 7;
    UPDATE tickets SET title = 'changed' WHERE id = 1; DELETE FROM tickets WHERE id = 2;";

/// A release was rolled back, and people went on working.
fn rolled_back() -> (World, Operation) {
    let mut world = World::on_server(15);
    world.psql("shop", TICKETS);
    world.setup.resources[0].salvage_columns = [("public.tickets.title".to_owned(), "subject".to_owned())].into();
    world.backup();
    world.psql("shop", RELEASE);
    let restored = world.restore("db");
    world.psql("shop", "INSERT INTO tickets (id, subject, ref) VALUES (100, 'new', 'r-taken'), (14, 'mine', 'r-mine')");
    (world, restored)
}

fn table<'a>(done: &'a BroughtBack, name: &str) -> &'a BroughtBackTable {
    done.tables.iter().find(|table| table.table == name).unwrap()
}

fn brought_back(operation: &Operation) -> BroughtBack {
    let step = operation.plan.steps().next().unwrap();
    serde_json::from_value(operation.output(&step.id).unwrap().clone()).unwrap()
}

#[test]
fn slv_03_rows_come_back_into_the_older_schema_and_what_does_not_fit_is_listed() {
    let (world, restored) = rolled_back();
    let request =
        Request::BringBack { operation: restored.id.clone(), tables: vec![], overwrite: false, deletes: false };
    let before = world.look();
    let tried = world.engine().try_bring_back(&restored.id, &[], (false, false)).unwrap();
    assert_eq!(world.look(), before, "a trial changes nothing");

    let mails = || world.psql("shop", "SELECT last_value FROM mails");
    let sent = mails();
    let done = world.must(&request);
    let told = brought_back(&done);
    assert_eq!(told.counts(), tried.counts());
    let tickets = table(&told, "public.tickets");
    let refused: Vec<(&str, &str)> = tickets.refused.iter().map(|row| (row.row.as_str(), row.why.as_str())).collect();
    let why = |key: &str| refused.iter().find(|(row, _)| *row == format!("id={key}")).map(|(_, why)| *why).unwrap();
    assert!(why("12").contains("(ref)=(r-taken) already exists"), "{refused:?}");
    assert!(why("13").contains("too long"), "{refused:?}");
    assert!(why("14").contains("its key is taken"), "{refused:?}");
    assert!(why("16").contains("(parent)=(13) is not present"), "{refused:?}");
    assert!(why("17").contains("does not fit"), "{refused:?}");
    assert_eq!((tickets.inserted, tickets.refused_in_all, refused.len()), (2, 5, 5));
    assert_eq!((tickets.changed, tickets.deleted), (1, 1), "told, and left as they are");
    assert_eq!(tickets.left_out, [("priority".to_owned(), 2)]);
    assert!(table(&told, "public.service_ticket_tasks").unrepresentable.is_some());

    let ticket =
        |id: u32| world.psql("shop", &format!("SELECT subject, parent, customer FROM tickets WHERE id = {id}"));
    assert_eq!([ticket(10), ticket(11), ticket(14), ticket(1)], ["child|11|", "parent||21", "mine||", "old||"]);
    assert_eq!(world.psql("shop", "SELECT lead, team FROM teams, members"), "7|5", "a circle");
    assert_eq!(mails(), sent, "nobody gets the mail a second time");
    assert_eq!(world.psql("shop", "SELECT tgenabled FROM pg_trigger WHERE tgname = 'mail'"), "A");
    assert_eq!(world.psql("shop", "INSERT INTO customers (email) VALUES ('next') RETURNING id"), "22");

    // A second time there is nothing left to do.
    let again = brought_back(&world.must(&request));
    assert_eq!((again.counts().0, table(&again, "public.tickets").there), (0, 2));

    // Its undo takes away what nobody has changed since.
    world.psql("shop", "UPDATE tickets SET subject = 'edited' WHERE id = 10");
    let undone = world.must(&Request::Undo { operation: done.id });
    assert_eq!(world.psql("shop", "SELECT string_agg(id::text, ' ' ORDER BY id) FROM tickets"), "1 2 3 10 11 14 100");
    assert_eq!(world.psql("shop", "SELECT (SELECT count(*) FROM teams) + (SELECT count(*) FROM members)"), "0");
    world.must(&Request::Undo { operation: undone.id });
    assert_eq!(world.psql("shop", "SELECT lead, team FROM teams, members"), "7|5");
}

#[test]
fn rows_without_a_key_come_back_once_each() {
    let world = shop_since();
    let restored = world.restore("db");
    let request = Request::BringBack {
        operation: restored.id.clone(),
        tables: vec!["log".into()],
        overwrite: false,
        deletes: false,
    };
    let done = world.must(&request);
    assert_eq!(brought_back(&done).counts(), (2, 0, 0));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM log WHERE what = 'a'"), "3");
    assert_eq!(brought_back(&world.must(&request)).counts(), (0, 2, 0));
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(world.psql("shop", "SELECT count(*) FROM log WHERE what = 'a'"), "1");
    let unknown = world.engine().try_bring_back(&restored.id, &["nothing".into()], (false, false)).unwrap_err();
    assert!(unknown.to_string().contains("no rows of a table nothing are kept"), "{unknown}");
}

#[test]
fn bringing_rows_back_happens_or_does_not() {
    let world = shop_since();
    let restored = world.restore("db");
    let request = Request::BringBack { operation: restored.id, tables: vec![], overwrite: false, deletes: false };
    let tried = prove_plan(&Case { world: &world, request, undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

/// All that an operation keeps, what had changed and what had gone too.
fn everything(restored: &Operation) -> Request {
    Request::BringBack { operation: restored.id.clone(), tables: vec![], overwrite: true, deletes: true }
}

#[test]
fn rows_that_had_changed_or_gone_become_as_they_were_live_and_back() {
    let world = shop_since();
    let restored = world.restore("db");
    world.psql("shop", "UPDATE orders SET cents = 1 WHERE id = 8");
    let row = |id: u32| world.psql("shop", &format!("SELECT cents FROM orders WHERE id = {id}"));
    let plain = world.engine().try_bring_back(&restored.id, &[], (false, false)).unwrap();
    let orders = table(&plain, "public.orders");
    assert_eq!((orders.overwritable, orders.removable, orders.conflicts_in_all), (1, 1, 1), "shown, and not done");
    let tried = world.engine().try_bring_back(&restored.id, &[], (true, true)).unwrap();
    assert_eq!([row(7), row(8), row(9)], ["7", "1", "9"], "a trial changes nothing");

    let done = world.must(&everything(&restored));
    let told = brought_back(&done);
    assert_eq!((told.counts(), told.counts_over()), (tried.counts(), tried.counts_over()));
    assert_eq!(told.counts_over(), (1, 1, 1));
    let conflict = &table(&told, "public.orders").conflicts[0];
    assert_eq!((conflict.row.as_str(), conflict.why.as_str()), ("id=8", "it was changed since"));
    assert_eq!([row(7), row(8), row(9)], ["5007", "1", ""]);
    let again = brought_back(&world.must(&everything(&restored)));
    assert_eq!((again.counts().0, again.counts_over()), (0, (0, 0, 1)), "a second time there is nothing to do");

    let undone = world.must(&Request::Undo { operation: done.id });
    assert_eq!([row(7), row(8), row(9)], ["7", "1", "9"], "what was there before came back");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders WHERE id > 300"), "0");
    let redone = world.must(&Request::Undo { operation: undone.id });
    assert_eq!([row(7), row(8), row(9)], ["5007", "1", ""]);
    world.psql("shop", "UPDATE orders SET cents = 2 WHERE id = 7; INSERT INTO orders VALUES (9, 1, 99)");
    world.must(&Request::Undo { operation: redone.id });
    assert_eq!([row(7), row(8), row(9)], ["2", "1", "99"], "what anybody has touched since stays");
}

#[test]
fn a_row_that_had_gone_is_not_taken_away_with_what_refers_to_it() {
    let world = shop_since();
    let restored = world.restore("db");
    world.psql(
        "shop",
        "CREATE TABLE notes (id int PRIMARY KEY, on_order bigint REFERENCES orders ON DELETE CASCADE); INSERT INTO notes VALUES (1, 9)",
    );
    let told = brought_back(&world.must(&everything(&restored)));
    let conflict = &table(&told, "public.orders").conflicts[0];
    assert_eq!((conflict.row.as_str(), conflict.why.as_str()), ("id=9", "other rows refer to it"));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM notes, orders WHERE orders.id = 9"), "1");
}

#[test]
fn writing_over_rows_happens_or_does_not() {
    let world = shop_since();
    let restored = world.restore("db");
    let tried = prove_plan(&Case { world: &world, request: everything(&restored), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn rows_of_a_table_with_other_values_get_those_of_the_backup_and_lose_them_with_an_undo() {
    let world = World::on_server(15);
    world.backup();
    world.psql("shop", "DELETE FROM orders WHERE id = 5; UPDATE orders SET cents = cents + 1000 WHERE id IN (6, 7)");
    let mut request = table_of(true, Some("id < 7"));
    if let Request::RestoreTable { overwrite, .. } = &mut request {
        *overwrite = true;
    }
    let cents = || {
        world.psql("shop", "SELECT string_agg(id || ':' || cents, ' ' ORDER BY id) FROM orders WHERE id IN (5, 6, 7)")
    };
    let done = world.must(&request);
    assert_eq!(cents(), "5:5 6:6 7:1007", "only what was asked for");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(cents(), "6:1006 7:1007");
}

fn table_of(insert: bool, condition: Option<&str>) -> Request {
    Request::RestoreTable {
        resource: lifeboat_model::ResourceName::new("db").unwrap(),
        from: lifeboat_model::BackupChoice::Latest,
        table: "orders".into(),
        condition: condition.map(str::to_owned),
        insert,
        overwrite: false,
    }
}

#[test]
fn a_table_of_a_backup_is_laid_beside_compared_and_what_is_missing_inserted() {
    let world = shop_since();
    let laid = world.must(&table_of(false, Some("id < 10 -- and no more")));
    let diff = laid.output(&lifeboat_model::StepId("compare".into())).unwrap();
    let counted = ["missing", "changed", "only_live", "same"].map(|name| diff[name].as_u64().unwrap());
    assert_eq!(counted, [1, 2, 0, 6]);
    let schema = world.psql("shop", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lifeboat_restored%'");
    assert_eq!(world.psql("shop", &format!("SELECT cents FROM {schema}.orders WHERE id = 9")), "9");
    world.backup();
    let manifest = world.engine().manifest(&world.backups().last().unwrap().id).unwrap();
    assert!(!serde_json::to_string(&manifest).unwrap().contains(&schema), "backups leave it out");

    world.must(&Request::Undo { operation: laid.id });
    assert_eq!(world.psql("shop", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lifeboat_restored%'"), "0");
    let bad = world.run(&table_of(false, Some("nothing = 1"))).unwrap();
    assert!(matches!(bad.state, lifeboat_model::OperationState::PutBack { .. }), "{:?}", bad.state);
}

/// The same rows are in the emergency backup, for as long as it is kept.
#[test]
fn slv_05_rows_that_left_come_back_out_of_the_emergency_backup_too() {
    let world = shop_since();
    world.restore("db");
    let emergency =
        world.backups().into_iter().find(|one| one.reason == lifeboat_model::BackupReason::Emergency).unwrap();
    for name in ["public.customers", "public.orders"] {
        let mut request = table_of(true, None);
        if let Request::RestoreTable { from, table, .. } = &mut request {
            (*from, *table) = (lifeboat_model::BackupChoice::Exactly(emergency.id.clone()), name.to_owned());
        }
        world.must(&request);
    }
    assert_eq!(
        world.psql("shop", "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders WHERE id > 300"),
        "301 302 303"
    );
    assert_eq!(world.psql("shop", "SELECT cents FROM orders WHERE id = 7"), "7", "what had changed is left as it is");
}

#[test]
fn rows_of_a_table_come_back_and_can_be_taken_away() {
    let world = World::on_server(15);
    world.backup();
    world.psql("shop", "DELETE FROM orders WHERE id IN (4, 5); UPDATE orders SET cents = 7 WHERE id = 6");
    let request = table_of(true, None);
    let tried = prove_plan(&Case { world: &world, request: request.clone(), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    world.must(&request);
    assert_eq!(world.psql("shop", "SELECT count(*), sum(cents) FILTER (WHERE id = 6) FROM orders"), "300|7");
}

/// Orders with all that can belong to a table, dropped by a bad migration.
fn dropped() -> World {
    let world = World::on_server(15);
    world.psql(
        "shop",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
         CREATE TYPE mood AS ENUM ('good', 'bad');
         ALTER TABLE orders ADD COLUMN mood mood DEFAULT 'good', ADD COLUMN twice bigint GENERATED ALWAYS AS (cents * 2) STORED,
             ADD CHECK (cents >= 0);
         CREATE TRIGGER stamp BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
         ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON orders USING (customer > 0);
         GRANT SELECT ON orders TO keeper; COMMENT ON TABLE orders IS 'what was sold'; COMMENT ON COLUMN orders.cents IS 'net';
         CREATE TABLE notes (id int PRIMARY KEY, on_order bigint REFERENCES orders)",
    );
    world.backup();
    world.psql("shop", "DROP TABLE orders CASCADE; DROP TYPE mood");
    world
}

fn about_orders(world: &World) -> String {
    world.psql(
        "shop",
        "SELECT (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || attnotnull || COALESCE(pg_get_expr(adbin, adrelid), ''), ',' ORDER BY attnum)
                   FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 'orders'::regclass AND attnum > 0),
                (SELECT string_agg(pg_get_constraintdef(oid), ',' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'orders'::regclass),
                (SELECT string_agg(indexdef, ',' ORDER BY indexdef) FROM pg_indexes WHERE tablename = 'orders'),
                (SELECT string_agg(pg_get_triggerdef(oid), ',') FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND NOT tgisinternal),
                (SELECT string_agg(polname || pg_get_expr(polqual, polrelid), ',') FROM pg_policy WHERE polrelid = 'orders'::regclass),
                (SELECT relrowsecurity || relacl::text FROM pg_class WHERE oid = 'orders'::regclass),
                obj_description('orders'::regclass), col_description('orders'::regclass, 3), pg_get_serial_sequence('orders', 'id'),
                (SELECT count(*) || ' ' || sum(cents) || ' ' || sum(twice) FROM orders)",
    )
}

#[test]
fn a_table_that_is_gone_is_made_again_with_all_that_belongs_to_it() {
    let original = dropped();
    // The same before the bad migration: restored as a whole.
    let whole = original.copy();
    whole.restore("db");
    let meant = about_orders(&whole);
    let plan = original.engine().plan(&table_of(true, None)).unwrap();
    assert!(plan.notes[0].contains("has no table public.orders any more"), "{:?}", plan.notes);
    let done = original.must(&table_of(true, None));
    assert_eq!(about_orders(&original), meant);
    let told = done.output(&lifeboat_model::StepId("make".into())).unwrap()["notes"].to_string();
    assert!(told.contains("notes notes_on_order_fkey") && told.contains("turnover"), "{told}");
    assert_eq!(original.psql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 5) RETURNING id"), "301");

    // Somebody has written to it: it is not dropped.
    let undo = Request::Undo { operation: done.id.clone() };
    let ended = original.run(&undo).unwrap();
    let lifeboat_model::OperationState::PutBack { why: Some(failure) } = &ended.state else {
        panic!("{:?}", ended.state)
    };
    assert!(failure.to_string().contains("was written to since it was made"), "{failure}");
    original.psql("shop", "DELETE FROM orders WHERE id = 301");
    let undone = original.must(&undo);
    assert_eq!(original.psql("shop", "SELECT to_regclass('orders') IS NULL"), "t");
    original.must(&Request::Undo { operation: undone.id });
    assert_eq!(about_orders(&original), meant);
}

#[test]
fn making_a_table_again_happens_or_does_not() {
    let world = dropped();
    let tried = prove_plan(&Case { world: &world, request: table_of(true, Some("id < 50")), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    world.must(&table_of(true, Some("id < 50")));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "49");
}
