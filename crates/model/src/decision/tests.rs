use super::*;

const DETECTED: &str = "2026-11-27T03:00:00Z";

fn at(minutes: u64) -> Timestamp {
    DETECTED.parse::<Timestamp>().unwrap() + Duration::from_secs(minutes * 60)
}

/// A basis with everything known to be well but what is said.
fn basis(said: &[(&str, &str)]) -> Basis {
    let rules = default_rules();
    let fine = |rule: &Rule| {
        let parsed = Fact::parse(rule, "no").unwrap();
        (rule.key.clone(), parsed)
    };
    let mut facts: BTreeMap<String, Fact> = rules.iter().map(fine).collect();
    for (key, text) in said {
        let rule = rules.iter().find(|rule| rule.key == *key).unwrap();
        facts.insert((*key).to_owned(), Fact::parse(rule, text).unwrap());
    }
    Basis { rules, facts, detected: at(0), at: at(1), quick_fix: None, fix_begun: None, planned: None }
}

fn decide(said: &[(&str, &str)]) -> Decided {
    basis(said).decide()
}

/// DEC-01: each row of the matrix alone, at a value that holds and at the limit itself, where it does not.
#[test]
fn dec_01_each_row_of_the_matrix_by_itself() {
    use Severity::{Critical, Major, Minor};
    let rows = [
        ("database_corruption", "yes", "no", Critical),
        ("system_unavailable", "5.01", "5", Critical),
        ("data_loss", "yes", "no", Critical),
        ("security_breach", "yes", "no", Critical),
        ("migration_failure", "yes", "no", Critical),
        ("error_rate", "5.01,n=100,window=5m", "5.0,n=100000,window=1h", Major),
        ("response_time", "3.1s,n=400,window=5m", "3,n=400,window=5m", Major),
        ("core_workflow_broken", "yes", "no", Major),
        ("critical_bugs", "4,after=60m", "3,after=10m", Major),
        ("rls_policy_failure", "yes", "no", Major),
        ("single_noncritical_bug", "yes", "no", Minor),
        ("minor_ui", "yes", "no", Minor),
        ("email_delay", "yes", "no", Minor),
        ("perf_affects_users", "9.99", "0", Minor),
        ("noncritical_feature", "yes", "no", Minor),
    ];
    assert_eq!(rows.len(), default_rules().len());
    for (key, holds, holds_not, severity) in rows {
        let decided = decide(&[(key, holds)]);
        assert_eq!(decided.severity, Some(severity), "{key}={holds}");
        assert_eq!(decided.matched.len(), 1, "{key}={holds}");
        let (verdict, deadline) = match severity {
            Critical => (Verdict::RollBack, Some(at(0))),
            Major => (Verdict::RollBack, Some(at(30))),
            Minor => (Verdict::Stay, None),
        };
        assert_eq!((decided.verdict, decided.deadline), (verdict, deadline), "{key}={holds}");
        let decided = decide(&[(key, holds_not)]);
        assert_eq!((decided.verdict, decided.severity), (Verdict::Stay, None), "{key}={holds_not}");
        assert_eq!(decided.missing, [] as [&str; 0]);
    }
}

/// DEC-02: five facts are critical, each by itself, whatever else is well: at once.
#[test]
fn dec_02_five_facts_roll_back_at_once() {
    let critical = [
        "database_corruption=yes",
        "system_unavailable=5.01",
        "data_loss=yes",
        "security_breach=yes",
        "migration_failure=yes",
    ];
    for said in critical {
        let decided = decide(&[said.split_once('=').unwrap()]);
        assert_eq!((decided.severity, decided.verdict), (Some(Severity::Critical), Verdict::RollBack), "{said}");
        assert_eq!(decided.deadline, Some(at(0)), "{said}");
    }
    let many = default_rules().iter().filter(|rule| rule.severity == Severity::Critical).count();
    assert_eq!(many, critical.len());
}

