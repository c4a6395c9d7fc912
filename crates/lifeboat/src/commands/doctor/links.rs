//! What is to be said about mirrors: whether the cloud answers and its tables fit, whether changes are noted, what waits.

use lifeboat_engine::Mirror;
use lifeboat_io::{Io, Stop};
use lifeboat_model::{
    Failure, ResourceName, Tri,
    sync::{Reach, SyncStatus, Tier},
};

use super::Finding;
use crate::{settings::Resolved, wire};

/// Looks at a mirror.
pub fn link(name: &ResourceName, resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let opened = wire::engine(resolved, io).and_then(|engine| engine.mirror(Some(name)));
    let looked = opened.and_then(|mirror| mirror.status().map(|status| (mirror, status)));
    let (mut mirror, status) = match looked {
        Ok(looked) => looked,
        Err(failure) => return vec![Finding::failure(name.as_str(), &failure).lost("nothing is mirrored")],
    };
    let mut findings = vec![noted(name, &status)];
    if mirror.said().local_only {
        findings.push(Finding::new(
            name.as_str(),
            Tri::Pass,
            "ENABLE_SUPABASE=false: no connection to the cloud is opened",
        ));
    } else {
        findings.push(cloud(name, &mut mirror));
        findings.extend(mirror.reach().map(|reach| rest(name, &reach)));
    }
    findings.push(queue(name, &status));
    if !status.unverified.is_empty() {
        let detail = format!("{} may differ from the cloud", status.unverified.join(", "));
        findings.push(
            Finding::new(name.as_str(), Tri::Unknown, detail).next("lifeboat sync check, then lifeboat sync resync"),
        );
    }
    findings
}

fn noted(name: &ResourceName, status: &SyncStatus) -> Finding {
    let name = name.as_str();
    match (status.attached, status.enabled) {
        (false, _) => Finding::new(name, Tri::Fail, "the file has no triggers: changes are not noted")
            .lost("the cloud follows no change")
            .next("lifeboat sync attach"),
        (true, true) => Finding::new(name, Tri::Pass, "changes are noted and delivered"),
        (true, false) => Finding::new(name, Tri::Pass, format!("changes are noted and held: {}", status.reason)),
    }
}

fn cloud(name: &ResourceName, mirror: &mut Mirror) -> Finding {
    let place = mirror.link().cloud.clone();
    let lost = |failure: &Failure| Finding::failure(name.as_str(), failure).lost("changes wait until it answers");
    match mirror.schema_drift(&Stop::default()) {
        Err(failure) => lost(&failure),
        Ok((unfit, missing)) if unfit.is_empty() => {
            let more = match missing {
                0 => "its tables hold what the file has".to_owned(),
                many => format!("{many} tables or columns are made with the next delivery"),
            };
            Finding::new(name.as_str(), Tri::Pass, format!("{place} answers; {more}"))
        }
        Ok((unfit, _)) => Finding::new(
            name.as_str(),
            Tri::Fail,
            format!("{place} answers; its tables do not fit: {}", unfit.join("; ")),
        )
        .lost("rows of these tables are set aside")
        .next("make them fit, or leave them out with tables in the link"),
    }
}

fn rest(name: &ResourceName, reach: &Reach) -> Finding {
    let name = format!("{name} over HTTP");
    match reach {
        Reach::Reachable => Finding::new(name, Tri::Pass, "SUPABASE_URL answers"),
        Reach::Unauthorised => Finding::new(name, Tri::Pass, "SUPABASE_URL answers; without a key it says no more"),
        Reach::Down { why } => Finding::new(name, Tri::Fail, format!("SUPABASE_URL does not answer: {why}"))
            .next("https://status.supabase.com; a project that was paused has to be woken there"),
    }
}

fn queue(name: &ResourceName, status: &SyncStatus) -> Finding {
    let (waiting, failed) = (status.queue.queue_size, status.queue.total_failed);
    let detail = format!("{waiting} changes wait, {failed} rows are set aside");
    match (status.queue.tier, failed) {
        (Tier::Normal | Tier::Watch, 0) => Finding::new(name.as_str(), Tri::Pass, detail),
        (Tier::Normal | Tier::Watch, _) => Finding::new(name.as_str(), Tri::Fail, detail)
            .lost("the cloud lacks these rows")
            .next("lifeboat sync queue list"),
        (Tier::Advise | Tier::Urge, _) => {
            Finding::new(name.as_str(), Tri::Fail, detail).next("lifeboat sync status says why")
        }
    }
}
