//! Lives of a shop, from seeds. A failing seed is printed; `LIFEBOAT_SIMULATION_SEED` replays one.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::collections::BTreeMap;

use lifeboat_testkit::simulation::{any_seed, live};

#[test]
fn simulation_of_lives_with_faults_ends_well() {
    let seeds: Vec<u64> = match std::env::var("LIFEBOAT_SIMULATION_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, 3, any_seed()],
    };
    let mut happened: BTreeMap<String, u64> = BTreeMap::new();
    for seed in &seeds {
        println!("seed {seed}");
        let life = live(*seed, 25);
        for (what, count) in life.happened.into_iter().chain(life.ended) {
            *happened.entry(what).or_default() += count;
        }
    }
    for (what, count) in &happened {
        println!("{count:6}  {what}");
    }
    if seeds.len() > 1 {
        for what in
            ["deaths", "restore", "backup", "resumed", "aborted", "done", "put back", "storage fails now and then"]
        {
            assert!(happened.contains_key(what), "no life had any \"{what}\": the simulation tries too little");
        }
    }
}