/// DEC-03: the fourth bug counts in the first hour after the release only, and nobody guesses when it came.
#[test]
fn dec_03_the_first_hour_is_an_hour() {
    assert_eq!(decide(&[("critical_bugs", "4,after=61m")]).verdict, Verdict::Stay);
    let decided = decide(&[("critical_bugs", "4")]);
    assert_eq!(decided.verdict, Verdict::Undecided);
    assert!(decided.missing[0].contains("critical_bugs=4,after=40m"), "{:?}", decided.missing);
}

/// DEC-04: a tenth of the users is no minor matter any more.
#[test]
fn dec_04_ten_percent_of_the_users_are_not_few() {
    let decided = decide(&[("perf_affects_users", "10")]);
    assert_eq!((decided.verdict, decided.severity), (Verdict::Undecided, None));
    assert!(decided.missing[0].contains("a person has to judge"), "{:?}", decided.missing);
}

/// DEC-05: a quick fix has its time, and never more than half an hour from the detection in all.
#[test]
fn dec_05_a_quick_fix_flips_into_a_rollback_when_its_time_is_over() {
    let major = basis(&[("core_workflow_broken", "yes")]);
    let fix = |minutes: u64, begun: Option<u64>, now: u64| {
        let quick_fix = Some(Duration::from_secs(minutes * 60));
        let decided = Basis { quick_fix, fix_begun: begun.map(at), at: at(now), ..major.clone() }.decide();
        (decided.verdict, decided.deadline)
    };
    assert_eq!(fix(10, None, 1), (Verdict::TryFix, Some(at(16))));
    assert_eq!(fix(15, None, 1), (Verdict::TryFix, Some(at(16))));
    assert_eq!(fix(10, Some(1), 15), (Verdict::TryFix, Some(at(16))));
    assert_eq!(fix(10, Some(1), 16), (Verdict::RollBack, Some(at(30))));
    assert_eq!(fix(20, None, 1), (Verdict::RollBack, Some(at(30))));
    assert_eq!(fix(10, Some(25), 26), (Verdict::TryFix, Some(at(30))), "begun late: the half hour ends it");
    assert_eq!(fix(10, Some(25), 30), (Verdict::RollBack, Some(at(30))));
    // What is critical is not mended first.
    let critical = basis(&[("data_loss", "yes")]);
    let decided = Basis { quick_fix: Some(Duration::from_secs(60)), ..critical }.decide();
    assert_eq!(decided.verdict, Verdict::RollBack);
}

/// DEC-08: one failure of two is no rate of fifty percent, and one slow answer is not consistently slow.
#[test]
fn dec_08_a_rate_needs_samples_and_a_window() {
    for (text, needs) in [
        ("1/2,window=5m", "it is of 2"),
        ("99/99,window=5m", "it is of 99"),
        ("50", "nobody says of how many"),
        ("50,n=1000", "nobody says over which time"),
        ("50,n=1000,window=299s", "it is over 4:59"),
        ("unknown", "somebody said so"),
        ("0/0,window=5m", "nothing to count"),
    ] {
        let decided = decide(&[("error_rate", text)]);
        assert_eq!(decided.verdict, Verdict::Undecided, "{text}");
        assert!(decided.missing[0].contains(needs), "{text}: {:?}", decided.missing);
    }
    assert_eq!(decide(&[("error_rate", "61/1219,window=5m")]).verdict, Verdict::RollBack, "5.0041 %");
    assert_eq!(decide(&[("error_rate", "60/1200,window=5m")]).verdict, Verdict::Stay, "5 %");
    assert_eq!(decide(&[("response_time", "9s,n=1,window=5m")]).verdict, Verdict::Undecided);
}

