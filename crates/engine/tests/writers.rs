//! Writers that never pause, and whether what is kept of their rows is to the row what left. Shared by the tests of both ways
//! to swap; no test by itself.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code, reason = "a test says what went wrong by ending")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lifeboat_io::{
    Stop,
    database::postgres::{Address, Session},
    testing::MapEnv,
};
use lifeboat_testkit::World;

/// A session of somebody's.
pub fn session(url: &str) -> Option<Session> {
    Session::open(&Address::parse(url, &MapEnv::default()).unwrap(), &Stop::default()).ok()
}

/// Clients that go on until they are stopped.
pub struct Clients {
    over: Arc<AtomicBool>,
    all: Vec<JoinHandle<Duration>>,
}

impl Clients {
    /// One inserts, changes, takes away and moves rows of `orders`; one reads them.
    pub fn begin(url: &str) -> Clients {
        let over = Arc::new(AtomicBool::new(false));
        let write = |turn: u64| {
            let (id, other) = (1 + turn * 7 % 300, 1 + turn * 13 % 300);
            match turn % 6 {
                0 | 1 => format!("INSERT INTO public.orders (customer, cents) VALUES (1, {})", 1000 + turn),
                2 => format!("UPDATE public.orders SET cents = {} WHERE id = {id}", 1000 + turn),
                // There and back again.
                3 => format!(
                    "UPDATE public.orders SET cents = cents + 1 WHERE id = {other}; UPDATE public.orders SET cents = cents - 1 WHERE id = {other}"
                ),
                4 => "DELETE FROM public.orders WHERE id = (SELECT max(id) FROM public.orders WHERE id % 5 = 0)"
                    .to_owned(),
                _ => format!(
                    "UPDATE public.orders SET id = {} WHERE id = (SELECT max(id) FROM public.orders WHERE id < 1000000)",
                    1_000_000 + turn
                ),
            }
        };
        let read = |_turn: u64| "SELECT count(*) FROM public.orders WHERE id < 10".to_owned();
        let all = vec![go_on(url, &over, write), go_on(url, &over, read)];
        Clients { over, all }
    }

    /// The longest time between two answers, to the one that writes and to the one that reads.
    pub fn end(self) -> (Duration, Duration) {
        self.over.store(true, Ordering::SeqCst);
        let gaps: Vec<Duration> = self.all.into_iter().map(|client| client.join().unwrap()).collect();
        (gaps[0], gaps[1])
    }
}

fn go_on(url: &str, over: &Arc<AtomicBool>, what: impl Fn(u64) -> String + Send + 'static) -> JoinHandle<Duration> {
    let (url, over) = (url.to_owned(), over.clone());
    std::thread::spawn(move || {
        let (mut open, mut gap, mut last) = (None, Duration::ZERO, Instant::now());
        for turn in 0.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let Some(mut client) = open.take().or_else(|| session(&url)) else { continue };
            match client.run(&what(turn)) {
                Ok(()) => {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                    open = Some(client);
                }
                // Refused for the moment, or ended: the next turn tells.
                Err(error) if error.code() == Some("25006") => open = Some(client),
                Err(_) => {}
            }
        }
        gap
    })
}

/// What one table has and another has not, told as the salvage tells it. Both are in the session's database.
fn differences(session: &mut Session, then: &str, now: &str) -> BTreeSet<String> {
    let rows = session
        .ask(&format!(
            "SELECT 'inserted,' || n.id || ',' || n.customer || ',' || n.cents FROM {now} n LEFT JOIN {then} t USING (id) WHERE t.id IS NULL
             UNION ALL SELECT 'updated,' || n.id || ',' || n.customer || ',' || n.cents FROM {now} n JOIN {then} t USING (id) WHERE (n.customer, n.cents) IS DISTINCT FROM (t.customer, t.cents)
             UNION ALL SELECT 'before,' || t.id || ',' || t.customer || ',' || t.cents FROM {now} n JOIN {then} t USING (id) WHERE (n.customer, n.cents) IS DISTINCT FROM (t.customer, t.cents)
             UNION ALL SELECT 'deleted,' || t.id || ',' || t.customer || ',' || t.cents FROM {then} t LEFT JOIN {now} n USING (id) WHERE n.id IS NULL"
        ))
        .unwrap();
    rows.iter().map(|row| row.text(0).to_owned()).collect()
}

/// The rows that are kept of `orders`.
fn kept(folder: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join("public.orders.csv")).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

/// What is kept with an operation is to the row what `now` has and `then` has not, and the other way round.
pub fn kept_is_what_left(
    world: &World,
    operation: &lifeboat_model::Operation,
    session: &mut Session,
    (then, now): (&str, &str),
) {
    let (wanted, found) = (differences(session, then, now), kept(&world.state().salvage(&operation.id)));
    let missing: Vec<&String> = wanted.difference(&found).take(5).collect();
    let more: Vec<&String> = found.difference(&wanted).take(5).collect();
    assert!(missing.is_empty() && more.is_empty(), "not kept: {missing:?}; kept and not so: {more:?}");
    let salvage = world.kept_rows(operation);
    let table = salvage.tables.iter().find(|table| table.table == "public.orders").unwrap();
    let count = |kind: &str| wanted.iter().filter(|line| line.starts_with(kind)).count() as u64;
    let counts = (count("inserted"), count("updated"), count("deleted"));
    assert_eq!((table.inserted, table.updated, table.deleted), counts);
    assert!(counts.0 > 0 && counts.1 > 0, "somebody wrote: {counts:?}");
    let left: Vec<String> = fs::read_dir(world.state().salvage(&operation.id))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".was") || name.starts_with("late.") || name == "ahead.json")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
