//! What something else changed in the kernel is put back and told; what is desired anew, or fails, is not.

use super::*;
use crate::plan::GuardStep;

fn told(bench: &mut Bench) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(happening) = bench.happenings.try_recv() {
        if let Happening::PutBack { steps } = happening {
            told.extend(steps);
        }
    }
    told
}

async fn full(bench: &Bench) {
    bench.reconciler.pass_due(true, &BTreeSet::new()).await;
}

#[tokio::test]
async fn whatever_something_else_took_away_is_put_back_and_told_once() {
    let mut bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.town.has(2, [endpoint("b", 20)]);
    bench.pass().await;
    bench.settle().await;
    assert_eq!((told(&mut bench), bench.reconciler.put_back()), (Vec::new(), None));

    let network = |observed: &mut crate::plan::Observed, change: fn(&mut crate::plan::ObservedNetwork)| {
        change(observed.networks.get_mut(&NET).unwrap());
    };
    type Fault = (&'static str, fn(&mut crate::plan::ObservedNetwork));
    let faults: [Fault; 4] = [
        ("endpoint a", |net| net.ports.values_mut().for_each(|port| port.ready = false)),
        ("endpoint a", |net| net.ports.values_mut().for_each(|port| port.addresses.clear())),
        ("put remote", |net| net.remotes.clear()),
        ("put bridge", |net| net.bridge.as_mut().unwrap().ready = false),
    ];
    for (i, (expected, change)) in faults.into_iter().enumerate() {
        bench.kernel.meddle(|observed, _| network(observed, change));
        full(&bench).await;
        let said = told(&mut bench);
        assert!(said.iter().any(|line| line.contains(expected)), "{expected}: {said:?}");
        let back = bench.reconciler.put_back().unwrap();
        assert!(back.times as usize == i + 1 && back.steps.contains(expected), "{back:?}");
        full(&bench).await;
        assert_eq!(told(&mut bench), Vec::<String>::new());
    }
    // While something else is desired too, what of it is new is told apart.
    bench.kernel.meddle(|observed, _| {
        network(observed, |net| net.ports.values_mut().for_each(|port| port.ready = false));
    });
    bench.town.has(2, [endpoint("b", 21)]);
    full(&bench).await;
    let said = told(&mut bench);
    assert!(said.len() == 1 && said[0].contains("endpoint a"), "{said:?}");
    Kernel::apply_underlay_guard(&bench.kernel, GuardStep::Delete).await.unwrap();
    full(&bench).await;
    assert_eq!(told(&mut bench).len(), 1);
}

#[tokio::test]
async fn what_is_desired_anew_and_what_failed_before_is_nobody_elses_doing() {
    let mut bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    // Another node has something; it fails, and works later.
    bench.kernel.fail("put remote");
    bench.town.has(2, [endpoint("b", 20)]);
    bench.pass().await;
    full(&bench).await;
    bench.kernel.recover();
    full(&bench).await;
    // Something more is attached, moves, and goes.
    bench.attach(&record("c", 12)).await.unwrap();
    full(&bench).await;
    bench.town.has(2, [endpoint("b", 21)]);
    full(&bench).await;
    bench.town.has(2, []);
    full(&bench).await;
    bench.is_right().await;
    assert_eq!((told(&mut bench), bench.reconciler.put_back()), (Vec::new(), None));
    // Nor is what an agent finds that starts.
    let mut bench = bench.restart();
    bench.kernel.meddle(|observed, _| observed.networks.clear());
    full(&bench).await;
    assert_eq!(told(&mut bench), Vec::<String>::new());
}

#[tokio::test]
async fn rules_that_somebody_else_changed_are_looked_at_where_that_was_and_nothing_else() {
    let mut bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.settle().await;
    let lose = |bench: &Bench| {
        bench.kernel.meddle(|observed, _| observed.networks.get_mut(&NET).unwrap().remotes.clear());
    };
    bench.town.has(2, [endpoint("b", 20)]);
    bench.pass().await;
    assert_eq!(told(&mut bench), Vec::<String>::new());
    lose(&bench);
    let heard = |network| BTreeSet::from([KernelEvent::RulesChanged { network }]);
    Kernel::apply_underlay_guard(&bench.kernel, GuardStep::Delete).await.unwrap();
    bench.reconciler.pass_due(false, &heard(None)).await;
    let said = told(&mut bench);
    assert!(said.len() == 1 && said[0].contains("guard"), "{said:?}");
    bench.reconciler.pass_due(false, &heard(Some(NET))).await;
    let said = told(&mut bench);
    assert!(!said.is_empty() && said.iter().all(|line| line.contains("put remote")), "{said:?}");
    bench.is_right().await;
}
