//! Loans of addresses: who may make them, and that both sides know of them after whatever comes.

use std::collections::{BTreeMap, BTreeSet};

use lanmesh_ipam::AddrRange;
use tokio::task::JoinHandle;

use super::*;
use crate::model::{Loan, LoanNumber, NetworkId, NodeId};

fn range(text: &str) -> AddrRange {
    text.parse().unwrap()
}

/// Answers what others ask of a node, as its agent would: one range, or none.
fn agent_of(cluster: &Cluster, network: NetworkId, range: Option<AddrRange>) -> JoinHandle<()> {
    let (cluster, mut requests) = (cluster.clone(), cluster.loan_requests().expect("nobody took them"));
    tokio::spawn(async move {
        while let Some(LoanRequest { from, wish }) = requests.recv().await {
            match wish {
                LoanWish::Lend { number, answer, .. } => {
                    let lent = match range {
                        Some(range) => cluster.lend(number, Loan { network, range, to: from }).await,
                        None => Err(ClusterError::Stopped),
                    };
                    let _ = answer.send(lent.map(|loan| loan.range).map_err(|error| error.to_string()));
                }
                LoanWish::Remember { number, network, range, answer } => {
                    let known = cluster.lend(number, Loan { network, range, to: from }).await;
                    let _ = answer.send(known.is_ok());
                }
                LoanWish::Borrowed(answer) => {
                    let loan = Loan { network, range: "10.10.0.21".parse().unwrap(), to: cluster.me() };
                    let _ = answer.send(BTreeMap::from([(77, loan)]));
                }
            }
        }
    })
}

/// Stops a node and the agent that has it.
async fn stop(cluster: Cluster, agent: JoinHandle<()>) {
    agent.abort();
    let _ = agent.await;
    cluster.shutdown().await;
}

