//! Which event causes a pass, over what, and when.

use super::*;
use crate::model::NetworkId;

const NET: NetworkId = NetworkId::from_bytes([1; 8]);
const OTHER: NetworkId = NetworkId::from_bytes([2; 8]);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One whose first pass, at 0, went well.
fn begun() -> Schedule {
    let mut schedule = Schedule::new(ms(0));
    assert_eq!(schedule.take(ms(0)), Some(Task::FollowUnderlay));
    assert_eq!(schedule.take(ms(0)), Some(Task::Pass { full: true, heard: BTreeSet::new() }));
    assert_eq!(schedule.take(ms(0)), None);
    schedule.event(Event::Passed(Passed::default()), ms(0));
    schedule
}

/// What is done from `from` on, and when, until `until`; each pass ends at once, as `passed` says.
fn run(schedule: &mut Schedule, from: u64, until: u64, passed: Passed) -> Vec<(u64, Task)> {
    let mut done = Vec::new();
    let mut now = ms(from);
    loop {
        now = now.max(schedule.due());
        if now > ms(until) {
            return done;
        }
        while let Some(task) = schedule.take(now) {
            if matches!(task, Task::Pass { .. }) {
                schedule.event(Event::Passed(passed), now);
            }
            done.push((now.as_millis() as u64, task));
        }
    }
}

fn pass(full: bool, heard: &[KernelEvent]) -> Task {
    Task::Pass { full, heard: heard.iter().cloned().collect() }
}

#[test]
fn without_news_everything_is_looked_at_every_so_often_and_the_underlay_with_it() {
    let done = run(&mut begun(), 1, 61_000, Passed::default());
    let both = |at| [(at, Task::FollowUnderlay), (at, pass(true, &[]))];
    assert_eq!(done, [both(25_000), both(50_000)].concat());
}

#[test]
fn a_burst_of_news_is_one_pass_which_looks_at_nothing_else() {
    let mut schedule = begun();
    for at in 100..103 {
        schedule.event(Event::World, ms(at));
    }
    assert_eq!(run(&mut schedule, 103, 24_000, Passed::default()), [(103, pass(false, &[]))]);
}

#[test]
fn what_the_kernel_says_is_handed_to_the_pass_that_it_causes_and_to_no_other() {
    let mut schedule = begun();
    let gone = KernelEvent::PortGone { network: NET, name: "a".parse().unwrap() };
    let changed = KernelEvent::LinkChanged { network: OTHER };
    schedule.event(Event::Kernel(changed.clone()), ms(100));
    assert_eq!(schedule.due(), ms(300), "our own passes make some of these");
    schedule.event(Event::Kernel(gone.clone()), ms(110));
    schedule.event(Event::Kernel(gone.clone()), ms(111));
    let done = run(&mut schedule, 111, 24_000, Passed::default());
    assert_eq!(done, [(113, pass(false, &[changed, gone]))]);
}

#[test]
fn where_news_were_lost_everything_is_looked_at() {
    let mut schedule = begun();
    schedule.event(Event::Kernel(KernelEvent::Lost), ms(100));
    let all = |at| [(at, Task::FollowUnderlay), (at, pass(true, &[]))];
    assert_eq!(run(&mut schedule, 100, 24_000, Passed::default()), all(100));
    schedule.event(Event::Deaf, ms(1000));
    assert_eq!(run(&mut schedule, 1000, 24_000, Passed::default()), all(1500));
}

#[test]
fn so_much_news_that_it_need_not_be_told_apart_is_a_reason_to_look_at_everything() {
    let mut schedule = begun();
    for n in 0..=HEARD_MAX as u64 {
        let network = NetworkId::from_bytes(n.to_be_bytes());
        schedule.event(Event::Kernel(KernelEvent::LinkChanged { network }), ms(100));
    }
    assert!(schedule.heard.is_empty());
    let done = run(&mut schedule, 101, 24_000, Passed::default());
    assert_eq!(done, [(300, Task::FollowUnderlay), (300, pass(true, &[]))]);
}

#[test]
fn what_failed_is_tried_again_after_waits_that_double_and_begin_anew_when_it_went_well() {
    let mut schedule = begun();
    schedule.event(Event::World, ms(0));
    let behind = Passed { behind: true, ..Passed::default() };
    let at: Vec<u64> = run(&mut schedule, 0, 16_000, behind).iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [3, 503, 1503, 3503, 7503, 15_503]);
    schedule.event(Event::Passed(Passed::default()), ms(16_000));
    schedule.event(Event::World, ms(16_000));
    let at: Vec<u64> = run(&mut schedule, 16_000, 17_000, behind).iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [16_003, 16_503]);
}

#[test]
fn a_failure_never_waits_longer_than_the_period() {
    let mut schedule = begun();
    let behind = Passed { behind: true, ..Passed::default() };
    schedule.event(Event::World, ms(0));
    let done = run(&mut schedule, 0, 600_000, behind);
    let times: Vec<u64> =
        done.iter().filter(|(_, task)| *task != Task::FollowUnderlay).map(|(at, _)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 25_000), "{times:?}");
}

#[test]
fn a_pass_says_when_the_next_is_due_and_when_everything_is_to_be_looked_at() {
    let mut schedule = begun();
    let passed = Passed { wake: Some(ms(250)), look: Some(ms(1000)), behind: false };
    schedule.event(Event::Passed(passed), ms(1));
    let done = run(&mut schedule, 1, 24_000, Passed::default());
    assert_eq!(done, [(250, pass(false, &[])), (1000, Task::FollowUnderlay), (1000, pass(true, &[]))]);
}

#[test]
fn an_address_that_comes_and_goes_is_looked_at_once_it_stays_away_and_an_mtu_is_told_at_once() {
    let mut schedule = begun();
    schedule.event(Event::Kernel(KernelEvent::AddressesChanged), ms(100));
    schedule.event(Event::Kernel(KernelEvent::AddressesChanged), ms(400));
    assert_eq!(schedule.take(ms(401)), None);
    let done = run(&mut schedule, 401, 1000, Passed::default());
    assert_eq!(done, [(600, Task::FollowUnderlay)]);
    schedule.event(Event::Kernel(KernelEvent::UnderlayChanged), ms(1401));
    assert_eq!(run(&mut schedule, 1401, 24_000, Passed::default()), [(1401, Task::FollowUnderlay)]);
}

#[test]
fn where_other_nodes_are_there_the_ways_to_them_are_looked_at_before_the_pass() {
    let mut schedule = begun();
    schedule.event(Event::Nodes, ms(100));
    let done = run(&mut schedule, 101, 24_000, Passed::default());
    assert_eq!(done, [(103, Task::FollowUnderlay), (103, pass(false, &[]))]);
}

#[test]
fn rules_that_others_changed_are_looked_at_once_for_several_changes() {
    let mut schedule = begun();
    let changed = |network| KernelEvent::RulesChanged { network };
    schedule.event(Event::Kernel(changed(None)), ms(100));
    schedule.event(Event::Kernel(changed(Some(NET))), ms(150));
    schedule.event(Event::Kernel(changed(None)), ms(160));
    let done = run(&mut schedule, 160, 24_000, Passed::default());
    assert_eq!(done, [(200, pass(false, &[changed(None), changed(Some(NET))]))]);
}
