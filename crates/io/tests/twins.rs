//! The twins do what the doors' contracts say, so that tests that use them prove something.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use lifeboat_io::{
    Clock, Env, Exec, ExecError, Invocation, Random, Stop,
    testing::{ManualClock, MapEnv, ScriptedExec, SeededRandom, twin_io},
};

#[test]
fn the_clock_moves_only_when_told_and_by_sleeping() {
    let clock = ManualClock::at("2026-11-20T12:00:00Z".parse().unwrap());
    clock.advance(Duration::from_secs(60));
    clock.sleep(Duration::from_millis(1500), &Stop::default()).unwrap();
    assert_eq!(clock.now().to_string(), "2026-11-20T12:01:01.5Z");
    assert_eq!(clock.elapsed(), Duration::from_millis(61_500));
    assert_eq!(clock.slept(), [Duration::from_millis(1500)]);
    clock.jump_to("2020-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(clock.elapsed(), Duration::from_millis(61_500), "a corrected clock does not move the other hand");
    let stop = Stop::default();
    stop.at_safe_point();
    assert!(clock.sleep(Duration::from_secs(1), &stop).is_ok(), "a polite request does not end a pause");
    stop.now();
    assert!(clock.sleep(Duration::from_secs(1), &stop).is_err());
    assert_eq!(clock.slept().len(), 2);
}

#[test]
fn chance_repeats_itself_from_its_seed() {
    let draw = |seed| {
        let random = SeededRandom::new(seed);
        let mut bytes = [0; 37];
        random.fill(&mut bytes);
        (bytes, random.bits(), random.below(10))
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1).0, draw(2).0);
    let random = SeededRandom::new(3);
    let happened = (0..10_000).filter(|_| random.happens(300)).count();
    assert!((2700..3300).contains(&happened), "{happened} of 10000");
    assert!(!(0..1000).any(|_| random.happens(0)) && (0..1000).all(|_| random.happens(1000)));
    assert_eq!(random.below(0), 0);
}

#[test]
fn programs_answer_from_their_script_and_others_do_not_exist() {
    let exec = ScriptedExec::new()
        .on("pg_dump", &["--version"], ScriptedExec::done("pg_dump (PostgreSQL) 16.1\n"))
        .on("pg_dump", &[], ScriptedExec::failed(1, "no such database"))
        .answer(|what, stdin| {
            (what.program.as_os_str() == "cat").then(|| ScriptedExec::done(stdin.unwrap_or_default()))
        });
    let run = |what: Invocation, stdin: Option<&[u8]>| exec.run(&what, stdin, &Stop::default());
    let program = |name: &str| Invocation::new(name, Duration::from_secs(1));
    assert!(run(program("/usr/bin/pg_dump").arg("--version"), None).unwrap().stdout_text().ends_with("16.1"));
    let failed = run(program("pg_dump").arg("shop"), None).unwrap();
    assert_eq!((failed.code, failed.stderr_text().as_str()), (1, "no such database"));
    assert_eq!(run(program("cat"), Some(b"words")).unwrap().stdout_text(), "words");
    assert!(run(program("psql"), None).unwrap_err().is_missing_program());
    let seen: Vec<String> = exec.seen().into_iter().map(|(what, _)| what.to_string()).collect();
    assert_eq!(seen, ["/usr/bin/pg_dump --version", "pg_dump shop", "cat", "psql"]);
    let stop = Stop::default();
    stop.now();
    assert!(matches!(exec.run(&program("cat"), None, &stop), Err(ExecError::Stopped { .. })));
}

#[test]
fn an_environment_is_what_it_was_made_of() {
    let env = MapEnv::new([("AWS_REGION", "eu-central-1")]);
    assert_eq!(env.var("AWS_REGION").unwrap(), "eu-central-1");
    assert_eq!(env.var("PATH"), None, "nothing comes in from outside");
    let io = twin_io();
    assert_eq!((io.env.user().as_str(), io.env.host().as_str()), ("tester", "twin"));
    assert_eq!(io.clock.now().to_string(), "2026-01-01T00:00:00Z");
}