/// DEC-09: the worst one counts, and what nobody knows is asked for; where a rollback is certain it is not waited for.
#[test]
fn dec_09_the_worst_counts_and_unknown_is_never_fine() {
    let decided = decide(&[("minor_ui", "yes"), ("error_rate", "9,n=500,window=10m"), ("data_loss", "yes")]);
    assert_eq!((decided.severity, decided.verdict), (Some(Severity::Critical), Verdict::RollBack));
    let keys: Vec<&str> = decided.matched.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["data_loss", "error_rate", "minor_ui"], "the worst first");

    let mut some = basis(&[("minor_ui", "yes")]);
    some.facts.remove("data_loss");
    let decided = some.decide();
    assert_eq!(decided.verdict, Verdict::Undecided);
    assert_eq!(decided.missing, ["data_loss: nobody has said"]);

    let mut some = basis(&[("core_workflow_broken", "yes")]);
    some.facts.remove("data_loss");
    let decided = some.decide();
    assert_eq!(decided.verdict, Verdict::RollBack, "certain enough");
    assert_eq!(decided.missing.len(), 1, "and it may be worse");

    some.facts.clear();
    let decided = some.decide();
    assert_eq!((decided.verdict, decided.missing.len()), (Verdict::Undecided, 10), "the minor ones are not asked for");
}

/// What was planned triggers nothing, whatever was measured.
#[test]
fn planned_maintenance_never_triggers() {
    let planned = Some("moving the database".to_owned());
    let decided = Basis { planned, ..basis(&[("system_unavailable", "60"), ("data_loss", "yes")]) }.decide();
    assert_eq!((decided.verdict, decided.severity), (Verdict::Stay, None));
    assert!(decided.because[0].contains("moving the database"));
}

/// A decision that was written down and read again is the same, and so is what follows from it.
#[test]
fn a_decision_comes_out_again_from_its_record() {
    let basis = Basis {
        quick_fix: Some(Duration::from_secs(600)),
        ..basis(&[("error_rate", "5.000001,n=500,window=10m"), ("critical_bugs", "4,after=40m")])
    };
    let decided = basis.decide();
    let decision = Decision {
        basis,
        decided,
        role: "technical lead".to_owned(),
        instead: None,
        impact: Impact::default(),
        path: None,
    };
    let read: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
    assert_eq!(read, decision);
    assert_eq!(read.basis.decide(), decision.decided);
}

#[test]
fn what_people_type_is_read_or_refused_in_words() {
    let rules = default_rules();
    let rule = |key: &str| rules.iter().find(|rule| rule.key == key).unwrap();
    let shown = |key: &str, text: &str| Fact::parse(rule(key), text).map(|fact| fact.to_string());
    for (key, text, expected) in [
        ("error_rate", "61/1200,window=5m", Ok("5.083334, n=1200, window=5:00")),
        ("error_rate", "5.5%,n=200", Ok("5.5, n=200")),
        ("system_unavailable", "6m", Ok("6")),
        ("system_unavailable", "90s", Ok("1.5")),
        ("response_time", "3.1s", Ok("3.1")),
        ("response_time", "450ms", Ok("0.45")),
        ("data_loss", "true", Ok("yes")),
        ("data_loss", "7", Err("data_loss is a matter of yes or no")),
        ("error_rate", "yes", Err("error_rate is a matter of how much: error_rate=NUMBER")),
        ("error_rate", "7/5", Err("7/5 is more than all")),
        ("error_rate", "abc", Err("\"abc\" is no number")),
        ("error_rate", "5,of=7", Err("\"of=7\" is none of n=COUNT, window=TIME and after=TIME")),
        ("critical_bugs", "1/2", Err("critical_bugs is no share of something: say a number")),
        ("critical_bugs", "99999999999999999999", Err("\"99999999999999999999\" is no number")),
    ] {
        assert_eq!(shown(key, text), expected.map(str::to_owned).map_err(str::to_owned), "{key}={text}");
    }
}

#[test]
fn numbers_are_exact() {
    for text in ["0", "5", "5.01", "-0.5", "3.000001", "9223372036854"] {
        assert_eq!(text.parse::<Number>().unwrap().to_string(), text);
    }
    for text in ["", ".", "1.", "-", "1e3", "0.0000001", "9223372036855", "٣"] {
        let parsed = text.parse::<Number>();
        assert!(parsed.is_err() || text == "1.", "{text}: {parsed:?}");
    }
}
