//! The longest way back, step by step: at each one it fails, dies before and after it, and is done twice. An abort before the point of no return
//! ends where it began, everything else as if nothing had happened. In four parts, since each run has a server of its own.

use lifeboat_model::{Profile, Resource, ResourceKind, ResourceName};
use lifeboat_testkit::{
    World,
    delivered::back,
    prove::{Case, prove_ways_out},
};

use super::{phase_one, phase_two_of};

/// Phase two of the shop, with variables that it changed: those of phase one are in its backup, and come back with it.
pub fn with_variables() -> World {
    let mut world = phase_one();
    std::fs::write(world.app(".env"), "THEME=plain\nKEY=first\n").unwrap();
    let kind = ResourceKind::Env { path: world.app(".env") };
    world.setup.resources.push(Resource::plain(ResourceName::new("env").unwrap(), kind));
    let world = phase_two_of(world);
    std::fs::write(world.app(".env"), "THEME=dark\nKEY=first\nPHASE_2=on\n").unwrap();
    world
}

fn part(part: usize) {
    let (world, request) = (with_variables(), back(Some("phase-1"), Some(Profile::Full)));
    let plan = world.engine().plan(&request).unwrap();
    let ids: Vec<String> = plan.steps().map(|step| step.id.to_string()).collect();
    assert!(ids.len() > 15 && plan.pivot().is_some(), "{ids:?}");
    assert!(
        ids.iter().any(|id| id.starts_with("variables.")) && ids.iter().any(|id| id.starts_with("look.")),
        "{ids:?}"
    );
    let mine: Vec<&String> = ids.iter().skip(part).step_by(4).collect();
    let case = Case { world: &world, request, undo: false };
    let tried = prove_ways_out(&case, |step| mine.iter().any(|mine| *mine == step));
    assert!(tried.as_before > 0 && tried.as_meant > 0 && tried.runs == 1 + 6 * mine.len(), "{tried:?}");
}

#[test]
fn phs_07_each_step_of_a_full_rollback_leads_where_it_is_said_to_1() {
    part(0);
}

#[test]
fn phs_07_each_step_of_a_full_rollback_leads_where_it_is_said_to_2() {
    part(1);
}

#[test]
fn phs_07_each_step_of_a_full_rollback_leads_where_it_is_said_to_3() {
    part(2);
}

#[test]
fn phs_07_each_step_of_a_full_rollback_leads_where_it_is_said_to_4() {
    part(3);
}
