//! Clients that write all the time, and what is in the way of a swap.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_io::{
    Stop,
    database::postgres::{Address, Session},
    testing::MapEnv,
};
use lifeboat_model::{OperationState, ResourceKind};
use lifeboat_testkit::{World, databases, world::restore_of};

use super::{salvage::any_restore, shop};

/// A client's memory: what the server acknowledged, and the longest time between two answers.
#[derive(Default)]
struct Remembered {
    acked: BTreeSet<String>,
    gap: Duration,
}

/// Writes row after row, on a new connection whenever the old one is ended.
fn write_until(over: &AtomicBool, url: &str, client: usize) -> Remembered {
    let address = Address::parse(url, &MapEnv::default()).unwrap();
    let (mut remembered, mut session, mut last) = (Remembered::default(), None, Instant::now());
    for turn in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let open = match session.take() {
            Some(open) => Ok(open),
            None => Session::open(&address, &Stop::default()),
        };
        let Ok(mut open) = open else { continue };
        let what = format!("client {client}, row {turn}");
        if open.run(&format!("INSERT INTO public.log VALUES ('{what}')")).is_ok() {
            remembered.acked.insert(what);
            remembered.gap = remembered.gap.max(last.elapsed());
            last = Instant::now();
            session = Some(open);
        }
    }
    remembered
}

#[test]
fn no_row_that_was_acknowledged_is_lost_while_clients_write_through_a_swap() {
    let world = shop(15);
    let over = Arc::new(AtomicBool::new(false));
    let url = world.server().url("shop");
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let (over, url) = (over.clone(), url.clone());
            std::thread::spawn(move || write_until(&over, &url, client))
        })
        .collect();
    let restored = world.run(&any_restore());
    let until = Instant::now() + Duration::from_secs(20);
    while world.psql("shop", "SELECT count(DISTINCT split_part(what, ',', 1)) FROM log") != "3"
        && Instant::now() < until
    {}
    over.store(true, Ordering::SeqCst);
    let remembered: Vec<Remembered> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(restored.unwrap().state, OperationState::Done);

    let kept = world.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'shop_before%'");
    world.psql("postgres", &format!("ALTER DATABASE {kept} WITH ALLOW_CONNECTIONS true"));
    let rows = |database: &str| -> BTreeSet<String> {
        world.psql(database, "SELECT what FROM log").lines().map(str::to_owned).collect()
    };
    let (former, present) = (rows(&kept), rows("shop"));
    let (many, few) = (former.len(), present.len());
    assert!(many > 0 && few > 0, "they wrote before and after the swap: {many}, {few}");
    for client in &remembered {
        let lost: Vec<&String> =
            client.acked.iter().filter(|row| !former.contains(*row) && !present.contains(*row)).collect();
        assert!(lost.is_empty(), "acknowledged, and in neither database: {lost:?}");
    }
    let acked: usize = remembered.iter().map(|client| client.acked.len()).sum();
    let gap = remembered.iter().map(|client| client.gap).max().unwrap();
    println!("{acked} rows were acknowledged; the longest time without an answer was {gap:?}");
}

/// A restore that cannot happen: nothing is changed, and one sentence says why.
fn is_refused(world: &World, why: &str) {
    let before = world.look();
    let ended = world.run(&restore_of("db")).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    assert!(failure.to_string().contains(why), "{failure}");
    let swap = ended.plan.pivot().unwrap();
    assert_eq!(ended.steps[swap], lifeboat_model::StepState::Planned, "the swap was not tried");
    assert_eq!(world.look(), before);
}

#[test]
fn a_prepared_transaction_stops_a_restore_before_the_swap() {
    let world = shop(15);
    world.psql("shop", "BEGIN; INSERT INTO log VALUES ('prepared'); PREPARE TRANSACTION 'half'");
    is_refused(&world, "the prepared transaction half holds shop");
    world.psql("shop", "COMMIT PREPARED 'half'");
    world.restore("db");
}

#[test]
fn a_session_of_a_superuser_stops_the_restore_of_an_owner_before_the_swap() {
    let mut world = World::on_server(15);
    world.psql("postgres", "CREATE ROLE owner LOGIN CREATEDB; ALTER DATABASE shop OWNER TO owner");
    world.psql("shop", "REVOKE ALL ON orders FROM keeper; ALTER SCHEMA public OWNER TO owner; ALTER TABLE customers OWNER TO owner; ALTER TABLE orders OWNER TO owner; ALTER TABLE log OWNER TO owner; ALTER VIEW turnover OWNER TO owner; ALTER DATABASE shop RESET ALL; REVOKE ALL ON DATABASE shop FROM keeper");
    world.setup.resources[0].kind = ResourceKind::Postgres { url: databases::url("owner", "shop"), schemas: vec![] };
    world.backup();
    let address = Address::parse(&world.server().url("shop"), &MapEnv::default()).unwrap();
    let session = Session::open(&address, &Stop::default()).unwrap();
    is_refused(&world, "owner may not end the sessions of postgres");
    drop(session);
    world.restore("db");
}