fn lent_to(view: &ClusterView, lender: NodeId, to: NodeId) -> BTreeMap<LoanNumber, AddrRange> {
    let loans = view.loans.get(&lender).map(|loans| (**loans).clone()).unwrap_or_default();
    loans.into_iter().filter(|(_, loan)| loan.to == to).map(|(number, loan)| (number, loan.range)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loan_is_known_on_both_sides_survives_the_lender_and_ends_on_the_borrowers_word_alone() {
    let place = Place::new();
    let n1 = place.create().await;
    let (n2, n3) = (place.join(2, &n1).await, place.join(3, &n1).await);
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let spec = n1.create_network(network("a", 1, 1)).await.unwrap();
    let (net, subnet) = (spec.id, spec.subnets[0]);
    for n in [&n2, &n3] {
        until(n, "the network", |view| view.networks.contains_key(&net)).await;
    }
    // The last of 15 blocks of 16, which is no node's.
    let lent = range("10.10.0.226-10.10.0.229");
    let agent = agent_of(&n1, net, Some(lent));
    assert_eq!(n2.ask_loan(n1.me(), 5, (net, subnet), 4).await, Ok(lent));
    assert_eq!(n2.ask_loan(n1.me(), 5, (net, subnet), 4).await, Ok(lent), "the same again");
    let why = n3.ask_loan(n1.me(), 5, (net, subnet), 4).await.unwrap_err();
    assert!(why.contains("number"), "{why}");
    let why = n3.ask_loan(n1.me(), 6, (net, subnet), 4).await.unwrap_err();
    assert!(why.contains("lent already"), "{why}");
    for n in [&n2, &n3] {
        until(n, "the loan", |view| lent_to(view, n1.me(), n2.me()) == [(5, lent)].into()).await;
    }
    let held = n3.ask_loans_held(n1.me()).await.unwrap();
    assert_eq!(held.borrowed.keys().collect::<Vec<_>>(), [&77]);
    assert_eq!(held.ledger, n2.ask_loans_held(n1.me()).await.unwrap().ledger);

    let me = n1.me();
    stop(n1, agent).await;
    let n1 = place.resume(1, Initial::default()).await;
    assert_eq!(lent_to(&n1.view().borrow(), me, n2.me()).len(), 1, "it is not durable");
    let agent = agent_of(&n1, net, None);
    all_see_each_other(&[&n1, &n2, &n3]).await;
    assert!(n3.give_back(me, 5).await, "there is none of its, and that is no error");
    assert_eq!(lent_to(&n1.view().borrow(), me, n2.me()).len(), 1, "another's word ended it");
    assert!(n2.give_back(me, 5).await && n2.give_back(me, 5).await);
    for n in [&n1, &n2, &n3] {
        until(n, "the end of the loan", |view| lent_to(view, me, n2.me()).is_empty()).await;
    }
    let loan = Loan { network: net, range: lent, to: n2.me() };
    assert!(n2.remind(me, 6, &loan).await, "it has forgotten, and knows again");
    assert!(!n3.remind(me, 7, &loan).await, "a part of it is lent already");
    assert_eq!(lent_to(&n1.view().borrow(), me, n2.me()), [(6, lent)].into());
    // Of less, on the borrower's word; and never of more again.
    let less = Loan { range: range("10.10.0.227-10.10.0.228"), ..loan };
    assert!(
        n3.narrow(me, 6, &less).await && n2.narrow(me, 99, &less).await,
        "there is none of its, and that is no error"
    );
    assert_eq!(lent_to(&n1.view().borrow(), me, n2.me()), [(6, lent)].into());
    assert!(n2.narrow(me, 6, &less).await && n2.narrow(me, 6, &loan).await && n2.remind(me, 6, &loan).await);
    until(&n2, "less is lent", |view| lent_to(view, me, n2.me()) == [(6, less.range)].into()).await;
    assert!(n2.give_back(me, 6).await);
    stop(n1, agent).await;
    let n1 = place.resume(1, Initial::default()).await;
    assert!(n1.view().borrow().loans.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_lends_what_is_its_own_and_no_index_is_given_whose_block_is_lent() {
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let spec = n1.create_network(network("a", 1, 1)).await.unwrap();
    until(&n2, "the network", |view| view.networks.contains_key(&spec.id)).await;
    let loan = |text: &str, to: &Cluster| Loan { network: spec.id, range: range(text), to: to.me() };
    // .2 to .17 is the block of the index 0, .18 to .33 that of 1, .34 to .49 that of 2, .50 on that of 3.
    for (lender, text, why) in [
        (&n2, "10.10.0.2-10.10.0.3", "another node's"),
        (&n2, "10.10.0.34", "another node's"),
        (&n1, "10.10.0.20", "another node's"),
        (&n1, "10.10.0.16-10.10.0.18", "another node's"),
        (&n1, "10.10.0.1", "no block"),
        (&n1, "10.10.0.250", "no block"),
    ] {
        let refused = lender.lend(1, loan(text, if lender.me() == n1.me() { &n2 } else { &n1 })).await;
        let refused = refused.expect_err(text).to_string();
        assert!(refused.contains(why), "{text}: {refused}");
    }
    n2.lend(2, loan("10.10.0.30-10.10.0.33", &n1)).await.unwrap();
    n1.lend(3, loan("10.10.0.34-10.10.0.37", &n2)).await.unwrap();
    let stranger = Loan { to: NodeId::random(), ..loan("10.10.0.60", &n1) };
    assert!(matches!(n1.lend(4, stranger).await, Err(ClusterError::NoSuchNode(_))));

    let token = n1.token_show().await.unwrap();
    let why = refused(JoinConfig { index: Some(NodeIndex(2)), ..place.joining(3, &token) }).await;
    assert!(why.contains("index 2") && why.contains("ipam plan"), "{why}");
    let n3 = place.join(3, &n1).await;
    let index = n3.view().borrow().myself().map(|me| me.index);
    assert_eq!(index, Some(NodeIndex(3)), "the lowest whose block is whole");
    // A removed node has nothing any more, and gets nothing.
    n1.remove_node(n2.me()).await.unwrap();
    let again = loan("10.10.0.230", &n2);
    assert!(matches!(n1.lend(5, again).await, Err(ClusterError::NoSuchNode(_))));
    // What it had lent to others the manager has lent now.
    n1.take_back(BTreeSet::from([3, 99])).await.unwrap();
    assert_eq!(lent_to(&n1.view().borrow(), n1.me(), n1.me()), [(2, range("10.10.0.30-10.10.0.33"))].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_block_of_a_node_that_is_gone_is_lent_and_its_index_given_once_all_have_said_what_they_have() {
    let place = Place::new();
    let n1 = place.create().await;
    let (n2, n3) = (place.join(2, &n1).await, place.join(3, &n1).await);
    all_see_each_other(&[&n1, &n2, &n3]).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap().id;
    until(&n3, "the network", |view| view.networks.contains_key(&net)).await;
    assert_eq!(n1.owned_blocks().await.unwrap(), Some([0, 1, 2].into()));
    assert!(n1.clear_blocks().await.unwrap().is_empty(), "there is nothing to ask");
    // What n3 says that it has, of the block of the index 1 and of nobody that the others have heard of, is n1's to lend.
    let (agent, other) = (agent_of(&n1, net, None), agent_of(&n3, net, None));
    n2.shutdown().await;
    n1.remove_node(n2.me()).await.unwrap();
    assert_eq!(n1.owned_blocks().await.unwrap(), Some([0, 1, 2].into()), "before anybody was asked");
    let of_removed = Loan { network: net, range: range("10.10.0.18-10.10.0.20"), to: n1.me() };
    assert!(n1.lend(6, of_removed).await.is_err());
    n3.shutdown().await;
    other.abort();
    let _ = other.await;
    assert_eq!(n1.clear_blocks().await.unwrap(), [n3.me()].into(), "it cannot be asked");
    assert!(n1.lend(6, of_removed).await.is_err());
    drop(n3);

    let n3 = place.resume(3, Initial::default()).await;
    let other = agent_of(&n3, net, None);
    until(&n1, "it is back", |view| is_alive(view, 3)).await;
    let begun = Instant::now();
    while !n1.clear_blocks().await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not hear of the removal");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(n1.owned_blocks().await.unwrap(), Some([0, 2].into()));
    // Both agents say that they have 10.10.0.21 under one number: whoever is asked, it is lent once.
    let inherited = n1.view().borrow().loans[&n1.me()].clone();
    assert_eq!(inherited.keys().collect::<Vec<_>>(), [&77]);
    n1.lend(6, of_removed).await.unwrap();
    let place_of = |cluster: &Cluster| cluster.view().borrow().myself().map(|me| me.index.0);
    let n4 = place.join(4, &n1).await;
    assert_eq!(place_of(&n4), Some(3), "something of the block of 1 is lent");
    n1.take_back([6, 77].into()).await.unwrap();
    let n5 = place.join(5, &n1).await;
    assert_eq!(place_of(&n5), Some(1));
    assert!(n1.lend(7, of_removed).await.is_err(), "it is another node's now");
    stop(n1, agent).await;
    let n1 = place.resume(1, Initial::default()).await;
    assert_eq!(
        n1.owned_blocks().await.unwrap(),
        Some([0, 1, 2, 3].into()),
        "what was learned is not durable"
    );
    other.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_managers_role_over_lends_of_nobodys_blocks_once_the_one_before_has_said_what_it_lent()
{
    let place = Place::new();
    let n1 = place.create().await;
    let n2 = place.join(2, &n1).await;
    all_see_each_other(&[&n1, &n2]).await;
    let net = n1.create_network(network("a", 1, 1)).await.unwrap().id;
    until(&n2, "the network", |view| view.networks.contains_key(&net)).await;
    let (one, other) = (agent_of(&n1, net, None), agent_of(&n2, net, None));
    let loan = Loan { network: net, range: range("10.10.0.230-10.10.0.231"), to: n1.me() };
    n1.lend(1, loan).await.unwrap();
    n2.recover(true).await.unwrap();
    assert_eq!(n2.owned_blocks().await.unwrap(), None);
    let next = Loan { range: range("10.10.0.232"), ..loan };
    assert!(n2.lend(2, next).await.is_err());
    let begun = Instant::now();
    while !n2.clear_blocks().await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the one before does not hear of it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(n2.owned_blocks().await.unwrap(), Some([0, 1].into()));
    n2.lend(2, next).await.unwrap();
    assert!(
        n1.lend(3, Loan { range: range("10.10.0.233"), ..loan }).await.is_err(),
        "it is the manager no more"
    );
    [one, other].iter().for_each(JoinHandle::abort);
}
